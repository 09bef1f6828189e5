"""Checkpoints: saved whole or not at all, their records checked when read, every tensor accounted for."""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from facekit.base.files import check_ours, replacing
from facekit.base.reading import shown
from facekit.base.schema import Length, Range, from_plain
from facekit.errors import FacekitError
from facekit.template import Template
from facekit.weights.torch_file import BRING_AGAIN, DamagedCheckpointError, read_torch_file

FORMAT = "facekit-1"
MAX_EPOCH = 10_000_000

Count = Annotated[int, Range(0, 10**12)]
Epoch = Annotated[int, Range(0, MAX_EPOCH)]
Ap = Annotated[float, Range(-1, 100)]  # per cent; -1 before the first evaluation


@dataclass(frozen=True)
class _Stagnation:
    ap: Ap
    gain_epoch: Epoch
    epoch: Epoch


@dataclass(frozen=True)
class _Meta:
    """What `meta` may hold, so far as it is known here; newer keys are let be."""

    format: str
    template: Annotated[str, Length(1, 300)]
    model: dict[str, Any]
    epoch: Epoch
    iteration: Count
    epoch_iteration: Count = 0
    batch_norm_folded: bool = False
    compression: dict[str, Any] | None = None
    imported_from: str | None = None
    best_ap: Ap = -1.0
    validation: Annotated[str, Length(0, 1000)] = ""
    stagnation: _Stagnation | None = None
    training: dict[str, Annotated[float, Range(-1e19, 1e19)]] | None = None  # settings by name


@dataclass(frozen=True)
class _Average:
    steps: Count
    stepped: dict[str, Tensor]
    start: dict[str, Tensor] | None = None


@dataclass(frozen=True)
class _Extra:
    scaler: dict[str, float] | None = None
    random: tuple[dict[str, Tensor], ...] | None = None
    average: _Average | None = None


@dataclass(frozen=True)
class _Content:
    """What a file of ours holds."""

    state_dict: dict[str, Tensor]
    optimizer: dict[str, Any] | None = None
    extra: dict[str, Any] | None = None


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


OF_TRAINING = (
    "best_ap",
    "start_ap",
    "validation",
    "stagnation",
    "training",
)  # in meta: what only a run that goes on asks for


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


def check_replaceable_checkpoint(path: Path) -> None:
    """Raises FacekitError for a file that is there and no checkpoint of facekit's: somebody's own weights, say."""
    check_ours(path, _is_own, "is no checkpoint that facekit wrote")


def _is_own(path: Path) -> bool:
    try:
        return bool(read_torch_file(path)["meta"]["format"] == FORMAT)
    except (FacekitError, KeyError, TypeError, IndexError):
        return False


def write_torch_file(path: Path, content: Any) -> None:
    """torch.save, atomic. Raises FacekitError where the disk refuses."""
    with replacing(path) as beside:
        try:
            torch.save(content, beside)
        except RuntimeError as error:  # torch's own writer reports a full or closed disk so
            free = shutil.disk_usage(beside.parent).free
            raise OSError(f"{str(error).splitlines()[0]}; {free >> 20} MiB of the disk are free") from error


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
    if differing and meta.get("template") == template.name:
        place, expected, got = _first_difference(wanted, given, "")
        raise FacekitError(
            f"{path}: made for another {template.name!r}, whose template was edited since: {place}: expected "
            f"{_brief(expected)}, got {_brief(got)}. Put {place} back in the template, or train for it anew."
        )
    if differing:
        key = differing[0]
        raise FacekitError(
            f"{path}: made for template {meta.get('template')!r}, not for {template.name!r}: they differ in "
            f"{', '.join(differing)} ({key}: expected {_brief(wanted[key])}, got {_brief(given.get(key))}). "
            f"Use the work dir of {meta.get('template')!r}, or weights of {template.name!r}."
        )
    return Checkpoint(meta, content["state_dict"], content.get("optimizer"), content.get("extra") or {})


def _refuse_damaged(content: dict[str, Any], path: Path) -> None:
    try:
        if not _is_plain(content["meta"]):
            raise ValueError("meta: holds what is no plain data")
        _check_known(_Meta, content["meta"], "meta")
        _check_known(_Content, content, "checkpoint")
        _check_known(_Extra, content.get("extra") or {}, "extra")
    except ValueError as error:
        raise DamagedCheckpointError(f"{path}: a damaged checkpoint: {error}. {BRING_AGAIN}") from error
    saved = content.get("digest")
    if saved is not None and saved != content_digest({key: content[key] for key in content if key != "digest"}):
        raise DamagedCheckpointError(
            f"{path}: a damaged checkpoint: its content is not what was saved (the sha256 differs). {BRING_AGAIN}"
        )


def _check_known(cls: type, content: dict[str, Any], key: str) -> None:
    """Raises ValueError for keys of the dataclass that are missing or hold something else."""
    known = (part.name for part in fields(cls))
    from_plain(cls, {name: content[name] for name in known if name in content}, key)


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(_is_plain(item) for item in value)
    return value is None or isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value))


def _first_difference(wanted: Any, given: Any, place: str) -> tuple[str, Any, Any]:
    """Where two descriptions of a model differ first, such as input.mean or prior_sizes_wh[1][0], and both values."""
    if isinstance(wanted, dict) and isinstance(given, dict):
        for key, value in wanted.items():
            if value != given.get(key):
                return _first_difference(value, given.get(key), f"{place}.{key}" if place else key)
    both_lists = isinstance(wanted, list) and isinstance(given, list) and len(wanted) == len(given)
    if both_lists and any(isinstance(value, list) for value in wanted):
        for number, (value, other) in enumerate(zip(wanted, given, strict=True)):
            if value != other:
                return _first_difference(value, other, f"{place}[{number}]")
    return place, wanted, given


def _brief(value: Any) -> str:
    text = str(value)
    return text if len(text) < 60 else text[:57] + "..."


def load_state(network: nn.Module, state_dict: dict[str, Tensor], source: str) -> None:
    """Fills the network. Raises FacekitError that lists every tensor that is missing, unexpected or misshapen, and for
    one whose numbers can't be weights."""
    check_state(network.state_dict(), state_dict, source)
    network.load_state_dict(state_dict)


def check_state(
    wanted: Mapping[str, Tensor], state_dict: Mapping[str, Tensor], source: str, allow_more: bool = False
) -> None:
    """Raises FacekitError as load_state does. wanted: tensors of the names, shapes and types that a network has; their
    values don't matter. allow_more: whether state_dict may hold others, of which the numbers are looked at alone."""
    missing = [name for name in wanted if name not in state_dict]
    unexpected = [] if allow_more else [name for name in state_dict if name not in wanted]
    misshapen = [
        f"{name} (expected {tuple(wanted[name].shape)}, got {tuple(tensor.shape)})"
        for name, tensor in state_dict.items()
        if name in wanted and tensor.shape != wanted[name].shape
    ]
    complaints = [
        f"  {what} ({len(names)}): {', '.join(shown(name, 200) for name in names[:500])}{'...' if names[500:] else ''}"
        for what, names in (("missing", missing), ("unexpected", unexpected), ("wrong shape", misshapen))
        if names
    ]
    if complaints:
        raise FacekitError(f"{source}: the weights don't fit this template's network:\n" + "\n".join(complaints))
    for name, tensor in state_dict.items():
        dtype = wanted[name].dtype if name in wanted else tensor.dtype
        if (problem := _problem(name, tensor, dtype)) is not None:
            raise DamagedCheckpointError(
                f"{source}: {shown(name, 200)}: {problem}. These are no weights that a network can run with."
            )


def _problem(name: str, tensor: Tensor, dtype: torch.dtype) -> str | None:
    """What keeps the tensor's values from being a network's, where that has values of a dtype."""
    if dtype.is_floating_point:
        if not tensor.is_floating_point():
            return f"expected real floating numbers, got {tensor.dtype}"
        if not tensor.to(dtype).isfinite().all():
            return "holds numbers that are not finite (NaN or infinity)"
    elif tensor.dtype != dtype and (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool):
        return f"expected whole numbers, got {tensor.dtype}"
    if name.endswith(("running_var", "num_batches_tracked")) and tensor.numel() and float(tensor.min()) < 0:
        return f"holds {float(tensor.min()):g}, expected 0 or more"
    return None
