"""Files written whole or not at all."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from facekit.errors import FacekitError


@contextmanager
def replacing(path: Path, sync: bool = True) -> Iterator[Path]:
    """Gives a path beside `path` to write to; moves it to `path` when the block ends well, removes it otherwise.

    Makes the folder. Raises FacekitError where the disk refuses. Without sync a power cut may leave an empty file: for
    thousands of files, with one sync_disk() behind them.
    """
    if not path.name:
        raise FacekitError(f"{path}: can't be written: it is a folder. Give the name of a file in it.")
    beside = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        with beside.open("rb") if sync else nullcontext() as written:
            if written is not None:
                os.fsync(written.fileno())  # or a power cut could leave the new name on an empty file
        beside.replace(path)
        if sync:
            _sync_folder(path.parent)
    except OSError as error:
        raise FacekitError(
            f"{path}: can't be written ({error.strerror or error}). Choose a place you may write to, with space."
        ) from error
    finally:
        with suppress(OSError):  # never written, such as for a name that is too long
            beside.unlink()


def is_half_written(path: Path) -> bool:
    """Whether replacing() left this file behind in a power cut: readers of folders pass it over."""
    return re.fullmatch(r"\..*\.\d+\.part(\.[^.]*)?", path.name, re.DOTALL) is not None


def _sync_folder(folder: Path) -> None:
    """Makes names last: after a power cut the folder could else still hold the old ones."""
    with suppress(OSError):  # some systems and file systems know no such thing
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def check_writable_folder(folder: Path) -> None:
    """Makes the folder and raises FacekitError when nothing can be written there: asked before hours of work."""
    probe = folder / f".write-test-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise FacekitError(f"{folder}: can't write there ({error.strerror}). Choose another output folder.") from error


def link_or_copy(source: Path, target: Path) -> None:
    """Gives a file a second name, or a copy where the file system knows no hard links; the target is replaced whole."""
    with replacing(target) as beside:
        try:
            os.link(source, beside)
        except OSError:
            beside.write_bytes(source.read_bytes())


def remove_leftovers(folder: Path) -> None:
    """Removes what processes that were killed in the middle of replacing() left; those that live are let be."""
    for part in folder.glob(".*.part.*"):
        number = part.name.split(".part.")[0].rpartition(".")[2]
        if number.isdigit() and not _is_alive(int(number)):
            with suppress(OSError):
                part.unlink()


def _is_alive(process: int) -> bool:
    if os.name != "posix":  # where asking would end it
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def sync_disk() -> None:
    """Waits until all that was written is on the disk, where the system can do that."""
    getattr(os, "sync", lambda: None)()


def write_text(path: Path, text: str, sync: bool = True) -> None:
    """Writes UTF-8 text, whole or not at all; sync as in replacing()."""
    with replacing(path, sync) as beside:
        beside.write_text(text, encoding="utf-8", newline="\n")
