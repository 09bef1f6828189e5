"""Faces made unrecognisable. Whatever the method, no more is left of one than BLOCKS x BLOCKS averages of its colours:
blur too is made of those, so no sharpening brings a face back."""

from __future__ import annotations

from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

BLOCKS = 6  # a side, over the covered region: each at least a sixth of the face
MARGIN = 0.15  # of the box's sides, on each of them: boxes end at chin and forehead
SOLID_BGR = (0, 0, 0)

Method = Literal["pixelate", "blur", "solid"]
Shape = Literal["ellipse", "box"]


def cover_faces(
    image_bgr: NDArray[np.uint8],
    boxes_xyxy: NDArray[Any],
    method: Method = "pixelate",
    shape: Shape = "ellipse",
    margin: float = MARGIN,
) -> NDArray[np.uint8]:
    """A copy of (H, W, 3) in which the (N, 4) boxes, each grown by `margin` of its sides, are covered.

    What reaches outside of the picture is clipped; boxes whose numbers aren't finite are left out.
    """
    canvas = image_bgr.copy()
    height, width = canvas.shape[:2]
    for box in boxes_xyxy:
        if not np.isfinite(box).all():
            continue
        x1, y1, x2, y2 = (float(value) for value in box)
        grown_x, grown_y = margin * (x2 - x1), margin * (y2 - y1)
        x1, y1, x2, y2 = x1 - grown_x, y1 - grown_y, x2 + grown_x, y2 + grown_y
        left, top = max(0, int(np.floor(x1))), max(0, int(np.floor(y1)))
        right, bottom = min(width, int(np.ceil(x2))), min(height, int(np.ceil(y2)))
        if left >= right or top >= bottom:
            continue
        place = np.s_[top:bottom, left:right]
        covered = _covered(image_bgr[place], method)
        if shape == "box":
            canvas[place] = covered
            continue
        centre, axes = ((x1 + x2) / 2 - left, (y1 + y2) / 2 - top), ((x2 - x1) / 2, (y2 - y1) / 2)
        inside = _ellipse((bottom - top, right - left), centre, axes)
        canvas[place][inside] = covered[inside]
    return canvas


def _covered(region_bgr: NDArray[np.uint8], method: Method) -> NDArray[np.uint8]:
    height, width = region_bgr.shape[:2]
    if method == "solid":
        return np.full_like(region_bgr, SOLID_BGR)
    blocks = cv2.resize(region_bgr, (min(BLOCKS, width), min(BLOCKS, height)), interpolation=cv2.INTER_AREA)
    how = cv2.INTER_NEAREST if method == "pixelate" else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(blocks, (width, height), interpolation=how), dtype=np.uint8)


def _ellipse(
    size_hw: tuple[int, int], centre_xy: tuple[float, float], axes_xy: tuple[float, float]
) -> NDArray[np.bool_]:
    """(H, W), true where a pixel's centre lies in it."""
    x = (np.arange(size_hw[1]) + 0.5 - centre_xy[0]) / max(axes_xy[0], 0.5)
    y = (np.arange(size_hw[0]) + 0.5 - centre_xy[1]) / max(axes_xy[1], 0.5)
    inside: NDArray[np.bool_] = x[None] ** 2 + y[:, None] ** 2 <= 1
    return inside
