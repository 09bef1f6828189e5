"""Faces made unrecognisable.

What is left of a face holds at most BLOCKS x BLOCKS colours, whatever the method: a blur that only smooths can be
undone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

Method = Literal["blur", "pixelate", "solid", "mosaic"]
Shape = Literal["ellipse", "box"]
BLOCKS = 6  # across a face, at most
MOSAIC_BLOCKS, MOSAIC_LEVELS = 4, 8  # across a face; of each colour
SOLID_BGR = (0, 0, 0)


@dataclass(frozen=True)
class Cover:
    """How faces are covered."""

    method: Method = "blur"
    shape: Shape = "ellipse"
    margin: float = 0.2  # of the face's width and height, on each side

    def area(self, box_xyxy: NDArray[np.float32]) -> NDArray[np.float64]:
        """The box around what is covered; (4,), not clipped."""
        x1, y1, x2, y2 = box_xyxy.astype(np.float64)
        width, height = (x2 - x1) * self.margin, (y2 - y1) * self.margin
        return np.array([x1 - width, y1 - height, x2 + width, y2 + height])


def cover_faces(image_bgr: NDArray[np.uint8], boxes_xyxy: NDArray[np.float32], cover: Cover) -> NDArray[np.uint8]:
    """A copy of the picture, (H, W, 3) BGR uint8, with the faces of (N, 4) boxes covered."""
    canvas = image_bgr.copy()
    for box in boxes_xyxy[np.isfinite(boxes_xyxy).all(axis=1)]:
        _cover(canvas, box, cover)
    return canvas


def _cover(canvas: NDArray[np.uint8], box_xyxy: NDArray[np.float32], cover: Cover) -> None:
    height, width = canvas.shape[:2]
    area = cover.area(box_xyxy)
    left, top = np.floor(area[:2]).astype(int).clip(0, (width, height))
    right, bottom = np.ceil(area[2:]).astype(int).clip(0, (width, height))
    if right <= left or bottom <= top:
        return
    part = canvas[top:bottom, left:right]
    # Blocks are a part of the face itself, not of what lies around it, so that a margin makes them no finer.
    face_wh = np.maximum(box_xyxy[2:] - box_xyxy[:2], 1.0)
    covered = _covered(part, face_wh, cover.method, (left, top))
    if cover.shape == "box":
        part[:] = covered
        return
    mask = np.zeros(part.shape[:2], np.uint8)
    centre = (area[:2] + area[2:]) / 2 - (left, top)
    axes = np.maximum((area[2:] - area[:2]) / 2, 1.0)
    shift = 4  # sixteenths of a pixel
    scaled = [tuple(int(value) for value in np.round(pair * (1 << shift))) for pair in (centre, axes)]
    cv2.ellipse(mask, scaled[0], scaled[1], 0, 0, 360, 255, cv2.FILLED, cv2.LINE_8, shift)
    np.copyto(part, covered, where=mask[..., None] > 0)


def _covered(
    part: NDArray[np.uint8], face_wh: NDArray[np.float32], method: Method, corner_xy: tuple[int, int]
) -> NDArray[np.uint8]:
    height, width = part.shape[:2]
    if method == "solid":
        return np.full_like(part, SOLID_BGR)
    if method == "mosaic":
        return _mosaic(part, math.ceil(float(face_wh.max()) / MOSAIC_BLOCKS), corner_xy)
    # At least one block, at most as many as keep each a sixth of the face's sides.
    blocks = [max(1, int(side * BLOCKS / face)) for side, face in zip((width, height), face_wh, strict=True)]
    small = cv2.resize(part, (min(blocks[0], width), min(blocks[1], height)), interpolation=cv2.INTER_AREA)
    way = cv2.INTER_CUBIC if method == "blur" else cv2.INTER_NEAREST
    return np.asarray(cv2.resize(small, (width, height), interpolation=way), dtype=np.uint8)


def _mosaic(part: NDArray[np.uint8], block: int, corner_xy: tuple[int, int]) -> NDArray[np.uint8]:
    """Blocks on a grid of the picture, which doesn't move with the face, of few colours."""
    height, width = part.shape[:2]
    left, top = corner_xy[0] % block, corner_xy[1] % block
    right, bottom = -(left + width) % block, -(top + height) % block
    whole = cv2.copyMakeBorder(part, top, bottom, left, right, cv2.BORDER_REPLICATE)
    size_wh = whole.shape[1] // block, whole.shape[0] // block
    small = np.asarray(cv2.resize(whole, size_wh, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    step = 256 // MOSAIC_LEVELS
    small = (small // step) * step + step // 2
    large = cv2.resize(small, (whole.shape[1], whole.shape[0]), interpolation=cv2.INTER_NEAREST)
    return np.asarray(large[top : top + height, left : left + width], dtype=np.uint8)
