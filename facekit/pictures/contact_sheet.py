"""Small pictures side by side on one, to look them over."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from facekit.pictures.draw import draw_box, draw_label
from facekit.structures import Detections

MOST, COLUMNS = 24, 4
CELL_WH = (320, 240)
FOUND_BGR, BRIDGED_BGR, GROUND_BGR = (80, 220, 60), (40, 140, 255), (32, 32, 32)


class ContactSheet:
    """Holds the first MOST pictures that are added, each scaled into its cell, with frames around the faces: green
    where they were found, orange where they were bridged."""

    def __init__(self) -> None:
        self._cells: list[NDArray[np.uint8]] = []

    @property
    def room(self) -> int:
        return MOST - len(self._cells)

    @property
    def has_any(self) -> bool:
        return bool(self._cells)

    def add(self, image_bgr: NDArray[np.uint8], faces: Detections, title: str) -> None:
        if not self.room:
            return
        canvas = image_bgr.copy()
        line = max(1, round(max(canvas.shape[:2]) / 320))
        for face in faces:
            if np.isfinite(face.box_xyxy).all():
                draw_box(canvas, face.box_xyxy, BRIDGED_BGR if face.is_interpolated else FOUND_BGR, line)
        height, width = canvas.shape[:2]
        scale = min(CELL_WH[0] / width, CELL_WH[1] / height)
        size_wh = max(1, round(width * scale)), max(1, round(height * scale))
        cell = np.full((CELL_WH[1], CELL_WH[0], 3), GROUND_BGR, np.uint8)
        cell[: size_wh[1], : size_wh[0]] = cv2.resize(canvas, size_wh, interpolation=cv2.INTER_AREA)
        draw_label(cell, title.encode("ascii", "replace").decode()[:30], 2, 18, 0.45)
        self._cells.append(cell)

    def picture(self) -> NDArray[np.uint8]:
        """(H, W, 3) BGR uint8 of all cells, row by row."""
        cells = self._cells + [np.full_like(self._cells[0], GROUND_BGR)] * (-len(self._cells) % COLUMNS)
        rows = [np.concatenate(cells[first : first + COLUMNS], axis=1) for first in range(0, len(cells), COLUMNS)]
        return np.concatenate(rows)
