"""Files written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from facekit.errors import FacekitError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a path beside `path` to write to; moves it to `path` when the block ends well, removes it otherwise.

    Makes the folder. Raises FacekitError where the disk refuses.
    """
    if not path.name:
        raise FacekitError(f"{path}: can't be written: it is a folder. Give the name of a file in it.")
    beside = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        with beside.open("rb") as written:
            os.fsync(written.fileno())  # or a power cut could leave the new name on an empty file
        beside.replace(path)
    except OSError as error:
        raise FacekitError(
            f"{path}: can't be written ({error.strerror or error}). Choose a place you may write to, with space."
        ) from error
    finally:
        with suppress(OSError):  # never written, such as for a name that is too long
            beside.unlink()


def check_writable_folder(folder: Path) -> None:
    """Makes the folder and raises FacekitError when nothing can be written there: asked before hours of work."""
    probe = folder / f".write-test-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise FacekitError(f"{folder}: can't write there ({error.strerror}). Choose another output folder.") from error


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text, whole or not at all."""
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")
