"""Backbones that start from torchvision's ImageNet weights, turned to the input that the template feeds."""

from __future__ import annotations

import difflib
import hashlib
import logging
import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import urlparse

import torch
from torch import Tensor, nn

from facekit.base.download import Identity, digests, download, partial_path
from facekit.base.files import beside_name
from facekit.errors import FacekitError
from facekit.template import InputSettings, Template
from facekit.weights.checkpoint import load_state
from facekit.weights.torch_file import read_torch_file

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum

log = logging.getLogger(__name__)

# What torchvision's weights are fed with: RGB, (pixel / 255 - mean) / std.
MEAN_RGB, STD_RGB = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def load_imagenet_backbone(network: nn.Module, template: Template) -> bool:
    """Fills network.backbone with template.model.imagenet_weights; False where there are none to be had, which is a
    warning if the template names some.

    In evaluation the backbone then computes for the template's input what torchvision's computes for its own, but for
    the zero-padded border. Raises FacekitError for a name that torchvision does not know, for weights of another
    network, and for a damaged file.
    """
    name = template.model.imagenet_weights
    if name is None:
        return False
    where = f"{template.model.options.file}: model.imagenet_weights: {name}"
    path = _bring(_find(name, where), name)
    if path is None:
        return False
    backbone = getattr(network, "backbone", None)
    if not isinstance(backbone, nn.Module):
        raise FacekitError(f"{where}: {template.model.architecture} has no backbone to fill. Write null instead.")
    _fill(backbone, _read(path), where)
    turn_to_input(backbone, template.input)
    return True


def _find(name: str, where: str) -> WeightsEnum:
    """torchvision's entry of that name, such as MobileNet_V2_Weights.IMAGENET1K_V1."""
    from torchvision import models

    enums = [models.get_model_weights(model) for model in models.list_models(module=models)]
    known = {f"{enum.__name__}.{entry}": weights for enum in enums for entry, weights in enum.__members__.items()}
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
        raise FacekitError(f"{where}: no ImageNet weights of torchvision's; did you mean {near}? null is for none.")
    return known[name]


def _bring(weights: WeightsEnum, name: str) -> Path | None:
    """The file in torch's cache, downloaded if need be; None, with a warning, where that fails."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / PurePosixPath(urlparse(weights.url).path).name
    match = re.search(r"-([0-9a-f]{8,})\.", path.name)
    digits = match[1] if match else ""  # the first ones of the content's sha256
    try:
        if not path.exists():
            _download(weights, path, digits)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, FacekitError) as error:
        log.warning(
            "%s can't be had (%s): the backbone starts from random weights. To start from these, get %s elsewhere, put "
            "it at %s, and run the command again; `from_scratch` does without them and this warning.",
            name, str(error).strip(), weights.url, path,
        )  # fmt: skip
        return None
    if not digest.startswith(digits):
        raise FacekitError(
            f"{path}: cut off or damaged: its sha256 starts with {digest[: len(digits)]}, expected {digits}. Delete "
            f"it, and the next run downloads it again from {weights.url}."
        )
    return path


def _download(weights: WeightsEnum, path: Path, digits: str) -> None:
    log.info("Downloading %s to %s", weights.url, path)
    most = int((float(weights.meta.get("_file_size", 63)) + 1) * (1 << 20))  # which torchvision gives in MiB
    part = beside_name(path)
    try:
        download((weights.url,), Identity(None), part, most)
        digest = digests(part)["sha256"]
        if not digest.startswith(digits):
            raise FacekitError(f"{weights.url}: its sha256 starts with {digest[: len(digits)]}, expected {digits}")
        part.replace(path)
    finally:
        for left in (part, partial_path(part)):
            left.unlink(missing_ok=True)


def _read(path: Path) -> dict[str, Tensor]:
    content = read_torch_file(path)
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise FacekitError(f"{path}: no torchvision weights (expected tensors by name). Delete it, and run again.")
    return content


def _fill(backbone: nn.Module, state: dict[str, Tensor], where: str) -> None:
    """Takes what the backbone has; torchvision's classifier and blocks behind our last tap stay out."""
    if (renamed := getattr(backbone, "from_torchvision", None)) is not None:
        state = renamed(state)
    wanted = backbone.state_dict()
    # Files from before PyTorch 0.4.1 lack the counters, which compute nothing.
    state = {name: tensor for name, tensor in wanted.items() if name.endswith("num_batches_tracked")} | state
    try:
        load_state(backbone, {name: state[name] for name in wanted if name in state}, where)
    except FacekitError as error:
        raise FacekitError(f"{error}\nName weights of the template's own backbone, or null for none.") from error


def turn_to_input(backbone: nn.Module, settings: InputSettings) -> None:
    """Makes the first convolution and its batch norm expect the template's input in place of torchvision's."""
    convolution = next(module for module in backbone.modules() if isinstance(module, nn.Conv2d))
    norm = next(module for module in backbone.modules() if isinstance(module, nn.BatchNorm2d))
    running_mean, running_var = norm.running_mean, norm.running_var
    assert convolution.bias is None and running_mean is not None and running_var is not None
    mean, std = (torch.tensor(values, dtype=torch.float64) for values in (settings.mean, settings.std))
    their_mean, their_std = (torch.tensor(values, dtype=torch.float64) for values in (MEAN_RGB, STD_RGB))
    if settings.colour_order == "bgr":
        mean, std = mean.flip(0), std.flip(0)
    # theirs = ours * scale + shift, a colour; what a constant shift adds behind the convolution, the norm takes off.
    scale, shift = std / 255 / their_std, (mean / 255 - their_mean) / their_std
    # Pixels that were never divided ask for weights sixty times smaller, which the first steps of training would run
    # over: the norm divides instead. (Not where weights must grow: its epsilon would have to become negative.)
    share = min(1.0, float(scale.mean()))
    with torch.no_grad():
        weight = convolution.weight.double().cpu()
        added = (weight * shift.view(1, 3, 1, 1)).sum(dim=(1, 2, 3))
        weight = weight * (scale / share).view(1, 3, 1, 1)
        convolution.weight.copy_(weight.flip(1) if settings.colour_order == "bgr" else weight)
        running_mean.copy_((running_mean.double().cpu() - added) / share)
        running_var.copy_((running_var.double().cpu() + norm.eps) / share**2 - norm.eps)
