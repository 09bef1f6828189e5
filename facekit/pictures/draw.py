"""Faces drawn on pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from facekit.structures import Detections

BOX_BGR = (80, 220, 60)
TEXT_BGR = (20, 20, 20)
LANDMARK_BGR = ((255, 80, 80), (80, 80, 255), (60, 220, 220), (255, 80, 255), (80, 200, 255))


def draw_faces(image_bgr: NDArray[np.uint8], faces: Detections) -> NDArray[np.uint8]:
    """A copy of the picture with boxes, scores and landmarks; line widths follow the picture's size.

    What reaches outside is clipped to a picture's size around the picture, as OpenCV takes no larger numbers; faces
    whose numbers aren't finite are left out.
    """
    canvas = image_bgr.copy()
    unit = max(canvas.shape[:2]) / 640
    line = max(1, round(unit))
    for index in range(len(faces)):
        if not (np.isfinite(faces.boxes_xyxy[index]).all() and np.isfinite(faces.scores[index])):
            continue
        x1, y1 = draw_box(canvas, faces.boxes_xyxy[index], BOX_BGR, line)
        draw_label(canvas, f"{faces.scores[index]:.2f}", x1, y1, 0.3 * max(unit, 1.2))
        if faces.landmarks_xy is not None:
            draw_landmarks(canvas, faces.landmarks_xy[index], line + 1)
    return canvas


def draw_box(
    canvas: NDArray[np.uint8], box_xyxy: Sequence[float] | NDArray[Any], colour_bgr: tuple[int, int, int], line: int
) -> tuple[int, int]:
    """A frame of `line` pixels around finite corners, on the canvas itself; returns the pixel of its first corner."""
    x1, y1, x2, y2 = box_xyxy
    corner = _pixel((x1, y1), canvas)
    cv2.rectangle(canvas, corner, _pixel((x2, y2), canvas), colour_bgr, line, cv2.LINE_AA)
    return corner


def draw_landmarks(canvas: NDArray[np.uint8], landmarks_xy: NDArray[Any], radius: int) -> None:
    """(5, 2) a dot each, coloured by which it is, on the canvas itself; none where one isn't finite."""
    for point, colour in zip(landmarks_xy, LANDMARK_BGR, strict=True):
        if np.isfinite(point).all():
            cv2.circle(canvas, _pixel(point, canvas), radius, colour, cv2.FILLED, cv2.LINE_AA)


def _pixel(point_xy: Sequence[float] | NDArray[Any], canvas: NDArray[np.uint8]) -> tuple[int, int]:
    height, width = canvas.shape[:2]
    x, y = (float(value) for value in point_xy)
    return round(min(max(x, -width), 2 * width)), round(min(max(y, -height), 2 * height))


def draw_label(canvas: NDArray[np.uint8], text: str, x: int, y: int, scale: float) -> None:
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    # Above the box, or inside where that would leave the picture.
    bottom = y if y >= height + 4 else y + height + 4
    cv2.rectangle(canvas, (x, bottom - height - 4), (x + width + 2, bottom), BOX_BGR, cv2.FILLED)
    cv2.putText(canvas, text, (x + 1, bottom - 3), cv2.FONT_HERSHEY_SIMPLEX, scale, TEXT_BGR, 1, cv2.LINE_AA)
