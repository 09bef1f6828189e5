"""FCOS (Tian et al., ICCV 2019) on MobileNetV2 with a feature pyramid: the OpenVINO template face-detection-0205."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import sigmoid_focal_loss

from facekit.models.backbones.mobilenetv2 import MobileNetV2
from facekit.models.heads.dense import DenseHead
from facekit.models.necks.fpn import FeaturePyramid
from facekit.ops.assigners import fcos_assign
from facekit.ops.boxes import border_distances
from facekit.ops.coders import DistanceCoder
from facekit.ops.distributed import mean_over_processes
from facekit.ops.head import Head
from facekit.ops.losses import centre_ness, iou_loss
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


class FCOS(nn.Module):
    export_layout = "decoded"

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        settings.options.parse(Options)
        self.head = Head(
            strides=STRIDES,
            prior_sizes_wh=settings.prior_sizes_wh,
            cell_offset=0.5,
            coder=DistanceCoder(in_strides=False),
            scoring="sigmoid",
            has_objectness=True,
            clips_boxes=True,
        )
        self.backbone = MobileNetV2(TAPS)
        self.neck = FeaturePyramid(TAP_CHANNELS, PYRAMID_CHANNELS, len(STRIDES))
        self.bbox_head = DenseHead(PYRAMID_CHANNELS, TOWER_CHANNELS, len(STRIDES), centre_ness_on="class")

    def forward(self, images: Tensor) -> RawOutputs:
        raw = self.bbox_head(self.neck(self.backbone(images)))
        return raw._replace(box_deltas=raw.box_deltas.exp())

    def losses(self, raw: RawOutputs, targets: Targets, priors: Priors) -> dict[str, Tensor]:
        assert raw.objectness_logits is not None
        positive, faces, columns = fcos_assign(targets, priors, SIZE_RANGES).pairs()
        positives = mean_over_processes(positive.sum()).clamp(min=1)
        learnt, boxes_xyxy = priors.at(columns), targets.boxes_xyxy[faces]
        centre_targets = centre_ness(border_distances(learnt.cxcywh[:, :2], boxes_xyxy))
        weight = mean_over_processes(centre_targets.sum()).clamp(min=1e-6)

        class_loss = sigmoid_focal_loss(raw.class_logits[..., 0], positive.float(), alpha=0.25, gamma=2.0).sum()
        predicted_xyxy = self.head.coder.decode(raw.box_deltas[positive], learnt)
        box_loss = (iou_loss(predicted_xyxy, boxes_xyxy) * centre_targets).sum()
        centre_loss = F.binary_cross_entropy_with_logits(
            raw.objectness_logits[positive], centre_targets, reduction="sum"
        )
        return {
            "class": class_loss / positives,
            "box": box_loss / weight,
            "centre_ness": centre_loss / positives,
        }
