"""Several processes, as torchrun starts them, or one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

# The first process evaluates while the others wait: longer than the backends' own ten minutes allow.
TIMEOUT = timedelta(hours=2)


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def join_processes() -> torch.device:
    """Joins torchrun's group when this process was started by torchrun; returns the device that is ours."""
    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    device = torch.device("cuda", local_rank) if torch.cuda.is_available() else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if int(os.environ.get("WORLD_SIZE", 1)) > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
    return device


def leave_processes() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def wait_for_all() -> None:
    if dist.is_initialized():
        dist.barrier()


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


def gather_over_processes(value: Any) -> list[Any]:
    """Every process's value, in the order of their ranks; every one must call."""
    if not dist.is_initialized():
        return [value]
    values = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values
