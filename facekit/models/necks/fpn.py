"""Feature pyramid (Lin et al., CVPR 2017) with extra levels, as mmdetection builds it: biases, no norms."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class FeaturePyramid(nn.Module):
    """1x1 laterals, nearest up-sampling, a 3x3 convolution a level; extra levels by stride 2 on the coarsest output."""

    def __init__(self, tap_channels: Sequence[int], channels: int, levels: int) -> None:
        super().__init__()
        self.lateral_convs = nn.ModuleList(nn.Conv2d(tap, channels, kernel_size=1) for tap in tap_channels)
        self.fpn_convs = nn.ModuleList(
            nn.Conv2d(channels, channels, kernel_size=3, stride=1 if level < len(tap_channels) else 2, padding=1)
            for level in range(levels)
        )
        for convolution in (*self.lateral_convs, *self.fpn_convs):
            nn.init.xavier_uniform_(convolution.weight)
            nn.init.zeros_(convolution.bias)

    def forward(self, taps: Sequence[Tensor]) -> list[Tensor]:
        outputs = [
            convolution(level)
            for convolution, level in zip(self.fpn_convs, top_down(self.lateral_convs, taps))  # noqa: B905 - extra levels follow
        ]
        for number, convolution in enumerate(self.fpn_convs[len(taps) :]):
            # The first extra level reads the coarsest output as it is, the next ones through a ReLU.
            outputs.append(convolution(F.relu(outputs[-1]) if number else outputs[-1]))
        return outputs


def top_down(lateral_convs: nn.ModuleList, taps: Sequence[Tensor]) -> list[Tensor]:
    """Laterals of the taps, finest first, each with the coarser ones added at its own size."""
    levels = [convolution(tap) for convolution, tap in zip(lateral_convs, taps, strict=True)]
    for index in range(len(levels) - 2, -1, -1):
        levels[index] = levels[index] + F.interpolate(levels[index + 1], size=levels[index].shape[2:], mode="nearest")
    return levels
