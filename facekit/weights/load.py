"""Other systems' weights under our names, every tensor accounted for; the format is recognised, not asked for."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from facekit.errors import FacekitError
from facekit.models import build_model
from facekit.template import TEMPLATES_DIR, Template, load_template
from facekit.weights.checkpoint import Checkpoint, check_state, load_state, new_meta, parse_checkpoint
from facekit.weights.foreign import find_state_dict, plain_names, read_safetensors
from facekit.weights.imagenet import turn_to_input
from facekit.weights.onnx_graph import read_onnx
from facekit.weights.openvino_ir import read_ir
from facekit.weights.torch_file import BRING_AGAIN, DamagedCheckpointError, read_torch_file
from facekit.weights.torch_names import imagenet_backbone, our_names

log = logging.getLogger(__name__)


def load_weights(source: Path, template: Template) -> Checkpoint:
    """Our own checkpoint or any foreign file of the template's detector, as a Checkpoint whose tensors all are the
    network's, and numbers that it can run with.

    A foreign one carries the template's epoch count, so that --resume-from with more epochs trains on, and no optimiser
    state. Raises FacekitError for anything that does not fit whole.
    """
    suffix = source.suffix.lower()
    if suffix == ".xml" or (suffix == ".bin" and not _is_of_torch(source)):
        return _accounted(read_ir(source, template), source, template, batch_norm_folded=True)
    if suffix == ".onnx":
        return _accounted(read_onnx(source, template), source, template, batch_norm_folded=True)
    content = read_safetensors(source) if suffix == ".safetensors" else read_torch_file(source)
    ours = parse_checkpoint(content, source, template)
    if ours is not None:
        _check_ours(ours, source, template)
        return ours
    plain = plain_names(find_state_dict(content, source), source)
    _refuse_another_templates_snapshot(source, template)
    if (backbone := imagenet_backbone(plain, template)) is not None:
        return _with_backbone(backbone, source, template)
    renamed = our_names(plain, source, template)
    return _accounted(renamed, source, template, batch_norm_folded=False)


def _is_of_torch(source: Path) -> bool:
    """Whether a .bin is no graph's numbers but what torch.save wrote, as model hubs name it."""
    if source.with_suffix(".xml").exists() or not source.is_file():
        return False
    with source.open("rb") as file:
        return file.read(2) in (b"PK", b"\x80\x02")


def network_tensors(template: Template) -> dict[str, Tensor]:
    """The names, shapes and types of the network's tensors, without numbers."""
    with torch.device("meta"):
        return dict(build_model(template).state_dict())


def _check_ours(checkpoint: Checkpoint, source: Path, template: Template) -> None:
    wanted = network_tensors(template)
    # A compressed network has all of the template's tensors and more: who restores it knows them.
    is_compressed = checkpoint.meta.get("compression") is not None
    check_state(wanted, checkpoint.state_dict, str(source), allow_more=is_compressed)
    average = checkpoint.extra.get("average")
    if average is not None:
        check_state(wanted, average["stepped"], f"{source}: extra.average.stepped")
        if average.get("start") is not None:
            check_state(wanted, average["start"], f"{source}: extra.average.start", allow_more=True)
    for number, entry in _optimizer_entries(checkpoint.optimizer):
        for name, value in entry.items():
            if isinstance(value, Tensor) and not (value.is_floating_point() and bool(value.isfinite().all())):
                raise DamagedCheckpointError(
                    f"{source}: optimizer.state.{number}.{name}: expected finite numbers. {BRING_AGAIN}"
                )


def _optimizer_entries(state: dict[str, Any] | None) -> list[tuple[Any, dict[str, Any]]]:
    entries = (state or {}).get("state")
    return [item for item in entries.items() if isinstance(item[1], dict)] if isinstance(entries, dict) else []


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
    # Files from before PyTorch 0.4.1, and of many converters, don't say how many batches a batch norm has seen, which
    # computes nothing.
    counters = {name: each for name, each in network.state_dict().items() if name.endswith(".num_batches_tracked")}
    load_state(network, counters | state_dict, f"{source} (for template {template.name})")
    meta: dict[str, Any] = new_meta(template, epoch=template.training.epochs, iteration=0)
    meta |= {"imported_from": source.name, "batch_norm_folded": batch_norm_folded}
    return Checkpoint(meta, network.state_dict())


def _refuse_another_templates_snapshot(source: Path, template: Template) -> None:
    # The SSD templates' weights fit each other's networks and mean different priors: only the digest tells them apart.
    with source.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    for path in sorted(TEMPLATES_DIR.glob("*/template.yaml")):
        if digest not in path.read_text(encoding="utf-8"):
            continue
        other = load_template(path)
        published = {file.sha256 for snapshot in other.snapshot for file in snapshot.files}
        if digest in published and other.name != template.name:
            raise FacekitError(
                f"{source}: these are the published weights of {other.name!r}, not of {template.name!r}. "
                f"Use `template={other.name}` or its work dir."
            )
