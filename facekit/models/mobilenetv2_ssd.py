"""MobileNetV2-SSD: the OpenVINO templates face-detection-0200, -0202 and -0204.

Two levels, strides 16 and 32, hand-chosen priors, softmax over face and background (the last class).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facekit.models.backbones.mobilenetv2 import MobileNetV2
from facekit.ops.assigners import max_iou_assign
from facekit.ops.distributed import mean_over_processes
from facekit.ops.head import DeltaCoder, Head
from facekit.ops.losses import balance, hard_negative_mining, smooth_l1
from facekit.structures import RawOutputs, Targets
from facekit.template import ModelSettings

TAPS = (13, 17)  # the last block of 96 channels (stride 16) and the one of 320 (stride 32)
TAP_CHANNELS = (96, 320)
FACE, BACKGROUND = 0, 1
POSITIVE_IOU = 0.4
NEGATIVES_PER_POSITIVE = 3.0


@dataclass(frozen=True)
class Options:
    """Nothing beyond the priors."""


class MobileNetV2SSD(nn.Module):
    export_layout = "decoded"

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        settings.options.parse(Options)
        self.head = Head(
            strides=(16, 32),
            prior_sizes_wh=settings.prior_sizes_wh,
            cell_offset=0.5,
            coder=DeltaCoder(centre_variance=0.1, size_variance=0.2),
            scoring="softmax",
            face_column=FACE,
        )
        self.backbone = MobileNetV2(TAPS)
        priors_a_cell = [len(sizes) for sizes in settings.prior_sizes_wh]
        self.box_heads = nn.ModuleList(
            _head_branch(channels, 4 * priors) for channels, priors in zip(TAP_CHANNELS, priors_a_cell, strict=True)
        )
        self.class_heads = nn.ModuleList(
            _head_branch(channels, 2 * priors) for channels, priors in zip(TAP_CHANNELS, priors_a_cell, strict=True)
        )
        self.loss_log_variances = nn.Parameter(torch.zeros(2))  # class, box

    def forward(self, images: Tensor) -> RawOutputs:
        features = self.backbone(images)
        logits = [_flatten(head(level), 2) for head, level in zip(self.class_heads, features, strict=True)]
        deltas = [_flatten(head(level), 4) for head, level in zip(self.box_heads, features, strict=True)]
        return RawOutputs(torch.cat(logits, dim=1), torch.cat(deltas, dim=1))

    def losses(self, raw: RawOutputs, targets: Targets, priors_cxcywh: Tensor) -> dict[str, Tensor]:
        assignment = max_iou_assign(targets, priors_cxcywh, POSITIVE_IOU)
        positive = assignment.face_index >= 0
        positives = mean_over_processes(positive.sum()).clamp(min=1)

        labels = torch.where(positive, FACE, BACKGROUND)
        class_losses = F.cross_entropy(raw.class_logits.flatten(0, 1), labels.flatten(), reduction="none").view_as(
            labels
        )
        counted = hard_negative_mining(class_losses, positive, NEGATIVES_PER_POSITIVE)
        class_loss = class_losses[counted].sum() / positives

        faces_xyxy = targets.boxes_xyxy[assignment.face_index[positive]]
        wanted = self.head.coder.encode(faces_xyxy, priors_cxcywh.expand(*positive.shape, 4)[positive])
        box_loss = smooth_l1(raw.box_deltas[positive], wanted, beta=1.0).sum() / positives
        return {
            "class": balance(class_loss, self.loss_log_variances[0]),
            "box": balance(box_loss, self.loss_log_variances[1]),
        }


def _head_branch(channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, channels, kernel_size=3, padding=1, groups=channels),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
        nn.Conv2d(channels, out_channels, kernel_size=1),
    )


def _flatten(level: Tensor, columns: int) -> Tensor:
    """(B, priors * columns, H, W) -> (B, H * W * priors, columns)."""
    return level.permute(0, 2, 3, 1).reshape(level.shape[0], -1, columns)
