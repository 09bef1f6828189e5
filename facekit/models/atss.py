"""ATSS (Zhang et al., CVPR 2020) on ResNet-152 with a feature pyramid and context modules: the OpenVINO template
face-detection-0206."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torchvision.models import resnet152
from torchvision.ops import generalized_box_iou_loss

from facekit.models.detector_network import DetectorNetwork
from facekit.models.heads.dense import DenseHead, dense_losses
from facekit.models.necks.fpn import FeaturePyramid
from facekit.ops.assigners import atss_assign
from facekit.ops.head import declared_head
from facekit.structures import Priors, RawOutputs, Targets
from facekit.template import ModelSettings

STRIDES = (4, 8, 16, 32, 64)
TAP_CHANNELS = (256, 512, 1024, 2048)
PYRAMID_CHANNELS, TOWER_CHANNELS = 256, 128
TOP_CANDIDATES = 9
BOX_LOSS_WEIGHT = 2.0


@dataclass(frozen=True)
class Options:
    """Nothing beyond the priors."""


class ATSS(DetectorNetwork):
    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        settings.options.parse(Options)
        self.head = declared_head(settings, STRIDES, "sigmoid", ("objectness",), one_prior_a_cell=True)
        self.backbone = _ResNet152()
        self.neck = FeaturePyramid(TAP_CHANNELS, PYRAMID_CHANNELS, len(STRIDES))
        self.context_modules = nn.ModuleList(_ContextModule() for _ in STRIDES)
        self.bbox_head = DenseHead(PYRAMID_CHANNELS, TOWER_CHANNELS, len(STRIDES), centre_ness_on="box")

    def forward(self, images: Tensor) -> RawOutputs:
        levels = self.neck(self.backbone(images))
        raw = self.bbox_head([context(level) for context, level in zip(self.context_modules, levels, strict=True)])
        return cast(RawOutputs, raw)

    def losses(self, raw: RawOutputs, targets: Targets, priors: Priors) -> dict[str, Tensor]:
        assignment = atss_assign(targets, priors, TOP_CANDIDATES)
        losses = dense_losses(self.head, raw, targets, priors, assignment, generalized_box_iou_loss)
        return losses | {"box": BOX_LOSS_WEIGHT * losses["box"]}


class _ResNet152(nn.Module):
    """He et al., CVPR 2016: torchvision's (stride in the 3x3 convolutions), without its classifier."""

    def __init__(self) -> None:
        super().__init__()
        for name, layer in resnet152().named_children():
            if name not in ("avgpool", "fc"):
                self.add_module(name, layer)

    def forward(self, images: Tensor) -> list[Tensor]:
        taps = []
        for name, layer in self.named_children():
            images = layer(images)
            if name.startswith("layer"):
                taps.append(images)
        return taps


class _ContextModule(nn.Module):
    """RSSH: three 1x1 convolutions in a row, all their outputs side by side."""

    def __init__(self) -> None:
        super().__init__()
        half, quarter = PYRAMID_CHANNELS // 2, PYRAMID_CHANNELS // 4
        self.conv1 = nn.Conv2d(PYRAMID_CHANNELS, half, kernel_size=1)
        self.conv2 = nn.Conv2d(half, quarter, kernel_size=1)
        self.conv3 = nn.Conv2d(quarter, quarter, kernel_size=1)

    def forward(self, level: Tensor) -> Tensor:
        # No activation in between: the makers' code passes none on, so the published weights were learnt without.
        first = self.conv1(level)
        second = self.conv2(first)
        return torch.cat([first, second, self.conv3(second)], dim=1)
