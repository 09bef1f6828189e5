"""FCOS (Tian et al., ICCV 2019) on MobileNetV2 with a feature pyramid: the OpenVINO template face-detection-0205."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from facekit.models.backbones.mobilenetv2 import MobileNetV2
from facekit.models.detector_network import DetectorNetwork
from facekit.models.heads.dense import DenseHead, dense_losses
from facekit.models.necks.fpn import FeaturePyramid
from facekit.ops.assigners import fcos_assign
from facekit.ops.head import declared_head
from facekit.ops.losses import iou_loss
from facekit.structures import Priors, RawOutputs, Targets
from facekit.template import ModelSettings

STRIDES = (8, 16, 32, 64, 128)
# Largest distance to a border, in pixels, that the points of each level learn.
SIZE_RANGES = ((0.0, 64.0), (64.0, 128.0), (128.0, 256.0), (256.0, 512.0), (512.0, float("inf")))
TAPS, TAP_CHANNELS = (6, 13, 17), (32, 96, 320)  # the last blocks of strides 8, 16 and 32
PYRAMID_CHANNELS, TOWER_CHANNELS = 48, 32


@dataclass(frozen=True)
class Options:
    """Nothing beyond the priors, which are the cells."""


class FCOS(DetectorNetwork):
    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        settings.options.parse(Options)
        self.head = declared_head(settings, STRIDES, "sigmoid", ("objectness",), one_prior_a_cell=True)
        self.backbone = MobileNetV2(TAPS)
        self.neck = FeaturePyramid(TAP_CHANNELS, PYRAMID_CHANNELS, len(STRIDES))
        self.bbox_head = DenseHead(PYRAMID_CHANNELS, TOWER_CHANNELS, len(STRIDES), centre_ness_on="class")

    def forward(self, images: Tensor) -> RawOutputs:
        raw: RawOutputs = self.bbox_head(self.neck(self.backbone(images)))
        return raw._replace(box_deltas=raw.box_deltas.exp())

    def losses(self, raw: RawOutputs, targets: Targets, priors: Priors) -> dict[str, Tensor]:
        assignment = fcos_assign(targets, priors, SIZE_RANGES)
        return dense_losses(self.head, raw, targets, priors, assignment, iou_loss)
