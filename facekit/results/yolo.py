"""Rows as YOLO's label files: DIR/labels/NAME.txt, a face a line, in fractions of the picture, with its score last.

0 0.498 0.292 0.119 0.108 0.93
0 0.498 0.292 0.119 0.108 0.477 0.270 0.529 0.272 0.503 0.298 0.474 0.307 0.526 0.312 0.93

class, centre x, centre y, width, height, where the detector has them x and y of five landmarks, score. A picture
without faces has an empty file. Labels have no score, and other detectors' numbers fewer digits: by that a file of
another's is known, and stays.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from types import MappingProxyType

import numpy as np

from facekit.base.files import check_ours, sync_disk, write_text
from facekit.base.reading import open_regular
from facekit.errors import FacekitError, Loss
from facekit.results.row import Row

NUMBERS_OF_A_FACE = (6, 16)  # with the class and the score
MOST_LOOKED_AT = 1000  # files, before the work


def check_yolo_folder(folder: Path) -> None:
    """Asked before any work: raises FacekitError where labels lie that write_yolo() wouldn't replace."""
    for path in itertools.islice((folder / "labels").rglob("*.txt"), MOST_LOOKED_AT):
        _check_own(path)


def _check_own(path: Path) -> None:
    check_ours(path, _is_own, "holds labels that facekit didn't write")


def _is_own(path: Path) -> bool:
    """A file that holds a face without a score, or numbers that facekit would spell otherwise, or none of more than the
    six digits that other detectors write, or that can't be read, is another's. So is one of facekit's own without any
    such number, which only boxes that are no detector's have."""
    try:
        with open_regular(path) as file:
            lines = [line.decode("ascii") for line in file if line.strip()]
        return all(map(_is_spelt_alike, lines)) and (not lines or any(map(_has_many_digits, lines)))
    except (OSError, ValueError, FacekitError):
        return False


def _is_spelt_alike(line: str) -> bool:
    numbers = [float(number) for number in line.split()]
    return len(numbers) in NUMBERS_OF_A_FACE and line == _line([*numbers[1:-1], float(np.float32(numbers[-1]))])


def _has_many_digits(line: str) -> bool:
    return any(len(number.partition("e")[0].replace(".", "").lstrip("0")) > 6 for number in line.split())


def _line(numbers: Iterable[float]) -> str:
    """Of a face: all but the class, which is always 0."""
    return "0 " + " ".join(f"{value:.8g}" for value in numbers) + "\n"


def write_yolo(folder: Path, rows: Iterable[Row], numbered: Mapping[str, str] = MappingProxyType({})) -> list[Loss]:
    """Boxes are clipped to the picture, as YOLO's trainers demand. numbered: rows' names that were changed, as
    another picture had them, and what they were (Names.numbered): a label file is found by its picture's name without
    suffix, so the second of two has none.

    Returns those. Raises FacekitError for a file in the way that isn't of such rows.
    """
    losses = []
    contested, taken = {stem.casefold() for stem in numbered.values()}, set()
    for row in rows:
        if row.size_wh is None:
            continue
        stem = numbered.get(row.name) or PurePosixPath(row.name).with_suffix("").as_posix()
        if stem.casefold() in taken:
            losses.append(Loss(row.source, f"no label file: {stem}.txt is that of another picture. Rename one of them"))
            continue
        if stem.casefold() in contested:
            taken.add(stem.casefold())
        size = np.array(row.size_wh, np.float64)
        lines = []
        for face in row.faces:
            corners = (face.box_xyxy.astype(np.float64).reshape(2, 2) / size).clip(0, 1)
            numbers = [*(corners[0] + corners[1]) / 2, *(corners[1] - corners[0])]
            if face.landmarks_xy is not None:
                numbers += (face.landmarks_xy.astype(np.float64) / size).clip(0, 1).ravel().tolist()
            lines.append(_line([*numbers, face.score]))
        target = folder / "labels" / f"{stem}.txt"
        _check_own(target)
        write_text(target, "".join(lines), sync=False)
    sync_disk()
    return losses
