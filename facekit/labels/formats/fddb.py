"""FDDB's ellipses: a picture without its suffix, its number of faces, then a face a line.

2002/08/11/big/img_591
1
123.583300 85.549500 1.265839 269.693400 161.781200  1

Both radii, the angle of the first to the horizontal in radians, the centre, and a 1. Each ellipse is read as the
upright box around it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facekit.labels.formats.counted import counted_blocks, is_count
from facekit.labels.formats.text_lines import (
    LabelCollector,
    find_picture,
    is_picture_name,
    malformed,
    parse_row,
)
from facekit.labels.picture_labels import PictureLabels, Tally, picture_path
from facekit.labels.picture_paths import PictureFinder

COLUMNS = "major_radius minor_radius angle centre_x centre_y 1"


def looks_like_fddb(source: Path, lines: list[str]) -> bool:
    """A name without a picture's suffix, then a count."""
    return (
        len(lines) > 1
        and not is_picture_name(lines[0])
        and not lines[0].startswith("#")
        and is_count(lines[1])
        and (not is_count(lines[0]) or (len(lines) > 2 and len(lines[2].split()) == 6))
    )


def read_fddb(
    source: Path, data_root: Path | None = None, as_written: bool = False, dropped: Tally | None = None
) -> list[PictureLabels]:
    """Pictures in the file's order; a picture's suffix is the one found on the disk.

    Raises FacekitError with the line at fault. Boxes without area are left out with a warning, unless as_written.
    """
    collector = LabelCollector(source, data_root, as_written)
    for line, name, places, rows in counted_blocks(source, _parse_name, _parse_ellipse):
        collector.add(line, _with_suffix(collector.finder, name), None, places, ellipses_to_xywh(rows))
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


def _parse_name(source: Path, line: int, text: str) -> str:
    if _is_ellipse(text):
        raise malformed(source, line, "a picture's name (the count above may be too small)", text)
    picture_path(Path(), f"{text}.jpeg", f"{source}:{line}")
    return text


def _is_ellipse(text: str) -> bool:
    try:
        return len([float(field) for field in text.split()]) == 6
    except ValueError:
        return False


def _parse_ellipse(source: Path, line: int, text: str) -> list[float]:
    row = parse_row(source, line, text, (6,), COLUMNS)
    if not np.isfinite(row).all():
        raise malformed(source, line, "finite numbers", text)
    return row[:5]


def _with_suffix(finder: PictureFinder, name: str) -> str:
    """The name with the suffix that a picture of it has, below the first folder that has one."""
    found = ((folder, find_picture(folder, name)) for folder in finder.folders)
    return next((named for folder, named in found if (folder / named).is_file()), f"{name}.jpg")
