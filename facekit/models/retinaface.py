"""LightWeight RetinaFace: RetinaFace (Deng et al., CVPR 2020) on small backbones, with two levels, and its three-level
ancestor. Boxes and five landmarks. Module names are those of the published checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import MobileNetV2, efficientnet_b0, mobilenet_v3_small

from facekit.base.schema import Range
from facekit.models.detector_network import DetectorNetwork
from facekit.models.layers import LevelMaps, Tapped, conv_norm, leaky_relu, separable
from facekit.ops.head import declared_head
from facekit.ops.multibox import multibox_losses
from facekit.structures import Priors, RawOutputs, Targets
from facekit.template import ModelSettings

CHANNELS = 64  # of each level behind the taps
BOX_LOSS_WEIGHT = 2.0


@dataclass(frozen=True)
class Options:
    backbone: Literal["mobilenetv1_0.25", "mobilenetv2_0.1", "mobilenetv3_small", "efficientnet_b0"]
    # priors a picture that learn background, even where none learns a face
    least_negatives: Annotated[int, Range(0, 100_000)] = 0


class RetinaFace(DetectorNetwork):
    """As many levels as there are lists of priors, from stride 32 downwards."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        options = settings.options.parse(Options)
        self.least_negatives = options.least_negatives
        levels = len(settings.prior_sizes_wh)
        self.head = declared_head(settings, (8, 16, 32)[-levels:], "softmax", ("landmarks",))
        self.body, tap_channels = _backbone(options.backbone, levels)
        self.fpn = _Pyramid(tap_channels)
        for level in range(1, levels + 1):
            self.add_module(f"ssh{level}", _ContextModule())
        self.ClassHead, self.BboxHead, self.LandmarkHead = (
            nn.ModuleList(_LevelHead(columns * priors) for priors in self.head.priors_a_cell) for columns in (2, 4, 10)
        )

    @property
    def backbone(self) -> nn.Module:
        return self.body

    def forward(self, images: Tensor) -> RawOutputs:
        return self.maps(images).rows(classes=2)

    def maps(self, images: Tensor) -> LevelMaps:
        pyramid = self.fpn(self.body(images))
        levels = [self.get_submodule(f"ssh{number}")(level) for number, level in enumerate(pyramid, start=1)]
        classes, boxes, landmarks = (
            [head(level) for head, level in zip(heads, levels, strict=True)]
            for heads in (self.ClassHead, self.BboxHead, self.LandmarkHead)
        )
        return LevelMaps(classes, boxes, landmark_deltas=landmarks)

    def losses(self, raw: RawOutputs, targets: Targets, priors: Priors) -> dict[str, Tensor]:
        losses = multibox_losses(
            self.head, raw, targets, priors, positive_iou=0.35, negatives_per_positive=7.0, least_forced_iou=0.2,
            least_negatives=self.least_negatives,
        )  # fmt: skip
        return losses | {"box": BOX_LOSS_WEIGHT * losses["box"]}


def _backbone(name: str, levels: int) -> tuple[nn.Module, tuple[int, ...]]:
    """The network, and its taps' channels."""
    if name == "mobilenetv1_0.25":
        return _MobileNetV1(levels), (64, 128, 256)[-levels:]
    if levels != 2:
        raise ValueError(f"{name} has taps for two levels of priors, got {levels}.")
    if name == "mobilenetv2_0.1":
        return Tapped(MobileNetV2(width_mult=0.1, round_nearest=4).features, taps=(13, 18)), (12, 1280)
    if name == "mobilenetv3_small":
        # torchvision's batch norms remember a hundred batches: too many where the training set is a few batches.
        norm = partial(nn.BatchNorm2d, eps=1e-3)
        return Tapped(mobilenet_v3_small(norm_layer=norm).features, taps=(8, 12)), (48, 576)
    return Tapped(efficientnet_b0().features, taps=(5, 8)), (112, 1280)


class _MobileNetV1(nn.Module):
    """A quarter of MobileNetV1's width (Howard et al., 2017), with leaky activations; strides 8, 16, 32."""

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.levels = levels
        self.stage1 = nn.Sequential(
            conv_norm(3, 8, leaky_relu, stride=2),
            separable(8, 16, leaky_relu),
            separable(16, 32, leaky_relu, stride=2),
            separable(32, 32, leaky_relu),
            separable(32, 64, leaky_relu, stride=2),
            separable(64, 64, leaky_relu),
        )
        self.stage2 = nn.Sequential(
            separable(64, 128, leaky_relu, stride=2), *(separable(128, 128, leaky_relu) for _ in range(5))
        )
        self.stage3 = nn.Sequential(separable(128, 256, leaky_relu, stride=2), separable(256, 256, leaky_relu))

    def forward(self, images: Tensor) -> list[Tensor]:
        first = self.stage1(images)
        second = self.stage2(first)
        return [first, second, self.stage3(second)][-self.levels :]


class _Pyramid(nn.Module):
    """Top-down: the coarser level, doubled in size, is added to the finer one, and a 3x3 convolution merges them."""

    def __init__(self, tap_channels: tuple[int, ...]) -> None:
        super().__init__()
        self.levels = len(tap_channels)
        for number, channels in enumerate(tap_channels, start=1):
            self.add_module(f"output{number}", conv_norm(channels, CHANNELS, leaky_relu, kernel_size=1))
        for number in range(1, self.levels):
            self.add_module(f"merge{number}", conv_norm(CHANNELS, CHANNELS, leaky_relu))

    def forward(self, taps: list[Tensor]) -> list[Tensor]:
        levels = [self.get_submodule(f"output{number}")(tap) for number, tap in enumerate(taps, start=1)]
        for index in range(self.levels - 2, -1, -1):
            coarser = F.interpolate(levels[index + 1], size=levels[index].shape[2:], mode="nearest")
            levels[index] = self.get_submodule(f"merge{index + 1}")(levels[index] + coarser)
        return levels


class _ContextModule(nn.Module):
    """SSH's (Najibi et al., ICCV 2017, figure 4): one, two and three 3x3 convolutions side by side."""

    def __init__(self) -> None:
        super().__init__()
        half, quarter = CHANNELS // 2, CHANNELS // 4
        self.conv3X3 = conv_norm(CHANNELS, half, activation=None)
        self.conv5X5_1 = conv_norm(CHANNELS, quarter, leaky_relu)
        self.conv5X5_2 = conv_norm(quarter, quarter, activation=None)
        self.conv7X7_2 = conv_norm(quarter, quarter, leaky_relu)
        self.conv7x7_3 = conv_norm(quarter, quarter, activation=None)

    def forward(self, x: Tensor) -> Tensor:
        shared = self.conv5X5_1(x)
        parts = [self.conv3X3(x), self.conv5X5_2(shared), self.conv7x7_3(self.conv7X7_2(shared))]
        return F.relu(torch.cat(parts, dim=1))


class _LevelHead(nn.Module):
    def __init__(self, out_channels: int) -> None:
        super().__init__()
        self.conv1x1 = nn.Conv2d(CHANNELS, out_channels, kernel_size=1)

    def forward(self, level: Tensor) -> Tensor:
        return cast(Tensor, self.conv1x1(level))
