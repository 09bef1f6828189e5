"""run.json: all that a run's weights came from, and what came out."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from facekit.base.files import real_path, write_text
from facekit.base.progress import progress_bar
from facekit.base.reading import file_sha256, read_text, shown
from facekit.base.schema import Range, from_plain, plain_data
from facekit.errors import FacekitError, masked
from facekit.labels.picture_labels import PictureLabels
from facekit.machine.environment import Environment
from facekit.template import Template, load_template, parse_template

NAME = "run.json"
VERSION = 1  # raised when old readers would misread it
MAX_BYTES = 10_000_000

# Flags that can change between the parts of a run without changing its weights, or say where it starts.
FREE_FLAGS = {
    "resume_from", "load_weights", "from_scratch", "save_checkpoints_to", "tensorboard_dir", "val_interval",
    "checkpoint_interval", "workers", "train_ann_files", "train_data_roots", "val_ann_files", "val_data_roots",
    "cache", "cache_limit", "teacher", "teacher_template", "distill_pictures",
}  # fmt: skip

log = logging.getLogger(__name__)

Count = Annotated[int, Range(0, 10**12)]


@dataclass(frozen=True)
class DataDigest:
    """What tells a set of labelled pictures from another."""

    pictures: Count
    faces: Count
    labels_sha256: str  # names, sizes, boxes, landmarks, as read and in their order
    pictures_sha256: str  # names and bytes of the files; their content would take too long
    label_files: dict[str, str]  # path -> sha256, of those that are single files


@dataclass(frozen=True)
class StartingWeights:
    path: str
    sha256: str  # of the file


@dataclass(frozen=True)
class TeacherOrigin:
    """The detector that a run learnt from."""

    weights: StartingWeights
    template: dict[str, Any]


@dataclass(frozen=True)
class Session:
    """One process's part of the run."""

    command: str
    folder: str  # that it ran in
    started_at: str
    from_iteration: Count
    environment: Environment
    changed: tuple[str, ...]  # what of the weights' origin was not as at the start of the run


@dataclass(frozen=True)
class RunResult:
    finished_at: str
    epoch: Count
    iteration: Count
    weights_sha256: str  # of the tensors, by checkpoint.content_digest


@dataclass(frozen=True)
class RunRecord:
    """A run, as run.json holds it."""

    template: dict[str, Any]
    flags: dict[str, Any]  # of facekit train; paths are absolute
    train_data: DataDigest
    val_data: DataDigest
    weights: StartingWeights | None  # None: as template and flags say
    sessions: tuple[Session, ...]  # the first start, and each --resume-from
    result: RunResult | None = None  # None: not finished
    teacher: TeacherOrigin | None = None

    def processes_on_gpus(self) -> int:
        """0 for a run on the CPU."""
        first = self.sessions[0].environment if self.sessions else None
        return first.processes if first is not None and first.device != "cpu" else 0

    def read_template(self, path: Path) -> Template:
        """Raises FacekitError, naming `path`, for a template that is none."""
        return parse_template(json.dumps(self.template, ensure_ascii=False), path)


def digest_data(pictures: Sequence[PictureLabels], ann_files: Sequence[Path]) -> DataDigest:
    """Of labels that were read from those files."""
    labels, files = hashlib.sha256(), hashlib.sha256()
    faces = 0
    for picture in progress_bar(pictures, delay_s=2, desc="sizes of pictures", unit="picture"):
        name = (picture.name or picture.path.name).encode("utf-8", "surrogateescape")
        faces += len(picture.boxes_xywh)
        labels.update(b"" if picture.is_labelled else b"unlabelled\0")
        labels.update(name + f"\0{picture.size_wh}\0{len(picture.boxes_xywh)}\0".encode())
        for array in (picture.boxes_xywh, picture.landmarks_xy, picture.is_crowd):
            labels.update(np.ascontiguousarray(array).tobytes())
        try:
            size = picture.path.stat().st_size
        except OSError:  # training will say so
            size = -1
        files.update(name + f"\0{size}\0".encode())
    single = [path for path in ann_files if path.is_file()]
    digests = {str(path): file_sha256(path) for path in single}
    return DataDigest(len(pictures), faces, labels.hexdigest(), files.hexdigest(), digests)


def _starting_weights(source: str | None) -> StartingWeights | None:
    if source is None:
        return None
    path = Path(source)
    if path.suffix == ".xml":  # which holds the network, and the file beside it the numbers
        path = path.with_suffix(".bin")
    return StartingWeights(str(path), file_sha256(path))


def teacher_origin(weights: Path | None, template: Path | None) -> TeacherOrigin | None:
    """None without both. Raises FacekitError for files that can't be read."""
    if weights is None or template is None:
        return None
    start = _starting_weights(str(weights))
    assert start is not None
    return TeacherOrigin(start, plain_data(load_template(template)))


def begin_record(
    template: Template,
    flags: dict[str, Any],
    train_data: DataDigest,
    val_data: DataDigest,
    environment: Environment,
    iteration: int,
) -> RunRecord:
    """The record of a run that starts, or goes on in the folder where it has one, as this process sees it.

    flags: the options of facekit train, by name; None and values that JSON holds, and paths.
    """
    flags = {name: _absolute(name, value) for name, value in flags.items()}
    folder = Path(flags["save_checkpoints_to"])
    source = flags["resume_from"] or flags["load_weights"]
    paths = [Path(flags[name]) if flags.get(name) else None for name in ("teacher", "teacher_template")]
    teacher = teacher_origin(*paths)
    record = RunRecord(plain_data(template), flags, train_data, val_data, None, (), teacher=teacher)
    session = Session(masked(shlex.join(sys.argv)), str(Path.cwd()), now(), iteration, environment, ())
    if flags["resume_from"] and Path(flags["resume_from"]).parent == folder and (folder / NAME).is_file():
        try:
            before = read_record(folder / NAME)
        except FacekitError as error:
            log.warning("%s It is written anew, as of a run that starts here.", error)
        else:
            session = dataclasses.replace(session, changed=_changes(before, record))
            return dataclasses.replace(before, sessions=(*before.sessions, session), result=None)
    return dataclasses.replace(record, weights=_starting_weights(source), sessions=(session,))


def _absolute(name: str, value: Any) -> Any:
    if isinstance(value, Path):
        return str(real_path(value))
    if name.endswith(("ann_files", "data_roots")):
        return [os.path.abspath(part) for part in value]  # noqa: PTH100 - a part may be DIR:train
    return value


def _changes(before: RunRecord, record: RunRecord) -> tuple[str, ...]:
    changes = [
        f"--{name.replace('_', '-')} {before.flags.get(name)} -> {value}"
        for name, value in record.flags.items()
        if name not in FREE_FLAGS and before.flags.get(name) != value
    ]
    if not _is_same_template(before, record):
        keys = ", ".join(_differing(before.template, record.template))
        changes.append(f"the template ({shown(keys, 300)})" if keys else "the template")
    changes += teacher_differences(before.teacher, record.teacher)
    return (*changes, *data_differences(before.train_data, record.train_data, "training"))


def _is_same_template(before: RunRecord, record: RunRecord) -> bool:
    """Whether both mean the same, also where the older lacks keys that have a default now."""
    if before.template == record.template:
        return True
    try:
        return bool(plain_data(before.read_template(Path(NAME))) == plain_data(record.read_template(Path(NAME))))
    except FacekitError:
        return False


def _differing(before: Any, after: Any, key: str = "") -> list[str]:
    """The keys whose values differ."""
    if isinstance(before, dict) and isinstance(after, dict):
        names = dict.fromkeys((*before, *after))
        return [
            found
            for name in names
            for found in _differing(before.get(name), after.get(name), f"{key}.{name}".strip("."))
        ]
    return [] if before == after else [key]


def teacher_differences(before: TeacherOrigin | None, after: TeacherOrigin | None) -> list[str]:
    """What differs of two teachers but their places, in words."""
    if before is None or after is None:
        return [] if before is after else ["the teacher (one run has none)"]
    changes = [] if before.weights.sha256 == after.weights.sha256 else [f"the teacher's weights ({after.weights.path})"]
    return changes + ([] if before.template == after.template else ["the teacher's template"])


def data_differences(before: DataDigest, after: DataDigest, what: str) -> list[str]:
    """What differs of two sets of labelled pictures, in words."""
    if before.labels_sha256 != after.labels_sha256:
        return [
            f"the {what} labels ({before.pictures} pictures with {before.faces} faces -> {after.pictures} with "
            f"{after.faces}; sha256 {before.labels_sha256[:12]} -> {after.labels_sha256[:12]})"
        ]
    if before.pictures_sha256 != after.pictures_sha256:
        return [f"the {what} pictures (their files' sizes differ)"]
    return []


def now() -> str:
    """For people, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def write_record(folder: Path, record: RunRecord) -> None:
    """As run.json, whole or not at all."""
    content = {"facekit_run": VERSION, **plain_data(record)}
    write_text(folder / NAME, json.dumps(content, indent=2) + "\n")


def read_record(path: Path) -> RunRecord:
    """Raises FacekitError for anything but what write_record wrote."""
    try:
        content = json.loads(read_text(path, MAX_BYTES, "Give the run.json of a training."))
        if not isinstance(content, dict) or content.pop("facekit_run", None) != VERSION:
            raise ValueError(f"facekit_run: expected {VERSION}")
        record: RunRecord = from_plain(RunRecord, content, "run")
        return record
    except (ValueError, RecursionError) as error:
        raise FacekitError(
            f"{path}: no record of a run ({shown(error, 300)}). Give a run.json that `facekit train` wrote, unchanged."
        ) from error
