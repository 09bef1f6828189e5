"""Faces drawn on pictures."""

from __future__ import annotations

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
        (x1, y1), (x2, y2) = (_pixel(corner, canvas) for corner in faces.boxes_xyxy[index].reshape(2, 2))
        cv2.rectangle(canvas, (x1, y1), (x2, y2), BOX_BGR, line, cv2.LINE_AA)
        draw_label(canvas, f"{faces.scores[index]:.2f}", x1, y1, 0.3 * max(unit, 1.2))
        if faces.landmarks_xy is not None:
            for point, colour in zip(faces.landmarks_xy[index], LANDMARK_BGR, strict=True):
                if np.isfinite(point).all():
                    cv2.circle(canvas, _pixel(point, canvas), line + 1, colour, cv2.FILLED, cv2.LINE_AA)
    return canvas


def _pixel(point_xy: NDArray[np.float32], canvas: NDArray[np.uint8]) -> tuple[int, int]:
    height, width = canvas.shape[:2]
    x, y = (float(value) for value in point_xy)
    return round(min(max(x, -width), 2 * width)), round(min(max(y, -height), 2 * height))


def draw_label(canvas: NDArray[np.uint8], text: str, x: int, y: int, scale: float) -> None:
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    # Above the box, or inside where that would leave the picture.
    bottom = y if y >= height + 4 else y + height + 4
    cv2.rectangle(canvas, (x, bottom - height - 4), (x + width + 2, bottom), BOX_BGR, cv2.FILLED)
    cv2.putText(canvas, text, (x + 1, bottom - 3), cv2.FONT_HERSHEY_SIMPLEX, scale, TEXT_BGR, 1, cv2.LINE_AA)
