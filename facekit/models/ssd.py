"""SSD on a light backbone: the OpenVINO templates face-detection-0200, -0202, -0204, -0207, and the tiny SSD.

One or two levels, hand-chosen priors, softmax over face and background.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import shufflenet_v2_x1_0

from facekit.base.schema import Range
from facekit.models.backbones.mobilenetv2 import MobileNetV2, TinyMobileNetV2
from facekit.models.detector_network import DetectorNetwork
from facekit.models.layers import level_rows
from facekit.ops.head import declared_head
from facekit.ops.losses import balance
from facekit.ops.multibox import multibox_losses
from facekit.structures import Priors, RawOutputs, Targets
from facekit.template import ModelSettings


@dataclass(frozen=True)
class Options:
    backbone: Literal["mobilenetv2", "mobilenetv2_tiny", "shufflenetv2"]
    # priors a picture that learn background, even where none learns a face
    least_negatives: Annotated[int, Range(0, 100_000)] = 0
    face_column: Literal[0, 1] | None = None  # where templates from before 0.5 have what model.head says now


class SSD(DetectorNetwork):
    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        options = settings.options.parse(Options)
        self.least_negatives = options.least_negatives
        self.backbone, strides, tap_channels = _backbone(options.backbone)
        self.head = declared_head(settings, strides, "softmax")
        levels = list(zip(tap_channels, self.head.priors_a_cell, strict=True))
        self.box_heads = nn.ModuleList(_head_branch(channels, 4 * priors) for channels, priors in levels)
        self.class_heads = nn.ModuleList(_head_branch(channels, 2 * priors) for channels, priors in levels)
        self.loss_log_variances = nn.Parameter(torch.zeros(2))  # class, box

    def forward(self, images: Tensor) -> RawOutputs:
        taps = self.backbone(images)
        logits = [head(tap) for head, tap in zip(self.class_heads, taps, strict=True)]
        deltas = [head(tap) for head, tap in zip(self.box_heads, taps, strict=True)]
        return RawOutputs(level_rows(logits, 2), level_rows(deltas, 4))

    def losses(self, raw: RawOutputs, targets: Targets, priors: Priors) -> dict[str, Tensor]:
        losses = multibox_losses(
            self.head, raw, targets, priors, positive_iou=0.4, negatives_per_positive=3.0,
            least_negatives=self.least_negatives,
        )  # fmt: skip
        return {
            "class": balance(losses["class"], self.loss_log_variances[0]),
            "box": balance(losses["box"], self.loss_log_variances[1]),
        }


def _backbone(name: str) -> tuple[nn.Module, tuple[int, ...], tuple[int, ...]]:
    """The network, and strides and channels of its taps."""
    if name == "mobilenetv2":
        return MobileNetV2(taps=(13, 17)), (16, 32), (96, 320)
    if name == "mobilenetv2_tiny":
        return TinyMobileNetV2(taps=(17,)), (16,), (360,)
    return _ShuffleNetV2(), (16, 32), (232, 464)


class _ShuffleNetV2(nn.Module):
    """Ma et al., ECCV 2018: torchvision's, without its last convolution."""

    def __init__(self) -> None:
        super().__init__()
        for name, layer in shufflenet_v2_x1_0().named_children():
            if name not in ("conv5", "fc"):
                self.add_module(name, layer)
        self.maxpool = _FarPaddedPool(kernel_size=3, stride=2, ceil_mode=True)

    def forward(self, images: Tensor) -> list[Tensor]:
        outputs = {}
        for name, layer in self.named_children():
            outputs[name] = images = layer(images)
        return [outputs["stage3"], outputs["stage4"]]


class _FarPaddedPool(nn.MaxPool2d):
    """Halves as pytorchcv's network does, which the published weights come from: padding at the far borders alone. Its
    odd sides are rounded up, as all other layers and the head's cells round them."""

    def forward(self, x: Tensor) -> Tensor:
        bottom, right = x.shape[2] % 2, x.shape[3] % 2
        return cast(Tensor, super().forward(F.pad(x, (0, right, 0, bottom)) if bottom or right else x))


def _head_branch(channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, channels, kernel_size=3, padding=1, groups=channels),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
        nn.Conv2d(channels, out_channels, kernel_size=1),
    )
