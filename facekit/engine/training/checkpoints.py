"""The folder that a run saves to: latest.pth, the one before it, one an epoch, the best."""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from itertools import count
from pathlib import Path
from typing import TextIO

from facekit.base.files import check_not_input, link_or_copy, real_path
from facekit.errors import FacekitError
from facekit.template import Template
from facekit.weights.checkpoint import Checkpoint, save_checkpoint
from facekit.weights.load import load_weights
from facekit.weights.torch_file import DamagedCheckpointError, read_torch_file

log = logging.getLogger(__name__)

LATEST, PREVIOUS, BEST = "latest.pth", "previous.pth", "best.pth"
LOCK = ".facekit-run"  # there while a run goes on
BESIDE = ("log.jsonl", "run.json")  # what a run writes besides
# Folders of this process's runs, in all threads: the system's lock keeps only other processes out, and is gone as soon
# as anything here closes its file.
_held: set[Path] = set()
_held_lock = threading.Lock()


@contextmanager
def holding(folder: Path) -> Iterator[None]:
    """Keeps other runs out of the folder, which is there, until the block or the process ends, however it does.

    Raises FacekitError where another one runs. Systems and disks that know no locks keep out only this process's runs.
    """
    place = real_path(folder)
    with _held_lock:
        if place in _held:
            raise _another_run(folder, str(os.getpid()))
        _held.add(place)
    try:
        stream = _lock(folder / LOCK) if os.name == "posix" else None
        with stream or nullcontext():
            try:
                yield
            finally:
                (folder / LOCK).unlink(missing_ok=True)
    finally:
        with _held_lock:
            _held.discard(place)


def _another_run(folder: Path, process: str) -> FacekitError:
    return FacekitError(
        f"{folder}: another run (process {process}) writes there. Give another `save_checkpoints_to`, or wait for its "
        f"end."
    )


def _lock(path: Path) -> TextIO | None:
    """The file, locked and with our process's number in it; None where the disk knows no locks."""
    import fcntl

    while True:
        try:
            stream = path.open("a+", encoding="ascii")
        except OSError as error:
            raise FacekitError(f"{path}: can't be written ({error.strerror}). Save to another folder.") from error
        try:
            # Not flock(): processes that load pictures would go on holding that of a run that was killed.
            fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            with stream:
                stream.seek(0)
                number = stream.read(20).strip() or "unknown"
            raise _another_run(path.parent, number) from error
        except OSError:
            stream.close()
            return None
        with suppress(OSError):
            if os.path.samestat(os.fstat(stream.fileno()), path.stat()):
                stream.truncate(0)
                stream.write(f"{os.getpid()}\n")
                stream.flush()
                return stream
        stream.close()  # the run that held it has just ended, and removed it


def save_latest(folder: Path, checkpoint: Checkpoint) -> Path:
    """Saves as latest.pth, from the middle of an epoch; the one before stays as previous.pth."""
    _keep_previous(folder)
    save_checkpoint(folder / LATEST, checkpoint)
    return folder / LATEST


def save_epoch(folder: Path, checkpoint: Checkpoint, is_best: bool) -> Path:
    """Saves as epoch_N.pth and latest.pth, and as best.pth where it is; latest.pth before stays as previous.pth."""
    numbered = folder / f"epoch_{checkpoint.epoch}.pth"
    save_checkpoint(numbered, checkpoint)
    _keep_previous(folder)
    link_or_copy(numbered, folder / LATEST)
    if is_best:
        link_or_copy(numbered, folder / BEST)
    return numbered


def save_start(folder: Path, checkpoint: Checkpoint) -> None:
    """Saves the weights that a run starts from, once they are measured, as best.pth: until an epoch is better."""
    save_checkpoint(folder / BEST, checkpoint)


def _keep_previous(folder: Path) -> None:
    # A second name, not another one: at no moment is there no latest.pth.
    if (folder / LATEST).is_file():
        link_or_copy(folder / LATEST, folder / PREVIOUS)


def set_aside(folder: Path, names: Iterable[str] | None = None) -> Path | None:
    """Moves what an earlier training left in the folder, or the files of these names, into a new folder in it.
    Returns that, None where there was nothing. Raises FacekitError for what a command that runs now reads."""
    if names is None:
        found = [*_present(folder), *(folder / name for name in BESIDE), *folder.glob("nonfinite_batch*.pth")]
    else:
        found = [folder / name for name in names]
    found = [path for path in found if path.is_file()]
    if not found:
        return None
    for path in found:
        check_not_input(path)
    number = next(number for number in count(1) if not (folder / f"earlier-{number}").exists())
    aside = folder / f"earlier-{number}"
    try:
        aside.mkdir()
        for path in found:
            path.rename(aside / path.name)
    except OSError as error:
        raise FacekitError(f"{aside}: can't be written ({error.strerror or error}). Save to another folder.") from error
    return aside


def saved_behind(folder: Path, checkpoint: Checkpoint) -> list[str]:
    """Names of the folder's whole checkpoints that stand further on than this one."""
    behind = []
    for path in _present(folder):
        try:
            meta = read_torch_file(path).get("meta", {})
            place = int(meta["epoch"]), int(meta["epoch_iteration"])
        except (FacekitError, KeyError, TypeError, ValueError, AttributeError):  # damaged, or of another program
            continue
        if place > (checkpoint.epoch, checkpoint.epoch_iteration):
            behind.append(path.name)
    return behind


def has_checkpoint(folder: Path) -> bool:
    """Whether a run has saved anything there, whole or not."""
    return bool(_present(folder))


def newest_checkpoint(folder: Path, template: Template) -> tuple[Path, Checkpoint]:
    """The newest checkpoint in the folder that is whole; damaged ones are passed over, with a warning each.

    Raises FacekitError where there is none, and where the newest whole one belongs to another detector.
    """
    present = _present(folder)
    for path in present:
        try:
            return path, load_weights(path, template)
        except DamagedCheckpointError as error:
            log.warning("Passed over: %s", error)
    what = "no checkpoint there is whole" if present else "there is no checkpoint"
    raise FacekitError(
        f"{folder}: {what} (looked for {LATEST}, {PREVIOUS}, epoch_N.pth, {BEST}). Give the folder that the run saved "
        f"to, or start it anew without `resume_from`."
    )


def _present(folder: Path) -> list[Path]:
    """The folder's checkpoints, in the order to try them in."""
    candidates = [folder / LATEST, folder / PREVIOUS, *_epochs(folder), folder / BEST]
    return [path for path in candidates if path.is_file()]


def _epochs(folder: Path) -> list[Path]:
    """epoch_N.pth, the last epoch first."""
    found = {path: re.fullmatch(r"epoch_(\d{1,9})\.pth", path.name) for path in folder.glob("epoch_*.pth")}
    numbered = [(int(match[1]), path) for path, match in found.items() if match]
    return [path for _, path in sorted(numbered, reverse=True)]
