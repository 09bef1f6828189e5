"""FDDB's ellipses: a picture without its suffix, its number of faces, then a face a line.

2002/08/11/big/img_591
1
123.583300 85.549500 1.265839 269.693400 161.781200  1

Both radii, the angle of the first to the horizontal in radians, the centre, and a 1. Each ellipse is read as the
upright box around it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facekit.datasets.formats.text_lines import (
    LabelCollector,
    guess_data_root,
    is_picture_name,
    malformed,
    parse_row,
    read_lines,
)
from facekit.datasets.labels import PictureLabels, Tally, picture_path
from facekit.datasets.pictures import PICTURE_SUFFIXES

COLUMNS = "major_radius minor_radius angle centre_x centre_y 1"
MAX_FACES = 1_000_000  # a picture; a larger count is a mistake


def looks_like_fddb(source: Path, lines: list[str]) -> bool:
    """A name without a picture's suffix, then a count."""
    return (
        len(lines) > 1
        and not is_picture_name(lines[0])
        and not lines[0].startswith("#")
        and _is_count(lines[1])
        and (not _is_count(lines[0]) or (len(lines) > 2 and len(lines[2].split()) == 6))
    )


def read_fddb(
    source: Path, data_root: Path | None = None, as_written: bool = False, dropped: Tally | None = None
) -> list[PictureLabels]:
    """Pictures in the file's order; a picture's suffix is the one found on the disk.

    Raises FacekitError with the line at fault. Boxes without area are left out with a warning, unless as_written.
    """
    collector = LabelCollector(source, data_root, as_written)
    lines = read_lines(source)
    for number, name in lines:
        if not name:
            continue
        count_line, text = next(lines, (number + 1, "the end of the file"))
        if not _is_count(text) or len(text) > 7 or int(text) > MAX_FACES:
            raise malformed(source, count_line, "the number of faces", text)
        ellipses, places = _read_ellipses(source, count_line, int(text), lines)
        picture_path(Path(), name, f"{source}:{number}")
        if collector.data_root is None:
            collector.data_root = _guess_data_root(source, name)
        boxes_xywh = ellipses_to_xywh(ellipses)
        collector.add(number, _with_suffix(collector.data_root, name), None, places, boxes_xywh)
    return collector.finish(dropped)


def ellipses_to_xywh(ellipses: ArrayLike) -> NDArray[np.float64]:
    """(N, 5) radius, other radius, angle in radians, centre x, centre y -> (N, 4) upright boxes around them.

    Radii of 0 or less give a box without area.
    """
    first, second, angle, cx, cy = np.asarray(ellipses, np.float64).reshape(-1, 5).T
    half_w = np.hypot(first * np.cos(angle), second * np.sin(angle))
    half_h = np.hypot(first * np.sin(angle), second * np.cos(angle))
    area = np.where((first > 0) & (second > 0), 1.0, 0.0)
    return np.stack([cx - half_w, cy - half_h, 2 * half_w * area, 2 * half_h * area], axis=1)


def _read_ellipses(
    source: Path, count_line: int, count: int, lines: Iterator[tuple[int, str]]
) -> tuple[list[list[float]], list[int]]:
    ellipses, places = [], []
    for _ in range(count):
        line, text = next(lines, (count_line, ""))
        if not text:
            raise malformed(source, line, f"{count} ellipses for this picture", "no more", "Is the file cut off?")
        row = parse_row(source, line, text, (6,), COLUMNS)
        if not np.isfinite(row).all():
            raise malformed(source, line, "finite numbers", text)
        ellipses.append(row[:5])
        places.append(line)
    return ellipses, places


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _with_suffix(root: Path, name: str) -> str:
    return next((name + suffix for suffix in PICTURE_SUFFIXES if (root / (name + suffix)).is_file()), f"{name}.jpg")


def _guess_data_root(source: Path, name: str) -> Path:
    roots = (guess_data_root(source, name + suffix) for suffix in PICTURE_SUFFIXES)
    return next((root for root in roots if (root / _with_suffix(root, name)).is_file()), source.parent)
