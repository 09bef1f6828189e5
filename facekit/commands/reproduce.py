"""Runs a training again, as its run.json says, and compares the weights that come out, bit by bit."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

from facekit.engine.training.options import TrainOptions
from facekit.engine.training.train import train
from facekit.errors import FacekitError
from facekit.labels.picture_labels import PictureLabels
from facekit.records.run import (
    NAME,
    RunRecord,
    data_differences,
    digest_data,
    file_sha256,
    from_plain,
    read_record,
    teacher_differences,
    teacher_origin,
)

log = logging.getLogger(__name__)


def recorded_options(record: RunRecord, path: Path, **changes: Any) -> TrainOptions:
    """The run's flags as train() takes them, some of them changed. Raises FacekitError, naming `path`, for flags that
    this facekit lacks."""
    try:
        options: TrainOptions = from_plain(TrainOptions, record.flags, "flags")
        return dataclasses.replace(options, **changes)
    except ValueError as error:
        raise FacekitError(
            f"{path}: {error}. Reproduce it with the facekit that wrote it ({_version(record)})."
        ) from error


def _version(record: RunRecord) -> str:
    if not record.sessions:
        return "unknown"
    environment = record.sessions[0].environment
    return f"{environment.facekit} {environment.git_revision}".strip()


def reproduce(
    record: RunRecord,
    path: Path,
    options: TrainOptions,
    train_pictures: list[PictureLabels],
    val_pictures: list[PictureLabels],
    force: bool,
) -> str:
    """Trains by the record of the file `path` and returns a line that says that the weights are the recorded ones.

    Raises FacekitError where data or weights are not those of the record (unless `force`), and where the weights that
    come out differ, naming versions and machine where these do.
    """
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
            f"give --force to run it all the same."
        )
    for part in differing:
        log.warning("Not as recorded: %s.", part)
