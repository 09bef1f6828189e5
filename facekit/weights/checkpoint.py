"""Checkpoints: saved whole or not at all, loaded without executing anything, every tensor accounted for."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from facekit.errors import FacekitError
from facekit.files import replacing
from facekit.template import Template

FORMAT = "facekit-1"


class DamagedCheckpointError(FacekitError):
    """A file that was a checkpoint once, or was to become one."""


@dataclass
class Checkpoint:
    """A snapshot of training: `meta` is plain data, the rest what the parts' own state_dict() gave."""

    meta: dict[str, Any]
    state_dict: dict[str, Tensor]
    optimizer: dict[str, Any] | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def epoch(self) -> int:
        """Epochs that are finished."""
        return int(self.meta["epoch"])

    @property
    def epoch_iteration(self) -> int:
        """Iterations that are done of the epoch behind those; checkpoints from before there were such have none."""
        return int(self.meta.get("epoch_iteration", 0))


OF_TRAINING = ("best_ap", "stagnation", "training")  # in meta: what only a run that goes on asks for


def weights_alone(checkpoint: Checkpoint) -> Checkpoint:
    """What a snapshot needs: without the optimiser's state, which is twice the weights, and without the run's."""
    meta = {key: value for key, value in checkpoint.meta.items() if key not in OF_TRAINING}
    return Checkpoint(meta, checkpoint.state_dict)


def new_meta(template: Template, epoch: int, iteration: int) -> dict[str, Any]:
    """What a checkpoint says of itself: which detector, and how far it was trained."""
    return {
        "format": FORMAT,
        "template": template.name,
        "model": describe_model(template),
        "epoch": epoch,
        "iteration": iteration,
        "epoch_iteration": 0,
        "batch_norm_folded": False,
        "compression": None,
    }


def describe_model(template: Template) -> dict[str, Any]:
    """What must agree between a checkpoint and a template for the weights to mean the same, as plain data."""
    model = template.model
    return {
        "architecture": model.architecture,
        "prior_sizes_wh": [[list(size) for size in level] for level in model.prior_sizes_wh],
        "input": {key: _plain(value) for key, value in asdict(template.input).items() if key != "size_hw"},
    }


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Atomic, with a digest of all that is in it. Raises FacekitError where the disk refuses."""
    content: dict[str, Any] = {
        "meta": checkpoint.meta,
        "state_dict": checkpoint.state_dict,
        "optimizer": checkpoint.optimizer,
        "extra": checkpoint.extra,
    }
    content["digest"] = content_digest(content)
    write_torch_file(path, content)


def write_torch_file(path: Path, content: Any) -> None:
    """torch.save, atomic. Raises FacekitError where the disk refuses."""
    with replacing(path) as beside:
        try:
            torch.save(content, beside)
        except RuntimeError as error:  # torch's own writer reports a full or closed disk so
            raise OSError(str(error).splitlines()[0]) from error


def content_digest(content: Any) -> str:
    """sha256, hexadecimal, over plain data and tensors in any nesting: names, kinds, shapes and values, bit by bit.

    torch.save's own checksums are not compared by torch.load; a flipped bit would go unseen.
    """
    digest = hashlib.sha256()
    _digest_part(content, digest)
    return digest.hexdigest()


def _digest_part(part: Any, digest: Any) -> None:
    if isinstance(part, Tensor):
        digest.update(f"{part.dtype}{tuple(part.shape)}".encode())
        # Their bytes: NumPy has no bfloat16.
        digest.update(part.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    elif isinstance(part, dict):
        digest.update(f"dict{len(part)}".encode())
        for key, value in part.items():
            _digest_part(key, digest)
            _digest_part(value, digest)
    elif isinstance(part, list | tuple):
        digest.update(f"{type(part).__name__}{len(part)}".encode())
        for value in part:
            _digest_part(value, digest)
    else:
        text = repr(part)
        digest.update(f"{type(part).__name__}{len(text)}:{text}".encode())


def read_torch_file(path: Path) -> Any:
    """torch.load that can't execute code. Raises FacekitError for a file that is missing, DamagedCheckpointError for
    one that is cut off or no checkpoint."""
    if not path.is_file():
        raise FacekitError(f"{path}: there is no such checkpoint. Check the path.")
    try:
        path.open("rb").close()
    except OSError as error:
        raise FacekitError(
            f"{path}: the checkpoint can't be read ({error.strerror}). Check its permissions."
        ) from error
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file trips torch in any way, from EINVAL at a seek to IndexError
        raise DamagedCheckpointError(
            f"{path}: not a checkpoint that can be loaded safely ({path.stat().st_size} bytes): cut off, damaged, or "
            f"not made by torch.save. Bring the file again, or take the previous epoch's."
        ) from error


def parse_checkpoint(content: Any, path: Path, template: Template) -> Checkpoint | None:
    """The checkpoint if the content is one of ours, None if it is something else (try facekit.weights.load).

    Raises FacekitError when it belongs to another detector than the template's, DamagedCheckpointError where it isn't
    what was saved (older checkpoints hold no digest to tell by).
    """
    meta = content.get("meta") if isinstance(content, dict) else None
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        return None
    _refuse_damaged(content, path)
    wanted, given = describe_model(template), meta["model"]
    differing = [key for key in wanted if wanted[key] != given.get(key)]
    if differing:
        key = differing[0]
        raise FacekitError(
            f"{path}: made for template {meta.get('template')!r}, not for {template.name!r}: they differ in "
            f"{', '.join(differing)} ({key}: expected {_brief(wanted[key])}, got {_brief(given.get(key))}). "
            f"Use the work dir of {meta.get('template')!r}, or weights of {template.name!r}."
        )
    return Checkpoint(meta, content["state_dict"], content.get("optimizer"), content.get("extra") or {})


def _refuse_damaged(content: dict[str, Any], path: Path) -> None:
    meta, state_dict = content["meta"], content.get("state_dict")
    checks = {
        "meta.model": isinstance(meta.get("model"), dict),
        "meta.epoch": isinstance(meta.get("epoch"), int),
        "meta.iteration": isinstance(meta.get("iteration"), int),
        "meta.epoch_iteration": isinstance(meta.get("epoch_iteration", 0), int),
        "state_dict": isinstance(state_dict, dict)
        and all(isinstance(name, str) and isinstance(value, Tensor) for name, value in state_dict.items()),
        "optimizer": isinstance(content.get("optimizer"), dict | None),
        "extra": isinstance(content.get("extra"), dict | None),
    }
    wrong = [part for part, is_good in checks.items() if not is_good]
    if wrong:
        raise DamagedCheckpointError(
            f"{path}: a damaged checkpoint: {', '.join(wrong)} missing or of the wrong kind. Bring the file again, or "
            f"take the previous epoch's."
        )
    saved = content.get("digest")
    if saved is not None and saved != content_digest({key: content[key] for key in content if key != "digest"}):
        raise DamagedCheckpointError(
            f"{path}: a damaged checkpoint: its content is not what was saved (the sha256 differs). Bring the file "
            f"again, or take the previous epoch's."
        )


def _brief(value: Any) -> str:
    text = str(value)
    return text if len(text) < 60 else text[:57] + "..."


def load_state(network: nn.Module, state_dict: dict[str, Tensor], source: str) -> None:
    """Fills the network. Raises FacekitError that lists every tensor that is missing, unexpected or misshapen."""
    wanted = network.state_dict()
    missing = [name for name in wanted if name not in state_dict]
    unexpected = [name for name in state_dict if name not in wanted]
    misshapen = [
        f"{name} (expected {tuple(wanted[name].shape)}, got {tuple(tensor.shape)})"
        for name, tensor in state_dict.items()
        if name in wanted and tensor.shape != wanted[name].shape
    ]
    complaints = [
        f"  {what} ({len(names)}): {', '.join(names)}"
        for what, names in (("missing", missing), ("unexpected", unexpected), ("wrong shape", misshapen))
        if names
    ]
    if complaints:
        raise FacekitError(f"{source}: the weights don't fit this template's network:\n" + "\n".join(complaints))
    network.load_state_dict(state_dict)
