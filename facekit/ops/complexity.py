"""How large and how costly a network is, counted as the published tables count."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
# Operations an element beside the convolutions. The tables' counters (mmcv, ptflops) charge 2 for an affine batch
# norm and 1 for a ReLU (of the output) and for a pooling (of the input); additions, copies and resizing are free.
_ELEMENTWISE = {
    aten.native_batch_norm.default: 2,
    aten._native_batch_norm_legit_no_training.default: 2,
    aten.relu.default: 1,
    aten.relu_.default: 1,
    aten.hardtanh.default: 1,
    aten.hardtanh_.default: 1,
    aten.max_pool2d_with_indices.default: 1,
}


class _Counter(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.by_kind: dict[str, int] = defaultdict(int)

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func is aten.convolution.default:
            weight, bias = args[1], args[2]
            self.by_kind["convolution"] += out.numel() * math.prod(weight.shape[1:])
            self.by_kind["bias"] += 0 if bias is None else out.numel()
        elif func in _ELEMENTWISE:
            self.by_kind[func.overloadpacket.__name__] += args[0].numel() * _ELEMENTWISE[func]
        return out


def count_parameters(network: nn.Module) -> int:
    """Learnable parameters."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def count_macs(network: nn.Module, size_hw: tuple[int, int]) -> int:
    """Multiply-accumulates for one picture of that size, the tables' way; GFLOPs are 2e-9 times this."""
    was_training = network.training
    network.eval()
    parameter = next(network.parameters())
    with torch.no_grad(), _Counter() as counter:
        network(torch.zeros(1, 3, *size_hw, device=parameter.device, dtype=parameter.dtype))
    network.train(was_training)
    return sum(counter.by_kind.values())
