"""Ultra-Light-Fast-Generic-Face-Detector-1MB (Linzaer, 2019): slim, and with a receptive field block (RFB; Liu et al.,
ECCV 2018). Four levels, boxes only. Module names are those of the published checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facekit.base.schema import Range
from facekit.models.detector_network import DetectorNetwork
from facekit.models.layers import conv_norm, level_rows, relu, separable
from facekit.ops.head import declared_head
from facekit.ops.multibox import multibox_losses
from facekit.structures import Priors, RawOutputs, Targets
from facekit.template import ModelSettings

# Channels and stride of each block behind the stem of 16.
BLOCKS = (
    (32, 1), (32, 2), (32, 1), (64, 2), (64, 1), (64, 1), (64, 1), (128, 2), (128, 1), (128, 1), (256, 2), (256, 1),
)  # fmt: skip
TAPS = (7, 10, 12)  # the last layers of strides 8, 16 and 32; stride 64 comes from `extras`
TAP_CHANNELS = (64, 128, 256)
RFB_PLACE = 7  # the block that the RFB replaces
EXTRA_CHANNELS = 64


@dataclass(frozen=True)
class Options:
    receptive_field_block: bool
    # priors a picture that learn background, even where none learns a face
    least_negatives: Annotated[int, Range(0, 100_000)] = 0


class UltraLight(DetectorNetwork):
    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        options = settings.options.parse(Options)
        self.least_negatives = options.least_negatives
        self.head = declared_head(settings, (8, 16, 32, 64), "softmax")
        layers = [conv_norm(3, 16, relu, stride=2)]
        channels = 16
        for out_channels, stride in BLOCKS:
            layers.append(separable(channels, out_channels, relu, stride))
            channels = out_channels
        self.base_net = nn.ModuleList(layers)
        if options.receptive_field_block:
            self.base_net[RFB_PLACE] = _ReceptiveFieldBlock(64)
        extra = nn.Sequential(
            nn.Conv2d(channels, EXTRA_CHANNELS, kernel_size=1),
            nn.ReLU(),
            _separable_without_norm(EXTRA_CHANNELS, channels, stride=2),
            nn.ReLU(),
        )
        self.extras = nn.ModuleList([extra])
        self.classification_headers = _headers(2, self.head.priors_a_cell)
        self.regression_headers = _headers(4, self.head.priors_a_cell)

    def forward(self, images: Tensor) -> RawOutputs:
        x, taps = images, []
        for index, layer in enumerate(self.base_net):
            x = layer(x)
            if index in TAPS:
                taps.append(x)
        taps.append(self.extras[0](x))
        logits = [header(tap) for header, tap in zip(self.classification_headers, taps, strict=True)]
        deltas = [header(tap) for header, tap in zip(self.regression_headers, taps, strict=True)]
        return RawOutputs(level_rows(logits, 2), level_rows(deltas, 4))

    def losses(self, raw: RawOutputs, targets: Targets, priors: Priors) -> dict[str, Tensor]:
        return multibox_losses(
            self.head, raw, targets, priors, positive_iou=0.35, negatives_per_positive=3.0,
            least_negatives=self.least_negatives,
        )  # fmt: skip


def _headers(columns: int, priors_a_cell: Sequence[int]) -> nn.ModuleList:
    *finer, coarsest = (columns * priors for priors in priors_a_cell)
    headers: list[nn.Module] = [
        _separable_without_norm(channels, outputs) for channels, outputs in zip(TAP_CHANNELS, finer, strict=True)
    ]
    return nn.ModuleList([*headers, nn.Conv2d(TAP_CHANNELS[-1], coarsest, kernel_size=3, padding=1)])


def _separable_without_norm(channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, channels, kernel_size=3, stride=stride, padding=1, groups=channels),
        nn.ReLU(),
        nn.Conv2d(channels, out_channels, kernel_size=1),
    )


class _ReceptiveFieldBlock(nn.Module):
    """Three branches with kernels dilated by 2, 3 and 5, beside a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        thin, wide, between = channels // 8, channels // 4, channels // 8 * 3 // 2
        self.branch0 = nn.Sequential(_Conv(channels, thin, 1), _Conv(thin, wide, 3, relu=True), _Conv(wide, wide, 3, 2))
        self.branch1 = nn.Sequential(_Conv(channels, thin, 1), _Conv(thin, wide, 3, relu=True), _Conv(wide, wide, 3, 3))
        self.branch2 = nn.Sequential(
            _Conv(channels, thin, 1),
            _Conv(thin, between, 3, relu=True),
            _Conv(between, wide, 3, relu=True),
            _Conv(wide, wide, 3, 5),
        )
        self.ConvLinear = _Conv(3 * wide, channels, 1)
        self.shortcut = _Conv(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        branches = torch.cat([self.branch0(x), self.branch1(x), self.branch2(x)], dim=1)
        return F.relu(self.ConvLinear(branches) + self.shortcut(x))


class _Conv(nn.Module):
    def __init__(
        self, channels: int, out_channels: int, kernel_size: int, dilation: int = 1, relu: bool = False
    ) -> None:
        super().__init__()
        padding = dilation * (kernel_size // 2)
        self.conv = nn.Conv2d(channels, out_channels, kernel_size, padding=padding, dilation=dilation, bias=False)
        self.bn = nn.BatchNorm2d(out_channels, momentum=0.01)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(x))
        return F.relu(x, inplace=True) if self.relu else x
