"""Small pieces that several networks are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from facekit.structures import RawOutputs

Activation = Callable[[], nn.Module]


class Tapped(nn.Module):
    """A chain of layers whose outputs are also taken at some places; layers behind the last tap are dropped."""

    def __init__(self, layers: Iterable[nn.Module], taps: tuple[int, ...]) -> None:
        super().__init__()
        self.taps = taps
        self.features = nn.Sequential(*list(layers)[: max(taps) + 1])

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> the outputs of the tapped layers."""
        outputs = []
        for index, layer in enumerate(self.features):
            images = layer(images)
            if index in self.taps:
                outputs.append(images)
        return outputs


def conv_norm(
    channels: int,
    out_channels: int,
    activation: Activation | None,
    kernel_size: int = 3,
    stride: int = 1,
    groups: int = 1,
) -> nn.Sequential:
    """Convolution without bias, batch norm, and the activation if any; "same" padding."""
    layers: list[nn.Module] = [
        nn.Conv2d(channels, out_channels, kernel_size, stride, kernel_size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out_channels),
    ]
    return nn.Sequential(*layers, *([activation()] if activation else []))


def separable(channels: int, out_channels: int, activation: Activation, stride: int = 1) -> nn.Sequential:
    """MobileNetV1's block (Howard et al., 2017, figure 3): depthwise 3x3, then 1x1, each with norm and activation."""
    depthwise = conv_norm(channels, channels, activation, stride=stride, groups=channels)
    return nn.Sequential(*depthwise, *conv_norm(channels, out_channels, activation, kernel_size=1))


def relu() -> nn.Module:
    return nn.ReLU(inplace=True)


def leaky_relu() -> nn.Module:
    return nn.LeakyReLU(0.1, inplace=True)


class LevelMaps(NamedTuple):
    """What a network's levels give before they become RawOutputs: (B, priors * columns, H, W) each, finest first."""

    class_logits: Sequence[Tensor]
    box_deltas: Sequence[Tensor]
    objectness_logits: Sequence[Tensor] | None = None
    landmark_deltas: Sequence[Tensor] | None = None

    def rows(self, classes: int) -> RawOutputs:
        """`classes`: columns of a prior's class logits."""
        return RawOutputs(
            level_rows(self.class_logits, classes),
            level_rows(self.box_deltas, 4),
            None if self.objectness_logits is None else level_rows(self.objectness_logits, 1).squeeze(-1),
            None if self.landmark_deltas is None else level_rows(self.landmark_deltas, 10),
        )


def level_rows(levels: Iterable[Tensor], columns: int) -> Tensor:
    """Levels (B, priors * columns, H, W) -> (B, A, columns), level by level, cell by cell, prior by prior."""
    # Not by one reshape, which cannot tell how many rows no picture has.
    return torch.cat([level.permute(0, 2, 3, 1).unflatten(3, (-1, columns)).flatten(1, 3) for level in levels], dim=1)
