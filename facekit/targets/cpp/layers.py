"""The convolutions of a network in the order in which the header's Packer reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import cast

import numpy as np
from torch import nn

from facekit.models.ultralight import RFB_PLACE, UltraLight
from facekit.models.yunet import YuNet
from facekit.targets.writing.folding import Array, Convolution, fold, yunet_unit


def numbers(convolution: Convolution) -> Array:
    """(n,) what the header holds of a convolution: 1x1 and 3x3 as [out][row][column][in], depthwise as
    [row][column][channel], then the biases."""
    weight = convolution.weight
    depthwise = weight.shape[1] == 1 and weight.shape[2] == 3
    ordered = weight.transpose(2, 3, 1, 0) if depthwise else weight.transpose(0, 2, 3, 1)
    return np.concatenate([ordered.reshape(-1), convolution.bias])


def layers_of(network: nn.Module, colour_order: str) -> list[Convolution]:
    """All convolutions, the first one for B, G, R."""
    walk: Callable[[nn.Module], Iterator[Convolution]]
    walk = _yunet if isinstance(network, YuNet) else _ultralight
    stem, *rest = walk(network)
    if colour_order == "rgb":
        stem = Convolution(stem.name, stem.weight[:, ::-1], stem.bias, stem.relu)
    return [stem, *rest]


def _beside(parts: list[Convolution]) -> Convolution:
    """Several convolutions of one input, or of their own channels each, as one."""
    return Convolution(
        " + ".join(part.name for part in parts),
        np.concatenate([part.weight for part in parts]),
        np.concatenate([part.bias for part in parts]),
        parts[0].relu,
    )


def _yunet(network: nn.Module) -> Iterator[Convolution]:
    assert isinstance(network, YuNet)
    stem = network.get_submodule("backbone.model0")
    yield fold("backbone.model0.conv1", cast(nn.Module, stem.conv1), cast(nn.Module, stem.bn1), relu=True)
    yield from yunet_unit(network, "backbone.model0.conv2")
    for stage in range(1, 6):
        for unit in ("conv1", "conv2"):
            yield from yunet_unit(network, f"backbone.model{stage}.{unit}")
    levels = range(len(network.head.strides))
    for level in levels:
        yield from yunet_unit(network, f"neck.lateral_convs.{level}")
    for level in levels:
        shared = network.bbox_head.multi_level_share_convs[level]
        assert isinstance(shared, nn.Sequential)
        for place in range(len(shared)):
            yield from yunet_unit(network, f"bbox_head.multi_level_share_convs.{level}.{place}")
        branches = [yunet_unit(network, f"bbox_head.multi_level_{kind}.{level}") for kind in
                    ("cls", "obj", "bbox", "kps")]  # fmt: skip
        yield _beside([pointwise for pointwise, _ in branches])
        yield _beside([depthwise for _, depthwise in branches])


def _ultralight(network: nn.Module) -> Iterator[Convolution]:
    assert isinstance(network, UltraLight)

    def folded(name: str, conv: int, norm: int | None = None, relu: bool = True) -> Convolution:
        parts = network.get_submodule(name)
        assert isinstance(parts, nn.Sequential)
        return fold(f"{name}.{conv}", parts[conv], None if norm is None else parts[norm], relu)

    for index, layer in enumerate(network.base_net):
        name = f"base_net.{index}"
        if index == RFB_PLACE and not isinstance(layer, nn.Sequential):
            yield from _branches(network, name)
            continue
        yield folded(name, 0, 1)
        if index:
            yield folded(name, 3, 4)
    yield folded("extras.0", 0)
    yield folded("extras.0.2", 0)
    yield folded("extras.0.2", 2)
    for level, (of_class, of_box) in enumerate(
        zip(network.classification_headers, network.regression_headers, strict=True)
    ):
        for name, head in (("classification_headers", of_class), ("regression_headers", of_box)):
            if isinstance(head, nn.Sequential):
                yield folded(f"{name}.{level}", 0)
                yield folded(f"{name}.{level}", 2, relu=False)
            else:
                yield fold(f"{name}.{level}", head)


def _branches(network: nn.Module, name: str) -> Iterator[Convolution]:
    def folded(part: str) -> Convolution:
        block = network.get_submodule(f"{name}.{part}")
        return fold(f"{name}.{part}", cast(nn.Module, block.conv), cast(nn.Module, block.bn), bool(block.relu))

    for branch, layers in enumerate((3, 3, 4)):
        yield from (folded(f"branch{branch}.{layer}") for layer in range(layers))
    joining, shortcut = folded("ConvLinear"), folded("shortcut")
    # Their sum is one convolution of both inputs, side by side.
    yield Convolution(
        f"{joining.name} + {shortcut.name}",
        np.concatenate([joining.weight, shortcut.weight], axis=1),
        joining.bias + shortcut.bias,
        relu=True,
    )
