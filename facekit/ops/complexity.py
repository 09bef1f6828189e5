"""How large and how costly a network is, counted as the published tables count."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

COUNTED = (
    "convolutions and linear layers with their biases, norms (2 an element if affine, else 1), ReLU and its leaky kin "
    "(1); the rest is free: sums, products, pooling, softmax, sigmoid, swish, resizing"
)

# The tables' counters (mmcv, ptflops) go by module class; the operators below are what these classes call. Neither
# charges hardswish, hardsigmoid, silu or sigmoid, nor what is no layer (additions, copies, resizing): these are free.
# Pooling is free too: the counters charge it as a layer, but YuNet's published figures come from functional pooling,
# and in the other networks it weighs under 0.3 %.
aten = torch.ops.aten
_NORMS = {aten.native_batch_norm, aten._native_batch_norm_legit_no_training, aten.native_group_norm}
_ONE_AN_INPUT_ELEMENT = {
    aten.relu, aten.relu_, aten.hardtanh, aten.hardtanh_,  # ReLU, ReLU6
    aten.leaky_relu, aten.leaky_relu_, aten._prelu_kernel, aten.elu, aten.elu_,
}  # fmt: skip


@dataclass(frozen=True)
class LayerCost:
    """What one module costs by itself, its submodules left out."""

    name: str  # path in the network; empty for the network itself
    kind: str  # class
    output_shape: tuple[int, ...]  # of its first call, without the batch; empty unless it returns one tensor
    parameters: int  # learnable; one that several modules share is its first module's
    macs: int  # of all its calls


def count_parameters(network: nn.Module) -> int:
    """Learnable parameters."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def count_macs(network: nn.Module, size_hw: tuple[int, int]) -> int:
    """Multiply-accumulates for one picture of that size, the tables' way; GFLOPs are 2e-9 times this."""
    return sum(_watch(network, size_hw).macs.values())


def layer_costs(network: nn.Module, size_hw: tuple[int, int]) -> list[LayerCost]:
    """The cost of one picture of that size, a row a layer, in the network's order; the rows sum to the totals.

    What a module with submodules does or owns itself (a functional ReLU, a bare parameter) is a row of its own.
    """
    watched = _watch(network, size_hw)
    rows = []
    seen: set[nn.Parameter] = set()
    for name, module in network.named_modules():
        own = {parameter for parameter in module.parameters(recurse=False) if parameter.requires_grad} - seen
        seen |= own
        is_busy_leaf = name in watched.macs and not any(module.children())
        if own or watched.macs[name] or is_busy_leaf:
            parameters = sum(parameter.numel() for parameter in own)
            shape = watched.output_shapes.get(name, ())
            rows.append(LayerCost(name, type(module).__name__, shape, parameters, watched.macs[name]))
    return rows


class _Watch(TorchDispatchMode):
    """Charges every operator to the innermost module that is running."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.macs: Counter[str] = Counter()  # also a 0 for a module that ran free operators
        self.output_shapes: dict[str, tuple[int, ...]] = {}
        self._names = {module: name for name, module in network.named_modules()}
        self._running = [""]

    def enter(self, module: nn.Module, _inputs: Any) -> None:
        self._running.append(self._names[module])

    def leave(self, _module: nn.Module, _inputs: Any, output: Any) -> None:
        name = self._running.pop()
        self.output_shapes.setdefault(name, tuple(output.shape[1:]) if isinstance(output, Tensor) else ())

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.macs[self._running[-1]] += _macs(func.overloadpacket, args, out)
        return out


def _macs(operator: Any, args: tuple[Any, ...], out: Any) -> int:
    if operator is aten.convolution:
        pictures, weight, bias, *_, transposed, _output_padding, _groups = args
        positions = pictures if transposed else out
        return int(positions.numel() * math.prod(weight.shape[1:]) + (0 if bias is None else out.numel()))
    if operator is aten.addmm:
        return int(out.numel() * (args[1].shape[1] + 1))
    if operator is aten.mm:
        return int(out.numel() * args[0].shape[1])
    if operator in _NORMS:
        return int(args[0].numel() * (1 if args[1] is None else 2))
    return int(args[0].numel()) if operator in _ONE_AN_INPUT_ELEMENT else 0


def _watch(network: nn.Module, size_hw: tuple[int, int]) -> _Watch:
    """One forward pass of a black picture in evaluation mode; the network is left as it was, also by an error."""
    like = next(network.parameters(), torch.empty(0))
    picture = torch.zeros(1, 3, *size_hw, device=like.device, dtype=like.dtype)
    modes = {module: module.training for module in network.modules()}
    watch = _Watch(network)
    hooks = [module.register_forward_pre_hook(watch.enter) for module in modes]
    hooks += [module.register_forward_hook(watch.leave) for module in modes]
    network.eval()
    try:
        with torch.no_grad(), watch:
            network(picture)
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in modes.items():
            module.training = training
    return watch
