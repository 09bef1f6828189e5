"""Faces cut out of pictures."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from facekit.ops.align import ARCFACE_SIDE, ARCFACE_XY, similarity
from facekit.structures import Face


def crop(image_bgr: NDArray[np.uint8], face: Face) -> NDArray[np.uint8] | None:
    """The pixels of a face's box that lie in the picture, whole pixels outward, BGR; None where none do."""
    if not np.isfinite(face.box_xyxy).all():
        return None
    height, width = image_bgr.shape[:2]
    left, top = np.floor(face.box_xyxy[:2]).astype(int).clip(0, (width, height))
    right, bottom = np.ceil(face.box_xyxy[2:]).astype(int).clip(0, (width, height))
    return image_bgr[top:bottom, left:right] if right > left and bottom > top else None


def align(image_bgr: NDArray[np.uint8], face: Face) -> NDArray[np.uint8] | None:
    """(112, 112, 3) BGR uint8 with the five landmarks where ArcFace and its kin want them, black beyond the picture.

    None for a face without landmarks, and for landmarks that are one point.
    """
    matrix = None if face.landmarks_xy is None else similarity(face.landmarks_xy, ARCFACE_XY)
    if matrix is None:
        return None
    side = (ARCFACE_SIDE, ARCFACE_SIDE)
    return np.asarray(cv2.warpAffine(image_bgr, matrix, side, flags=cv2.INTER_LINEAR), dtype=np.uint8)
