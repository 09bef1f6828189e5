"""Tensors of several processes made one: sums, means, the largest, the first process's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from facekit.machine.processes import world_size


def mean_over_processes(value: Tensor, least: float = 0.0) -> Tensor:
    """The total over all processes, at least `least`, divided by their number.

    Losses must be sums over what they normalise by, and this their normaliser: averaged gradients are then those of
    one process with the whole batch, however many pictures each process has of it.
    """
    value = value.detach().float()
    if dist.is_initialized():
        value = value.clone()
        dist.all_reduce(value)
    return value.clamp(min=least) / world_size()


class _Sum(torch.autograd.Function):
    """Every process's loss depends on every process's summand."""

    @staticmethod
    def forward(context: Any, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        return _Sum.forward(context, gradients[0])


def sum_over_processes(value: Tensor) -> Tensor:
    """The sum of all processes' values; gradients flow back to all of them."""
    return _Sum.apply(value) if dist.is_initialized() else value


def largest_over_processes(values: Sequence[float], device: torch.device) -> list[float]:
    """The largest of each value over all processes, every one of which must ask: what one has seen, all know."""
    if not dist.is_initialized():
        return list(values)
    largest = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    return largest.tolist()


def copy_from_first(tensors: Iterable[Tensor]) -> None:
    """Overwrites every process's tensors, in order, with those of rank 0; every one must call."""
    if dist.is_initialized():
        for tensor in tensors:
            dist.broadcast(tensor, 0)
