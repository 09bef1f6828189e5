"""Runs a training again, as its run.json says, and compares the weights that come out, bit by bit."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facekit.base.options import (
    ANN_FILES,
    DATA_ROOTS,
    arguments_of,
    checked,
    command_options,
    option,
    split_paths,
    takes,
)
from facekit.commands.train import read_pictures
from facekit.engine.training.options import TrainOptions
from facekit.errors import ArgumentError, FacekitError

if TYPE_CHECKING:
    from facekit.labels.picture_labels import PictureLabels
    from facekit.records.run import RunRecord

log = logging.getLogger(__name__)


@command_options
class ReproduceOptions:
    """Options of a repetition; what is given says where data lie that have moved."""

    record: Path = option("run.json of the run.", positional=True, kw_only=False, reads=True)
    save_checkpoints_to: Path | None = option(
        "Folder for the checkpoints [reproduced, beside the record].", default=None
    )
    train_ann_files: tuple[Path, ...] = option(ANN_FILES, default=(), reads=True)
    train_data_roots: tuple[Path, ...] = option(DATA_ROOTS, default=(), reads=True)
    val_ann_files: tuple[Path, ...] = option(ANN_FILES, default=(), reads=True)
    val_data_roots: tuple[Path, ...] = option(DATA_ROOTS, default=(), reads=True)
    teacher: Path | None = option("Weights of the detector that the run learnt from.", default=None, reads=True)
    teacher_template: Path | None = option(
        "The teacher's: name, template.yaml or work dir.", default=None, template=True
    )
    distill_pictures: Path | None = option(
        "Pictures that the teacher marked: a folder, or labels.", default=None, reads=True
    )
    force: bool = option("Run it with other data or weights, too.", default=False)


MOVED = (
    "train_ann_files", "train_data_roots", "val_ann_files", "val_data_roots", "teacher", "teacher_template",
    "distill_pictures",
)  # fmt: skip


@takes(ReproduceOptions)
def reproduce(options: ReproduceOptions) -> str:
    """Trains again by a run.json and returns a line that says that the weights are the recorded ones.

    Raises FacekitError where data or weights are not those of the record (unless `force`), and where the weights that
    come out differ, naming versions and machine where these do.
    """
    from facekit.machine.launch import launch_over_gpus
    from facekit.records.run import read_record
    from facekit.template import find_template

    record = read_record(options.record)
    moved: dict[str, Any] = {name: getattr(options, name) for name in MOVED if getattr(options, name)}
    if options.teacher_template is not None:
        moved["teacher_template"] = find_template(str(options.teacher_template))
    folder = options.save_checkpoints_to or options.record.parent / "reproduced"
    training = recorded_options(record, options.record, save_checkpoints_to=folder, tensorboard_dir=None, **moved)
    if launch_over_gpus(record.processes_on_gpus(), False, ["reproduce", *arguments_of(options)]):
        return f"Done: {folder}"
    train_pictures, val_pictures = read_pictures(training)
    return repeat(record, options.record, training, train_pictures, val_pictures, options.force)


def recorded_options(record: RunRecord, path: Path, **changes: Any) -> TrainOptions:
    """The run's flags as train() takes them, some of them changed. Raises FacekitError, naming `path`, for flags that
    this facekit lacks."""
    from facekit.base.schema import from_plain

    flags = dict(record.flags)
    for name, value in flags.items():
        if name.endswith(("ann_files", "data_roots")) and (value is None or isinstance(value, str)):
            flags[name] = [str(part) for part in split_paths(value)] if value else []  # as 0.4.0 wrote them
    try:
        read: TrainOptions = from_plain(TrainOptions, {"template": str(path), **flags}, "flags")
        return checked(dataclasses.replace(read, **changes))
    except (ValueError, ArgumentError) as error:
        raise FacekitError(
            f"{path}: {str(error).removesuffix('.')}. Reproduce it with the facekit that wrote it ({_version(record)})."
        ) from error


def _version(record: RunRecord) -> str:
    if not record.sessions:
        return "unknown"
    environment = record.sessions[0].environment
    return f"{environment.facekit} {environment.git_revision}".strip()


def repeat(
    record: RunRecord,
    path: Path,
    options: TrainOptions,
    train_pictures: list[PictureLabels],
    val_pictures: list[PictureLabels],
    force: bool,
) -> str:
    """reproduce() for the record of the file `path`, with the training's options and pictures."""
    from facekit.engine.training.train import train
    from facekit.records.run import NAME, read_record

    template = record.read_template(path)
    _refuse_differing(record, path, options, train_pictures, val_pictures, force)
    latest = train(template, train_pictures, val_pictures, options)
    assert latest is not None and record.result is not None
    again = read_record(options.save_checkpoints_to / NAME)
    assert again.result is not None
    changed = record.sessions[0].environment.differences(again.sessions[-1].environment)
    wanted, got = record.result.weights_sha256, again.result.weights_sha256
    if wanted == got:
        return f"Bit-equal: the weights of {latest} are those of {path} (sha256 {got})." + (
            f" Though these differ: {'; '.join(changed)}." if changed else ""
        )
    reasons = f"These differ: {'; '.join(changed)}." if changed else "Versions and machine are the same."
    raise FacekitError(
        f"{latest}: other weights than {path} records (sha256 {got[:16]}..., expected {wanted[:16]}...). {reasons}"
    )


def _refuse_differing(
    record: RunRecord,
    path: Path,
    options: TrainOptions,
    train_pictures: list[PictureLabels],
    val_pictures: list[PictureLabels],
    force: bool,
) -> None:
    from facekit.base.reading import file_sha256
    from facekit.records.run import data_differences, digest_data, teacher_differences, teacher_origin

    if record.result is None or not record.sessions:
        raise FacekitError(f"{path}: the run was not finished; there is nothing to compare with. Finish it first.")
    if record.sessions[0].from_iteration and record.weights is None:
        raise FacekitError(f"{path}: the run's beginning is not recorded. Give the run.json of a whole run.")
    differing = [
        *data_differences(record.train_data, digest_data(train_pictures, options.train_ann_files), "training"),
        *data_differences(record.val_data, digest_data(val_pictures, options.val_ann_files), "validation"),
    ]
    if record.weights is not None and file_sha256(Path(record.weights.path)) != record.weights.sha256:
        differing.append(f"the weights that it starts from ({record.weights.path})")
    differing += teacher_differences(record.teacher, teacher_origin(options.teacher, options.teacher_template))
    for session in record.sessions[1:]:
        differing += [f"when it was resumed, {change}" for change in session.changed]
    if differing and not force:
        raise FacekitError(
            f"{path}: can't be reproduced, for these are not as recorded: {'; '.join(differing)}. Bring them back, or "
            f"give `force=True` to run it all the same."
        )
    for part in differing:
        log.warning("Not as recorded: %s.", part)
