"""Which pictures a name stands for."""

from __future__ import annotations

import glob
from pathlib import Path

from facekit.errors import FacekitError
from facekit.files import is_half_written
from facekit.pictures.read import PICTURE_SUFFIXES


def list_pictures(pattern: str) -> list[Path]:
    """The pictures of a file, a folder (with subfolders) or a glob, sorted. Raises FacekitError when there are none."""
    path = Path(pattern)
    if path.is_file():
        return [path]
    found = path.rglob("*") if path.is_dir() else (Path(name) for name in glob.glob(pattern, recursive=True))  # noqa: PTH207
    pictures = sorted(
        p for p in found if p.suffix.lower() in PICTURE_SUFFIXES and not is_half_written(p) and p.is_file()
    )
    if not pictures:
        raise FacekitError(f"--images {pattern}: no pictures there. Give a file, a folder or a quoted glob.")
    return pictures
