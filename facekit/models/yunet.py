"""YuNet (Wu et al., "YuNet: A Tiny Millisecond-level Face Detector", MIR 2023) of libfacedetection.train.

Anchor-free on strides 8, 16, 32 with five landmarks. Module names are those of the published checkpoints.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facekit.base.schema import Length, Range
from facekit.machine.reductions import mean_over_processes
from facekit.models.detector_network import DetectorNetwork
from facekit.models.layers import LevelMaps
from facekit.ops.assigners import sim_ota_assign
from facekit.ops.head import declared_head
from facekit.ops.ignored import background_priors
from facekit.ops.losses import eiou_loss
from facekit.ops.multibox import landmark_loss
from facekit.structures import Priors, RawOutputs, Targets
from facekit.template import ModelSettings

STRIDES = (8, 16, 32)
POOLED_STAGES = (0, 2, 3, 4)  # a 2x2 max-pool follows
TAP_STAGES = (3, 4, 5)
BOX_LOSS_WEIGHT = 5.0
LANDMARK_LOSS_WEIGHT = 0.1
LANDMARK_BETA = 1 / 9


@dataclass(frozen=True)
class Options:
    # channels that leave each of the six stages; the last three are added to each other
    stage_channels: Annotated[tuple[Annotated[int, Range(1, 2048)], ...], Length(6, 6)]
    # units a level in front of the four branches of the head
    shared_units: Annotated[int, Range(0, 16)]

    def __post_init__(self) -> None:
        if len(set(self.stage_channels[min(TAP_STAGES) :])) > 1:
            raise ValueError(f"stage_channels: the last three must be the same, got {list(self.stage_channels)}.")


class YuNet(DetectorNetwork):
    size_multiple = STRIDES[-1]  # levels are doubled in size, and added to each other

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        options = settings.options.parse(Options)
        self.head = declared_head(settings, STRIDES, "sigmoid", ("objectness", "landmarks"), one_prior_a_cell=True)
        self.backbone = _Backbone(options.stage_channels)
        tap_channels = [options.stage_channels[stage] for stage in TAP_STAGES]
        self.neck = _Neck(tap_channels)
        self.bbox_head = _HeadBranches(tap_channels, options.shared_units)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_normal_(module.weight)
                nn.init.zeros_(cast(Tensor, module.bias))
        # Nearly all priors are background: starting there keeps the first steps calm (RetinaNet, section 4.1).
        for branch in (*self.bbox_head.multi_level_cls, *self.bbox_head.multi_level_obj):
            nn.init.constant_(branch.conv2.bias, math.log(0.01 / 0.99))

    def forward(self, images: Tensor) -> RawOutputs:
        return self.maps(images).rows(classes=1)

    def maps(self, images: Tensor) -> LevelMaps:
        return cast(LevelMaps, self.bbox_head(self.neck(self.backbone(images))))

    def losses(self, raw: RawOutputs, targets: Targets, priors: Priors) -> dict[str, Tensor]:
        assert raw.objectness_logits is not None and raw.landmark_deltas is not None
        decoded = self.head.decode(self.head.activate(raw), priors)
        # Cells are assigned by their middle although they decode from their corner.
        middles = torch.cat([priors.cxcywh[:, :2] + priors.strides[:, None] / 2, priors.cxcywh[:, 2:]], dim=1)
        assignment = sim_ota_assign(
            targets,
            decoded.scores.detach(),
            decoded.boxes_xyxy.detach(),
            priors._replace(cxcywh=middles),
            centre_radius=2.5,
            top_candidates=10,
            score_weight=1.0,
            overlap_weight=3.0,
        )
        positive, faces, columns = assignment.pairs()
        positives = mean_over_processes(positive.sum(), least=1)

        counted = positive | background_priors(positive, targets, priors._replace(cxcywh=middles))
        objectness_losses = F.binary_cross_entropy_with_logits(
            raw.objectness_logits, positive.float(), reduction="none"
        )
        class_loss = F.binary_cross_entropy_with_logits(
            raw.class_logits[..., 0][positive], assignment.overlap[positive], reduction="sum"
        )
        box_loss = eiou_loss(decoded.boxes_xyxy[positive], targets.boxes_xyxy[faces]).sum()
        wanted = self.head.coder.encode_points(targets.landmarks_xy[faces], priors.at(columns))
        marks = landmark_loss(raw.landmark_deltas[positive], wanted, targets.has_landmarks[faces], LANDMARK_BETA)
        return {
            "class": class_loss / positives,
            "objectness": objectness_losses.masked_fill(~counted, 0.0).sum() / positives,
            "box": BOX_LOSS_WEIGHT * box_loss / positives,
            "landmarks": LANDMARK_LOSS_WEIGHT * marks,
        }


class _Unit(nn.Module):
    """1x1 convolution, 3x3 depthwise convolution, and batch norm with ReLU unless it ends a branch."""

    def __init__(self, channels: int, out_channels: int, activated: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out_channels, kernel_size=1)
        self.conv2 = nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, groups=out_channels)
        self.bn = nn.BatchNorm2d(out_channels) if activated else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv2(self.conv1(x))
        return x if self.bn is None else F.relu(self.bn(x), inplace=True)


class _Stem(nn.Module):
    def __init__(self, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, out_channels, kernel_size=3, stride=2, padding=1)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = _Unit(out_channels, out_channels)

    def forward(self, images: Tensor) -> Tensor:
        return cast(Tensor, self.conv2(F.relu(self.bn1(self.conv1(images)), inplace=True)))


class _Stage(nn.Module):
    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = _Unit(channels, channels)
        self.conv2 = _Unit(channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.conv2(self.conv1(x)))


class _Backbone(nn.Module):
    def __init__(self, stage_channels: tuple[int, ...]) -> None:
        super().__init__()
        self.model0 = _Stem(stage_channels[0])
        for stage, (channels, out_channels) in enumerate(pairwise(stage_channels), start=1):
            self.add_module(f"model{stage}", _Stage(channels, out_channels))

    def forward(self, images: Tensor) -> list[Tensor]:
        taps = []
        x = images
        for stage, layer in enumerate(self.children()):
            x = layer(x)
            if stage in TAP_STAGES:
                taps.append(x)
            if stage in POOLED_STAGES:
                x = F.max_pool2d(x, kernel_size=2, stride=2)
        return taps


class _Neck(nn.Module):
    """Top-down: each level passes its unit and is added, doubled in size, to the level below."""

    def __init__(self, tap_channels: list[int]) -> None:
        super().__init__()
        self.lateral_convs = nn.ModuleList(_Unit(channels, channels) for channels in tap_channels)

    def forward(self, taps: list[Tensor]) -> list[Tensor]:
        levels = list(taps)
        for level in range(len(levels) - 1, 0, -1):
            levels[level] = self.lateral_convs[level](levels[level])
            levels[level - 1] = levels[level - 1] + F.interpolate(levels[level], scale_factor=2.0, mode="nearest")
        levels[0] = self.lateral_convs[0](levels[0])
        return levels


class _HeadBranches(nn.Module):
    def __init__(self, tap_channels: list[int], shared_units: int) -> None:
        super().__init__()
        self.multi_level_share_convs = nn.ModuleList(
            nn.Sequential(*(_Unit(channels, channels) for _ in range(shared_units))) for channels in tap_channels
        )
        self.multi_level_cls = nn.ModuleList(_Unit(channels, 1, activated=False) for channels in tap_channels)
        self.multi_level_bbox = nn.ModuleList(_Unit(channels, 4, activated=False) for channels in tap_channels)
        self.multi_level_obj = nn.ModuleList(_Unit(channels, 1, activated=False) for channels in tap_channels)
        self.multi_level_kps = nn.ModuleList(_Unit(channels, 10, activated=False) for channels in tap_channels)

    def forward(self, levels: list[Tensor]) -> LevelMaps:
        levels = [shared(level) for shared, level in zip(self.multi_level_share_convs, levels, strict=True)]
        classes, boxes, objectness, landmarks = (
            [branch(level) for branch, level in zip(branches, levels, strict=True)]
            for branches in (
                self.multi_level_cls, self.multi_level_bbox, self.multi_level_obj, self.multi_level_kps
            )
        )  # fmt: skip
        return LevelMaps(classes, boxes, objectness, landmarks)
