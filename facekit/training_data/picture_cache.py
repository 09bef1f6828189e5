"""Decoded pictures, kept for the epochs that follow: in memory, or in a file for runs that follow too."""

from __future__ import annotations

import hashlib
import logging
import mmap
import multiprocessing
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from facekit.base.files import check_writable_folder, replacing
from facekit.base.progress import progress_bar
from facekit.errors import FacekitError
from facekit.labels.picture_labels import PictureLabels
from facekit.machine.cores import usable_cores
from facekit.pictures.read import picture_size, read_picture
from facekit.weights.snapshots import cache_dir

log = logging.getLogger(__name__)

READERS = min(8, usable_cores())  # threads that decode; OpenCV leaves the interpreter to the others meanwhile
AHEAD = 64  # pictures decoded before they are kept


@dataclass(frozen=True)
class _Place:
    """Where a picture's pixels stand."""

    path: Path
    size_wh: tuple[int, int]
    start: int  # bytes
    end: int


class PictureCache:
    """Whole decoded pictures in one block of bytes, which all workers read without copies of their own."""

    def __init__(self, places: Sequence[_Place], pixels: NDArray[np.uint8]) -> None:
        self._places = {place.path: place for place in places}
        self._pixels = pixels

    def __len__(self) -> int:
        return len(self._places)

    def __reduce__(self) -> tuple[Any, ...]:
        # For workers that are not forked: they map the file, where the pixels would be copied to each of them.
        places = tuple(self._places.values())
        if isinstance(self._pixels, np.memmap) and self._pixels.filename is not None:
            return _open_cache, (places, str(self._pixels.filename))
        return PictureCache, (places, self._pixels)

    def find(self, path: Path) -> NDArray[np.uint8] | None:
        """(H, W, 3) BGR uint8, read only, as read_picture gives it; None where it isn't kept."""
        place = self._places.get(path)
        if place is None:
            return None
        width, height = place.size_wh
        return self._pixels[place.start : place.end].reshape(height, width, 3)


def _open_cache(places: Sequence[_Place], file: str) -> PictureCache:
    return PictureCache(places, np.memmap(file, np.uint8, "r"))


def fill_cache(kind: Literal["ram", "disk"], pictures: Iterable[PictureLabels], limit_gib: float) -> PictureCache:
    """Decodes the first pictures that fit into limit_gib, with a progress bar.

    ram: in memory that processes forked from this one share. disk: in a file of facekit's cache folder, taken again by
    whoever has the same pictures (names, sizes, times of change) and limit. Raises FacekitError for a picture that
    can't be read, or where memory or disk don't suffice.
    """
    unique = {labels.path: labels for labels in pictures}
    places, wanted = _lay_out(list(unique.values()), int(limit_gib * 2**30))
    total = places[-1].end if places else 0
    if not unique:
        return PictureCache((), np.empty(0, dtype=np.uint8))
    if not places:
        raise FacekitError(f"`cache={kind}`: not one picture fits into {limit_gib:g} GiB. Give a larger `cache_limit`.")
    if len(places) < len(unique):
        log.warning(
            "`cache_limit=%g` GiB holds %d of the %d pictures (%.1f GiB): the others are decoded each time.",
            limit_gib, len(places), len(unique), wanted / 2**30,
        )  # fmt: skip
    if kind == "ram":
        _check_memory(total)
        block = mmap.mmap(-1, total)
        _fill(block, places)
        pixels = np.frombuffer(block, dtype=np.uint8)
        where = "memory"
    else:
        file = cache_dir() / "pictures" / f"{_digest(places)}.bgr"
        if not file.is_file() or file.stat().st_size != total:
            _check_writable(file.parent)
            with replacing(file) as beside, beside.open("wb") as out:  # not mapped: a full disk would end the process
                _fill(out, places)
        pixels = np.memmap(file, np.uint8, "r")
        where = str(file)
    pixels.flags.writeable = False
    log.info("%d decoded pictures, %.2f GiB, are kept in %s", len(places), total / 2**30, where)
    return PictureCache(places, pixels)


def _lay_out(pictures: Sequence[PictureLabels], limit: int) -> tuple[list[_Place], int]:
    """Places of the first pictures that fit into so many bytes, one behind the other; and the bytes of all."""
    places, end = [], 0
    for labels in pictures:
        width, height = labels.size_wh or picture_size(labels.path)
        start, end = end, end + width * height * 3
        if end <= limit:
            places.append(_Place(labels.path, (width, height), start, end))
    return places, end


def _fill(block: mmap.mmap | BinaryIO, places: Sequence[_Place]) -> None:
    """Writes the pictures one behind the other."""
    with ThreadPoolExecutor(READERS) as readers, progress_bar(total=len(places), desc="caching", unit="img") as bar:
        for first in range(0, len(places), AHEAD):
            some = places[first : first + AHEAD]
            for image_bgr in readers.map(lambda place: read_picture(place.path, place.size_wh), some):
                block.write(image_bgr.tobytes())
                bar.update()


def _check_writable(folder: Path) -> None:
    try:
        check_writable_folder(folder)
    except FacekitError as error:
        raise FacekitError(
            f"`cache=disk`: {folder} can't be written. Set FACEKIT_CACHE to a folder that can, with space."
        ) from error


def _check_memory(total: int) -> None:
    """Refuses what would end in swapping, or in workers without the pictures."""
    if multiprocessing.get_start_method() != "fork":
        raise FacekitError(
            "`cache=ram`: this system doesn't fork processes, so they can't share it. Give `cache=disk`."
        )
    meminfo = Path("/proc/meminfo")
    lines = meminfo.read_text(encoding="ascii").splitlines() if meminfo.is_file() else []
    available = next((int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")), None)
    if available is not None and total > available:
        raise FacekitError(
            f"`cache=ram`: the pictures need {total / 2**30:.1f} GiB, and {available / 2**30:.1f} GiB of memory are "
            f"free. Give a smaller `cache_limit`, or `cache=disk`."
        )


def _digest(places: Sequence[_Place]) -> str:
    """Of the pictures' names, sizes and times of change."""
    digest = hashlib.sha256()
    for place in places:
        state = place.path.stat()
        digest.update(f"{place.path.resolve()}\0{place.size_wh}\0{state.st_size}\0{state.st_mtime_ns}\n".encode())
    return digest.hexdigest()
