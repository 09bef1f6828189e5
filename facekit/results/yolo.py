"""Rows as YOLO's label files: DIR/labels/NAME.txt, a face a line, in fractions of the picture, with its score last.

0 0.498 0.292 0.119 0.108 0.93
0 0.498 0.292 0.119 0.108 0.477 0.270 0.529 0.272 0.503 0.298 0.474 0.307 0.526 0.312 0.93

class, centre x, centre y, width, height, where the detector has them x and y of five landmarks, score. A picture
without faces has an empty file.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import numpy as np

from facekit.base.files import sync_disk, write_text
from facekit.results.row import Row


def write_yolo(folder: Path, rows: Iterable[Row]) -> int:
    """How many files were written. Boxes are clipped to the picture, as YOLO's trainers demand."""
    written = 0
    for row in rows:
        if row.size_wh is None:
            continue
        size = np.array(row.size_wh, np.float64)
        lines = []
        for face in row.faces:
            corners = (face.box_xyxy.astype(np.float64).reshape(2, 2) / size).clip(0, 1)
            numbers = [*(corners[0] + corners[1]) / 2, *(corners[1] - corners[0])]
            if face.landmarks_xy is not None:
                numbers += (face.landmarks_xy.astype(np.float64) / size).clip(0, 1).ravel().tolist()
            lines.append("0 " + " ".join(f"{value:.8g}" for value in (*numbers, face.score)) + "\n")
        write_text(folder / "labels" / PurePosixPath(row.name).with_suffix(".txt"), "".join(lines), sync=False)
        written += 1
    sync_disk()
    return written
