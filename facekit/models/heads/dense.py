"""The head of FCOS and ATSS: two towers that all levels share, with a centre-ness beside class and box; its losses."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import sigmoid_focal_loss

from facekit.machine.reductions import mean_over_processes
from facekit.models.layers import level_rows
from facekit.ops.assigners import Assignment
from facekit.ops.boxes import border_distances
from facekit.ops.head import Head
from facekit.ops.ignored import background_priors
from facekit.ops.losses import centre_ness
from facekit.structures import Priors, RawOutputs, Targets

TOWER_CONVOLUTIONS = 4
NORM_GROUPS = 32
BACKGROUND_PRIOR = 0.01  # probability of a face at the start: nearly all priors are background (RetinaNet, section 4.1)


class DenseHead(nn.Module):
    """Levels (B, channels, H, W) -> class logits, box numbers times a learnt scale a level, centre-ness logits."""

    def __init__(
        self, channels: int, tower_channels: int, levels: int, centre_ness_on: Literal["class", "box"]
    ) -> None:
        super().__init__()
        self.centre_ness_on = centre_ness_on
        self.class_tower = _tower(channels, tower_channels)
        self.box_tower = _tower(channels, tower_channels)
        self.class_conv = nn.Conv2d(tower_channels, 1, kernel_size=3, padding=1)
        self.box_conv = nn.Conv2d(tower_channels, 4, kernel_size=3, padding=1)
        self.centre_ness_conv = nn.Conv2d(tower_channels, 1, kernel_size=3, padding=1)
        self.scales = nn.ParameterList(nn.Parameter(torch.tensor(1.0)) for _ in range(levels))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        assert self.class_conv.bias is not None
        nn.init.constant_(self.class_conv.bias, math.log(BACKGROUND_PRIOR / (1 - BACKGROUND_PRIOR)))

    def forward(self, levels: Sequence[Tensor]) -> RawOutputs:
        classes, boxes, centres = [], [], []
        for level, scale in zip(levels, self.scales, strict=True):
            class_features, box_features = self.class_tower(level), self.box_tower(level)
            classes.append(self.class_conv(class_features))
            boxes.append(self.box_conv(box_features) * scale)
            centres.append(self.centre_ness_conv(class_features if self.centre_ness_on == "class" else box_features))
        return RawOutputs(level_rows(classes, 1), level_rows(boxes, 4), level_rows(centres, 1).squeeze(-1))


def dense_losses(
    head: Head,
    raw: RawOutputs,
    targets: Targets,
    priors: Priors,
    assignment: Assignment,
    box_loss: Callable[[Tensor, Tensor], Tensor],
) -> dict[str, Tensor]:
    """Focal loss `class` over all priors outside ignored regions; `box` over the positive ones ((P, 4) and (P, 4) xyxy
    -> (P,)), each weighted by how central its prior lies in its face; binary cross-entropy `centre_ness` (Tian et al.,
    FCOS, section 3.2)."""
    assert raw.objectness_logits is not None
    positive, faces, columns = assignment.pairs()
    positives = mean_over_processes(positive.sum(), least=1)
    learnt, boxes_xyxy = priors.at(columns), targets.boxes_xyxy[faces]
    centres = centre_ness(border_distances(learnt.cxcywh[:, :2], boxes_xyxy))
    predicted_xyxy = head.coder.decode(raw.box_deltas[positive], learnt)
    counted = positive | background_priors(positive, targets, priors)
    class_losses = sigmoid_focal_loss(raw.class_logits[..., 0], positive.float(), alpha=0.25, gamma=2.0)
    class_loss = class_losses.masked_fill(~counted, 0.0).sum()
    centre_loss = F.binary_cross_entropy_with_logits(raw.objectness_logits[positive], centres, reduction="sum")
    weight = mean_over_processes(centres.sum(), least=1e-6)
    return {
        "class": class_loss / positives,
        "box": (box_loss(predicted_xyxy, boxes_xyxy) * centres).sum() / weight,
        "centre_ness": centre_loss / positives,
    }


def _tower(channels: int, tower_channels: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for number in range(TOWER_CONVOLUTIONS):
        layers += [
            nn.Conv2d(tower_channels if number else channels, tower_channels, kernel_size=3, padding=1, bias=False),
            _GroupNorm(NORM_GROUPS, tower_channels),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


class _GroupNorm(nn.GroupNorm):
    """Takes one picture's level of one cell too, which torch's own refuses even in evaluation."""

    def forward(self, level: Tensor) -> Tensor:
        return torch.group_norm(level, self.num_groups, self.weight, self.bias, self.eps)
