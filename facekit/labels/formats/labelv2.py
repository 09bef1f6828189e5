"""labelv2 of SCRFD and libfacedetection: `#`, the picture, its width and height; then a face a line, by corners.

# 0--Parade/0_Parade_marchingband_1_849.jpg 1024 1385
449 330 571 479 488.906 373.643 0 542.089 376.442 0 515.031 412.83 0 485.174 425.893 0 538.357 431.491 0 0.82

x1 y1 x2 y2, then nothing or five times x, y, v (-1 for points that aren't labelled), then nothing or one more number,
which is not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from facekit.base.files import write_text
from facekit.errors import FacekitError
from facekit.labels.formats.text_lines import (
    LabelCollector,
    format_number,
    is_picture_name,
    malformed,
    parse_row,
    read_lines,
)
from facekit.labels.layout import Named, known_size
from facekit.labels.picture_labels import MAX_COORDINATE, PictureLabels, Tally

COLUMNS = "x1 y1 x2 y2, or those with five times x y v, or those with one more"
_COUNTS = (4, 19, 20)
_UNLABELLED = [-1.0] * 15


def looks_like_labelv2(source: Path, lines: list[str]) -> bool:
    """`# NAME.jpg WIDTH HEIGHT`; other files start with comments."""
    header = _parse_header(lines[0]) if lines else None
    return header is not None and is_picture_name(header[0])


def read_labelv2(
    source: Path, data_root: Path | None = None, as_written: bool = False, dropped: Tally | None = None
) -> list[PictureLabels]:
    """Pictures in the file's order, those without faces too.

    Raises FacekitError with the line at fault. Unusable boxes are left out with a warning, unless as_written.
    """
    collector = LabelCollector(source, data_root, as_written)
    for line, header, places, rows in hash_blocks(source, _COUNTS, COLUMNS):
        parsed = _parse_header(header)
        if parsed is None:
            raise malformed(source, line, "'# NAME WIDTH HEIGHT'", header)
        name, size_wh = parsed
        boxes = np.array([row[:4] for row in rows], np.float64).reshape(-1, 4)
        boxes[:, 2:] -= boxes[:, :2]
        collector.add(line, name, size_wh, places, boxes, points_of(rows))
    return collector.finish(dropped)


def write_labelv2(destination: Path, pictures: list[Named]) -> None:
    """The pictures' sizes must be known."""
    write_text(destination, "".join(_picture_lines(pictures)))


def _picture_lines(pictures: list[Named]) -> Iterator[str]:
    for name, labels in pictures:
        width, height = known_size(labels)
        yield f"# {name} {width} {height}\n"
        for box, points in zip(labels.boxes_xyxy.tolist(), labels.landmarks_xy, strict=True):
            labelled = not np.isnan(points).any()
            visible = np.zeros((len(points), 1))
            row = np.hstack([points, visible]).ravel().tolist() if labelled else _UNLABELLED
            yield " ".join(map(format_number, box + row)) + "\n"


def hash_blocks(
    source: Path, counts: tuple[int, ...], columns: str
) -> Iterator[tuple[int, str, list[int], list[list[float]]]]:
    """Line and text of each `#` line, the lines of the faces below it, and their numbers."""
    header, header_line = None, 0
    places: list[int] = []
    rows: list[list[float]] = []
    for number, text in read_lines(source):
        if text.startswith("#"):
            if header is not None:
                yield header_line, header, places, rows
            header, header_line, places, rows = text, number, [], []
        elif text:
            if header is None:
                raise malformed(source, number, "a line '# NAME' before the first face", text)
            rows.append(parse_row(source, number, text, counts, columns))
            places.append(number)
    if header is None:
        raise FacekitError(f"{source}: no line '# NAME' in it, so no picture; there is nothing to train or measure on.")
    yield header_line, header, places, rows


def points_of(rows: list[list[float]]) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """(N, 5, 3): x, y, v behind the four numbers of the box; -1 where a row has the box alone."""
    points = [row[4:19] if len(row) > 4 else _UNLABELLED for row in rows]
    return np.array(points, np.float64).reshape(-1, 5, 3)


def _parse_header(text: str) -> tuple[str, tuple[int, int]] | None:
    fields = text.removeprefix("#").strip().rsplit(maxsplit=2)
    if not text.startswith("#") or len(fields) != 3:
        return None
    name, width, height = fields
    if not all(v.isascii() and v.isdigit() and len(v) < 10 and 0 < int(v) <= MAX_COORDINATE for v in (width, height)):
        return None
    return name, (int(width), int(height))
