"""The tensors' names in the official checkpoints of each family, and ours for them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from facekit.errors import FacekitError
from facekit.template import Template

# pytorchcv counts MobileNetV2's blocks by stage and unit; ours go by torchvision's running number after the stem.
_UNITS_BEFORE_STAGE = {1: 0, 2: 1, 3: 3, 4: 6, 5: 13}
_MOBILENETV2_PARTS = {
    "conv1.conv": "conv.0.0",
    "conv1.bn": "conv.0.1",
    "conv2.conv": "conv.1.0",
    "conv2.bn": "conv.1.1",
    "conv3.conv": "conv.2",
    "conv3.bn": "conv.3",
}
_SHUFFLENETV2_PARTS = {
    "compress_conv1": "branch2.0",
    "compress_bn1": "branch2.1",
    "dw_conv2": "branch2.3",
    "dw_bn2": "branch2.4",
    "expand_conv3": "branch2.5",
    "expand_bn3": "branch2.6",
    "dw_conv4": "branch1.0",
    "dw_bn4": "branch1.1",
    "expand_conv5": "branch1.2",
    "expand_bn5": "branch1.3",
}


def imagenet_backbone(state_dict: dict[str, Tensor], template: Template) -> dict[str, Tensor] | None:
    """The tensors of network.backbone if the file is a classifier that was trained on ImageNet for it: MobileNetV1 of
    the RetinaFace family, `stage1` to `stage3` and `fc`. None for any other file."""
    if template.model.architecture != "retinaface" or not any(name.startswith("fc.") for name in state_dict):
        return None
    backbone = {name: tensor for name, tensor in state_dict.items() if not name.startswith("fc.")}
    return backbone if all(re.match(r"stage[123]\.", name) for name in backbone) else None


def our_names(state_dict: dict[str, Tensor], source: Path, template: Template) -> dict[str, Tensor]:
    """The same tensors under our names; names that no rule knows stay as they are, to be listed as unexpected.

    Raises FacekitError where two tensors get the same name.
    """
    rules = _RULES.get(template.model.architecture, ())  # none: the names are ours
    renamed: dict[str, Tensor] = {}
    for name, tensor in state_dict.items():
        ours = next((found for rule in rules if (found := rule(name)) is not None), name)
        if ours in renamed:
            raise FacekitError(f"{source}: holds {ours} twice, once as {name}. Which one is meant? Take one out.")
        renamed[ours] = tensor
    return renamed


def _mobilenetv2(name: str) -> str | None:
    """pytorchcv's MobileNetV2."""
    if match := re.fullmatch(r"backbone\.features\.init_block\.(conv|bn)\.(\w+)", name):
        return f"backbone.features.0.{0 if match[1] == 'conv' else 1}.{match[2]}"
    if match := re.fullmatch(r"backbone\.features\.stage([1-5])\.unit(\d+)\.(conv\d\.(?:conv|bn))\.(\w+)", name):
        block = _UNITS_BEFORE_STAGE[int(match[1])] + int(match[2])
        part = _MOBILENETV2_PARTS.get(match[3], match[3])
        if block == 1:  # a plain sequence in our backbone, without torchvision's `conv` around it
            part = part.removeprefix("conv.")
        return f"backbone.features.{block}.{part}.{match[4]}"
    return None


def _shufflenetv2(name: str) -> str | None:
    """pytorchcv's ShuffleNetV2."""
    if match := re.fullmatch(r"backbone\.features\.init_block\.conv\.(conv|bn)\.(\w+)", name):
        return f"backbone.conv1.{0 if match[1] == 'conv' else 1}.{match[2]}"
    if match := re.fullmatch(r"backbone\.features\.stage([1-3])\.unit(\d+)\.(\w+?_(?:conv|bn)\d)\.(\w+)", name):
        part = _SHUFFLENETV2_PARTS.get(match[3], match[3])
        return f"backbone.stage{int(match[1]) + 1}.{int(match[2]) - 1}.{part}.{match[4]}"
    return None


def _resnet(name: str) -> str | None:
    """pytorchcv's ResNet."""
    if match := re.fullmatch(r"backbone\.features\.init_block\.conv\.(conv|bn)\.(\w+)", name):
        return f"backbone.{match[1]}1.{match[2]}"
    if match := re.fullmatch(r"backbone\.features\.stage([1-4])\.unit(\d+)\.(.+)\.(\w+)", name):
        part = re.sub(r"body\.conv([1-3])\.(conv|bn)", r"\2\1", match[3])
        part = {"identity_conv.conv": "downsample.0", "identity_conv.bn": "downsample.1"}.get(part, part)
        return f"backbone.layer{match[1]}.{int(match[2]) - 1}.{part}.{match[4]}"
    return None


def _ssd_head(name: str) -> str | None:
    if match := re.fullmatch(r"bbox_head\.(reg|cls)_convs\.(.+)", name):
        return f"{'box' if match[1] == 'reg' else 'class'}_heads.{match[2]}"
    return "loss_log_variances" if name == "bbox_head.loss_weights" else None


def _pyramid(name: str) -> str | None:
    """mmdetection's FPN, and the context modules of its RSSH_FPN."""
    if match := re.fullmatch(r"neck\.((?:lateral|fpn)_convs\.\d+)\.conv\.(\w+)", name):
        return f"neck.{match[1]}.{match[2]}"
    if match := re.fullmatch(r"neck\.(context_modules\.\d+\.conv\d)\.conv\.(\w+)", name):
        return f"{match[1]}.{match[2]}"
    return None


def _dense_head(name: str) -> str | None:
    """mmdetection's heads of FCOS (names before and after its version 2.2) and ATSS."""
    kinds = {"cls": "class", "reg": "box", "centerness": "centre_ness"}
    if match := re.fullmatch(r"bbox_head\.(cls|reg)_convs\.(\d+)\.(conv|gn)\.(\w+)", name):
        return f"bbox_head.{kinds[match[1]]}_tower.{3 * int(match[2]) + (match[3] == 'gn')}.{match[4]}"
    if match := re.fullmatch(r"bbox_head\.(?:conv|fcos|atss)_(cls|reg|centerness)\.(\w+)", name):
        return f"bbox_head.{kinds[match[1]]}_conv.{match[2]}"
    if match := re.fullmatch(r"bbox_head\.scales\.(\d+)\.scale", name):
        return f"bbox_head.scales.{match[1]}"
    return None


_RULES: dict[str, tuple[Callable[[str], str | None], ...]] = {
    "ssd": (_mobilenetv2, _shufflenetv2, _ssd_head),
    "fcos": (_mobilenetv2, _pyramid, _dense_head),
    "atss": (_resnet, _pyramid, _dense_head),
    # Ours are the published names.
    "yunet": (),
    "ultralight": (),
    "retinaface": (),
    "scrfd": (),
}
