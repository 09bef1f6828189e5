"""RetinaFace's label.txt: `#` and the picture, then a face a line, with landmarks in the training file.

# 0--Parade/0_Parade_marchingband_1_849.jpg
449 330 122 149 488.906 373.643 0.0 542.089 376.442 0.0 515.031 412.83 0.0 485.174 425.893 0.0 538.357 431.491 0.0 0.82

x y w h, then nothing or five times x, y, v (-1 for points that aren't labelled) and the sharpness, which is not read.
Read alone: labelv2 holds the same and is what its successors read.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from facekit.labels.formats.counted import is_count
from facekit.labels.formats.labelv2 import hash_blocks, points_of
from facekit.labels.formats.text_lines import LabelCollector, is_picture_name, malformed
from facekit.labels.picture_labels import PictureLabels, Tally

COLUMNS = "x y w h, or those with five times x y v and one more"


def looks_like_retinaface(source: Path, lines: list[str]) -> bool:
    """`# NAME.jpg`; other files start with comments, or have a count below a name that starts with #."""
    first = bool(lines) and lines[0].startswith("#") and is_picture_name(lines[0])
    return first and not (len(lines) > 1 and is_count(lines[1]))


def read_retinaface(
    source: Path, data_root: Path | None = None, as_written: bool = False, dropped: Tally | None = None
) -> list[PictureLabels]:
    """Pictures in the file's order, those without faces too.

    Raises FacekitError with the line at fault. Boxes without area are left out with a warning, unless as_written.
    """
    collector = LabelCollector(source, data_root, as_written)
    for line, header, places, rows in hash_blocks(source, (4, 20), COLUMNS):
        name = header.removeprefix("#").strip()
        if not name:
            raise malformed(source, line, "'# NAME'", header)
        boxes = np.array([row[:4] for row in rows], np.float64).reshape(-1, 4)
        collector.add(line, name, None, places, boxes, points_of(rows))
    return collector.finish(dropped)
