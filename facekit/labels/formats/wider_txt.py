"""WIDER FACE's `wider_face_split` text: a picture, its number of faces, then a face a line.

0--Parade/0_Parade_marchingband_1_849.jpg
1
449 330 122 149 0 0 0 0 0 0

x, y, w, h, then blur 0..2, expression 0..1, illumination 0..1, invalid 0..1, occlusion 0..2, pose 0..1. The official
files put one line of ten zeros behind a count of 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from facekit.base.files import write_text
from facekit.labels.formats.counted import counted_blocks, is_count
from facekit.labels.formats.text_lines import (
    LabelCollector,
    format_number,
    is_picture_name,
    malformed,
    parse_row,
)
from facekit.labels.layout import Named
from facekit.labels.picture_labels import WIDER_ATTRIBUTES, PictureLabels, Tally

COLUMNS = "x y w h blur expression illumination invalid occlusion pose"
_NO_FACE = " ".join("0" * 10)


def looks_like_wider(source: Path, lines: list[str]) -> bool:
    """A picture's name, then a count."""
    return len(lines) > 1 and is_picture_name(lines[0]) and is_count(lines[1])


def read_wider(
    source: Path, data_root: Path | None = None, as_written: bool = False, dropped: Tally | None = None
) -> list[PictureLabels]:
    """Pictures in the file's order, with the six attributes; "invalid" faces are kept.

    Raises FacekitError with the line at fault. Boxes without area are left out with a warning, unless as_written.
    """
    collector = LabelCollector(source, data_root, as_written)
    for line, name, places, rows in counted_blocks(source, _parse_name, _parse_face, _NO_FACE):
        values = np.array(rows, np.float64).reshape(-1, 10)
        collector.add(line, name, None, places, values[:, :4], attributes=values[:, 4:])
    return collector.finish(dropped)


def write_wider(destination: Path, pictures: list[Named]) -> None:
    """Attributes that aren't known are written as 0."""
    write_text(destination, "".join(_picture_lines(pictures)))


def _picture_lines(pictures: list[Named]) -> Iterator[str]:
    for name, labels in pictures:
        boxes = labels.boxes_xywh.tolist()
        attributes = (
            [[0] * len(WIDER_ATTRIBUTES)] * len(boxes) if labels.attributes is None else labels.attributes.tolist()
        )
        yield f"{name}\n{len(boxes)}\n"
        for box, flags in zip(boxes, attributes, strict=True):
            yield " ".join([*map(format_number, box), *map(str, flags)]) + "\n"
        if not boxes:
            yield f"{_NO_FACE}\n"


def _parse_name(source: Path, line: int, text: str) -> str:
    if not is_picture_name(text):
        raise malformed(source, line, "a picture's name (the count above may be too small)", text)
    return text


def _parse_face(source: Path, line: int, text: str) -> list[float]:
    row = parse_row(source, line, text, (10,), COLUMNS)
    if not all(value in (0.0, 1.0, 2.0) for value in row[4:]):
        raise malformed(source, line, "six attributes of 0, 1 or 2 behind x y w h", text)
    return row
