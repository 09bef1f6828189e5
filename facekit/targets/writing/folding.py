"""Networks as plain convolutions, their batch norms folded in: what targets without batch norm are written from."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

Array = NDArray[np.float32]
Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class Convolution:
    """A convolution with its bias, and whether a ReLU follows; stride, dilation and groups are the architecture's."""

    name: str  # the module's
    weight: Array  # (out, in / groups, rows, columns)
    bias: Array  # (out,)
    relu: bool = False


def fold(name: str, conv: nn.Module, norm: nn.Module | None = None, relu: bool = False) -> Convolution:
    """The convolution that does what `conv` and the batch norm behind it do: w g / sqrt(v + e), (b - m) g / sqrt(v + e)
    + b' (Ioffe and Szegedy, 2015, section 3.1). Computed in double precision."""
    assert isinstance(conv, nn.Conv2d)
    weight = _double(conv.weight)
    bias = np.zeros(len(weight)) if conv.bias is None else _double(conv.bias)
    if norm is not None:
        assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None
        gain = _double(norm.weight) / np.sqrt(_double(norm.running_var) + norm.eps)
        weight = weight * gain[:, None, None, None]
        bias = (bias - _double(norm.running_mean)) * gain + _double(norm.bias)
    return Convolution(name, weight.astype(np.float32), bias.astype(np.float32), relu)


def folded(network: Network) -> Network:
    """A copy for inference without batch norms. Those right behind convolutions of their size are folded into them:
    ONNX's exporter does so too, after it has followed them for a third of its time. Others multiply and add: MNN 3.6
    computes a batch norm of three channels wrongly."""
    network = copy.deepcopy(network).eval()
    for parent in list(network.modules()):
        children = list(parent.named_children())
        for (name, conv), (norm_name, norm) in pairwise(children):
            if type(conv) is nn.Conv2d and type(norm) is nn.BatchNorm2d and conv.out_channels == norm.num_features:
                setattr(parent, name, fuse_conv_bn_eval(conv, norm))
                setattr(parent, norm_name, nn.Identity())
        for name, norm in parent.named_children():
            if type(norm) is nn.BatchNorm2d:
                setattr(parent, name, _Affine(norm))
    return network


class _Affine(nn.Module):
    """What a batch norm does to (B, C, H, W) when it has learnt."""

    gain: Tensor  # (C, 1, 1)
    offset: Tensor

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        assert norm.running_mean is not None and norm.running_var is not None
        gain = norm.weight.detach().double() / (norm.running_var.double() + norm.eps).sqrt()
        offset = norm.bias.detach().double() - norm.running_mean.double() * gain
        self.register_buffer("gain", gain.to(norm.weight.dtype)[:, None, None])
        self.register_buffer("offset", offset.to(norm.weight.dtype)[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gain + self.offset


def _double(tensor: Tensor) -> NDArray[np.float64]:
    return cast(NDArray[np.float64], tensor.detach().cpu().double().numpy())


def yunet_unit(network: nn.Module, name: str) -> tuple[Convolution, Convolution]:
    """The 1x1 convolution and the 3x3 depthwise one of a unit of facekit.models.yunet."""
    unit = network.get_submodule(name)
    norm = unit.bn if isinstance(unit.bn, nn.BatchNorm2d) else None
    depthwise = fold(f"{name}.conv2", cast(nn.Module, unit.conv2), norm, relu=norm is not None)
    return fold(f"{name}.conv1", cast(nn.Module, unit.conv1)), depthwise
