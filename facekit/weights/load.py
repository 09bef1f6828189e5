"""Other systems' weights under our names, every tensor accounted for; the format is recognised, not asked for."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from facekit.errors import FacekitError
from facekit.models import build_model
from facekit.template import TEMPLATES_DIR, Template, load_template
from facekit.weights.checkpoint import Checkpoint, load_state, new_meta, parse_checkpoint, read_torch_file
from facekit.weights.imagenet import turn_to_input
from facekit.weights.onnx_graph import read_onnx
from facekit.weights.openvino_ir import read_ir
from facekit.weights.torch_names import imagenet_backbone, our_names

log = logging.getLogger(__name__)


def load_weights(source: Path, template: Template) -> Checkpoint:
    """Our own checkpoint or any foreign file of the template's detector, as a Checkpoint.

    A foreign one carries the template's epoch count, so that --resume-from with more epochs trains on, and no optimiser
    state. Raises FacekitError for anything that does not fit whole.
    """
    if source.suffix in (".xml", ".bin"):
        return _accounted(read_ir(source, template), source, template, batch_norm_folded=True)
    if source.suffix == ".onnx":
        return _accounted(read_onnx(source, template), source, template, batch_norm_folded=True)
    content = read_torch_file(source)
    ours = parse_checkpoint(content, source, template)
    if ours is not None:
        return ours
    state_dict = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state_dict, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state_dict.items()
    ):
        raise FacekitError(f"{source}: holds no state_dict of tensors. Expected a checkpoint of {template.name}.")
    _refuse_another_templates_snapshot(source, template)
    plain = {name.removeprefix("module."): tensor for name, tensor in state_dict.items()}
    if len(plain) < len(state_dict):
        raise FacekitError(
            f"{source}: holds names with and without 'module.' in front. Which are meant? Take some out."
        )
    if (backbone := imagenet_backbone(plain, template)) is not None:
        return _with_backbone(backbone, source, template)
    renamed = our_names(plain, source, template)
    return _accounted(renamed, source, template, batch_norm_folded=False)


def _with_backbone(backbone: dict[str, Tensor], source: Path, template: Template) -> Checkpoint:
    """A network that was trained for nothing yet but its backbone, on ImageNet."""
    network = build_model(template)
    part = network.backbone
    assert isinstance(part, nn.Module)
    load_state(part, backbone, f"{source} (for the backbone of {template.name})")
    turn_to_input(part, template.input)
    log.info("%s holds an ImageNet backbone alone: the rest of %s is random and wants training.", source, template.name)
    meta = new_meta(template, epoch=0, iteration=0) | {"imported_from": source.name}
    return Checkpoint(meta, network.state_dict())


def _accounted(state_dict: dict[str, Tensor], source: Path, template: Template, batch_norm_folded: bool) -> Checkpoint:
    network = build_model(template)
    load_state(network, state_dict, f"{source} (for template {template.name})")
    meta: dict[str, Any] = new_meta(template, epoch=template.training.epochs, iteration=0)
    meta |= {"imported_from": source.name, "batch_norm_folded": batch_norm_folded}
    return Checkpoint(meta, network.state_dict())


def _refuse_another_templates_snapshot(source: Path, template: Template) -> None:
    # The SSD templates' weights fit each other's networks and mean different priors: only the digest tells them apart.
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    for path in sorted(TEMPLATES_DIR.glob("*/template.yaml")):
        other = load_template(path)
        published = {file.sha256 for snapshot in other.snapshot for file in snapshot.files}
        if digest in published and other.name != template.name:
            raise FacekitError(
                f"{source}: these are the published weights of {other.name!r}, not of {template.name!r}. "
                f"Use `template={other.name}` or its work dir."
            )
