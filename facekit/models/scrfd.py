"""SCRFD-0.5G with landmarks (Guo et al., "Sample and Computation Redistribution for Efficient Face Detection", ICLR
2022): a narrow MobileNetV1, a path aggregation pyramid of 16 channels, a separable head a stride.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.ops import distance_box_iou_loss

from facekit.machine.reductions import mean_over_processes
from facekit.models.detector_network import DetectorNetwork
from facekit.models.layers import LevelMaps, Tapped, conv_norm, relu, separable
from facekit.models.necks.fpn import top_down
from facekit.ops.assigners import atss_assign
from facekit.ops.boxes import paired_iou
from facekit.ops.head import declared_head
from facekit.ops.ignored import background_priors
from facekit.ops.losses import quality_focal_loss
from facekit.ops.multibox import landmark_loss
from facekit.structures import Priors, RawOutputs, Targets
from facekit.template import ModelSettings

# Channels and blocks of each stage behind the stem; the first block of a stage has stride 2.
STAGES = ((40, 2), (72, 3), (152, 2), (288, 6))
TAPS, TAP_CHANNELS = (6, 8, 14), (72, 152, 288)
PYRAMID_CHANNELS, HEAD_CHANNELS = 16, 64
TOP_CANDIDATES = 9
BOX_LOSS_WEIGHT = 2.0
LANDMARK_LOSS_WEIGHT = 0.1
LANDMARK_BETA = 1 / 9


@dataclass(frozen=True)
class Options:
    """Nothing beyond the priors."""


class SCRFD(DetectorNetwork):
    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        settings.options.parse(Options)
        self.head = declared_head(settings, (8, 16, 32), "sigmoid", ("landmarks",))
        self.backbone = Tapped(_backbone_layers(), TAPS)
        self.neck = _PathAggregation()
        self.level_heads = nn.ModuleList(_LevelHead(priors) for priors in self.head.priors_a_cell)

    def forward(self, images: Tensor) -> RawOutputs:
        return self.maps(images).rows(classes=1)

    def maps(self, images: Tensor) -> LevelMaps:
        levels = self.neck(self.backbone(images))
        classes, boxes, landmarks = zip(
            *(head(level) for head, level in zip(self.level_heads, levels, strict=True)), strict=True
        )
        return LevelMaps(classes, boxes, landmark_deltas=landmarks)

    def losses(self, raw: RawOutputs, targets: Targets, priors: Priors) -> dict[str, Tensor]:
        assert raw.landmark_deltas is not None
        positive, faces, columns = atss_assign(targets, priors, TOP_CANDIDATES).pairs()
        positives = mean_over_processes(positive.sum(), least=1)
        learnt, boxes_xyxy = priors.at(columns), targets.boxes_xyxy[faces]
        logits = raw.class_logits[..., 0]
        counted = positive | background_priors(positive, targets, priors)

        predicted_xyxy = self.head.coder.decode(raw.box_deltas[positive], learnt)
        quality = torch.zeros_like(logits)
        quality[positive] = paired_iou(predicted_xyxy.detach(), boxes_xyxy)
        # Boxes count as much as their class is believed in (Generalized Focal Loss, the authors' code).
        confidence = logits[positive].detach().sigmoid()
        weight = mean_over_processes(confidence.sum(), least=1e-6)

        wanted = self.head.coder.encode_points(targets.landmarks_xy[faces], learnt)
        marks = landmark_loss(raw.landmark_deltas[positive], wanted, targets.has_landmarks[faces], LANDMARK_BETA)
        box_loss = (distance_box_iou_loss(predicted_xyxy, boxes_xyxy) * confidence).sum()
        return {
            "class": quality_focal_loss(logits, quality).masked_fill(~counted, 0.0).sum() / positives,
            "box": BOX_LOSS_WEIGHT * box_loss / weight,
            "landmarks": LANDMARK_LOSS_WEIGHT * marks,
        }


def _backbone_layers() -> list[nn.Module]:
    layers: list[nn.Module] = [conv_norm(3, 16, relu, stride=2), separable(16, 16, relu)]
    channels = 16
    for out_channels, blocks in STAGES:
        for block in range(blocks):
            layers.append(separable(channels, out_channels, relu, stride=2 if block == 0 else 1))
            channels = out_channels
    return layers


class _PathAggregation(nn.Module):
    """PANet's neck (Liu et al., CVPR 2018): a pyramid from the top down, then once more from the bottom up."""

    def __init__(self) -> None:
        super().__init__()
        self.lateral_convs = nn.ModuleList(nn.Conv2d(tap, PYRAMID_CHANNELS, kernel_size=1) for tap in TAP_CHANNELS)
        self.fpn_convs = nn.ModuleList(_conv3x3(PYRAMID_CHANNELS, PYRAMID_CHANNELS) for _ in TAP_CHANNELS)
        self.downsample_convs = nn.ModuleList(
            _conv3x3(PYRAMID_CHANNELS, PYRAMID_CHANNELS, stride=2) for _ in TAP_CHANNELS[1:]
        )
        self.pafpn_convs = nn.ModuleList(_conv3x3(PYRAMID_CHANNELS, PYRAMID_CHANNELS) for _ in TAP_CHANNELS[1:])
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)

    def forward(self, taps: list[Tensor]) -> list[Tensor]:
        levels = [
            convolution(level)
            for convolution, level in zip(self.fpn_convs, top_down(self.lateral_convs, taps), strict=True)
        ]
        for index, downsample in enumerate(self.downsample_convs):
            levels[index + 1] = levels[index + 1] + downsample(levels[index])
        finest, *coarser = levels
        return [finest, *(convolution(level) for convolution, level in zip(self.pafpn_convs, coarser, strict=True))]


class _LevelHead(nn.Module):
    """Two separable convolutions common to all, then class, box and landmarks of each prior."""

    def __init__(self, priors: int) -> None:
        super().__init__()
        self.shared = nn.Sequential(
            separable(PYRAMID_CHANNELS, HEAD_CHANNELS, relu), separable(HEAD_CHANNELS, HEAD_CHANNELS, relu)
        )
        self.class_conv = _conv3x3(HEAD_CHANNELS, priors)
        self.box_conv = _conv3x3(HEAD_CHANNELS, 4 * priors)
        self.landmark_conv = _conv3x3(HEAD_CHANNELS, 10 * priors)
        for convolution in (self.class_conv, self.box_conv, self.landmark_conv):
            nn.init.normal_(convolution.weight, std=0.01)
        assert self.class_conv.bias is not None and self.box_conv.bias is not None
        # Nearly all priors are background: starting there keeps the first steps calm (RetinaNet, section 4.1).
        nn.init.constant_(self.class_conv.bias, math.log(0.01 / 0.99))

    def forward(self, level: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        shared = self.shared(level)
        return self.class_conv(shared), self.box_conv(shared), self.landmark_conv(shared)


def _conv3x3(channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    convolution = nn.Conv2d(channels, out_channels, kernel_size=3, stride=stride, padding=1)
    assert convolution.bias is not None
    nn.init.zeros_(convolution.bias)
    return convolution
