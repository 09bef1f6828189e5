"""Where a run starts: anew, or at what an earlier one has saved, the same for all its processes."""

from __future__ import annotations

import dataclasses
import logging

from facekit.base.files import real_path
from facekit.engine.training.checkpoints import BEST, has_checkpoint, saved_behind, set_aside
from facekit.engine.training.options import TrainOptions
from facekit.errors import FacekitError
from facekit.machine.processes import gather_over_processes
from facekit.template import Template
from facekit.weights.checkpoint import Checkpoint

log = logging.getLogger(__name__)


def go_on_or_start(options: TrainOptions) -> TrainOptions:
    """For commands that something restarts by itself: the first start begins, each later one goes on."""
    folder = options.save_checkpoints_to
    if has_checkpoint(folder):
        return dataclasses.replace(options, resume_from=folder, load_weights=None, from_scratch=False)
    log.info("%s holds no checkpoint to go on from: starting anew.", folder)
    return dataclasses.replace(options, resume_from=None)


def clear_folder(
    options: TrainOptions, resumed: Checkpoint | None, goes_back: bool, has_other_validation: bool
) -> None:
    """Sets aside what is in the folder and not of this run, with a warning each.

    goes_back: the user named a file to go on from. What the folder's run had saved behind it is of another course then,
    its best too, which the epochs that follow would not be compared with.
    """
    folder, source = options.save_checkpoints_to, options.resume_from
    if source is None or resumed is None or real_path(source).parent != real_path(folder):
        if (aside := set_aside(folder)) is not None:
            log.warning("%s: what another training left there lies in %s now", folder, aside)
        return
    if goes_back and (behind := saved_behind(folder, resumed)):
        log.warning(
            "%s: what was saved there behind %s (%s) lies in %s now",
            folder, source.name, ", ".join(behind), set_aside(folder, behind),
        )  # fmt: skip
    if has_other_validation and (aside := set_aside(folder, [BEST])) is not None:
        log.warning(
            "%s is the best on other validation pictures, or by another protocol, and lies in %s now: what the run "
            "goes on from is measured anew.", folder / BEST, aside,
        )  # fmt: skip


def check_kept(checkpoint: Checkpoint | None, template: Template) -> None:
    """Raises FacekitError where a part of the start is to be kept, and that is no trained detector."""
    share = template.training.start_share
    if share and checkpoint is None:
        raise FacekitError(
            f"training.start_share: {share:g} of the weights that the run starts from would stay, and it starts from "
            f"untrained ones. Give `load_weights`, or take 0."
        )


def check_same_start(checkpoint: Checkpoint | None, options: TrainOptions) -> None:
    """Raises FacekitError where processes that train together see different checkpoints."""
    starts = gather_over_processes(None if checkpoint is None else (checkpoint.epoch, checkpoint.meta["iteration"]))
    if starts.count(starts[0]) != len(starts):
        told = ", ".join("none" if start is None else f"epoch {start[0]} iteration {start[1]}" for start in starts)
        raise FacekitError(
            f"{options.save_checkpoints_to}: the processes see different checkpoints to start from ({told}). Give a "
            f"folder on a disk that all nodes share."
        )
