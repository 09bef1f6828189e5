"""Faces brought to one place and size by their five landmarks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ARCFACE_SIDE = 112  # pixels
# Where ArcFace's training pictures have the LANDMARK_NAMES (Deng et al., CVPR 2019; insightface's face_align).
ARCFACE_XY = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], np.float64
)


def similarity(source_xy: NDArray[np.floating], target_xy: NDArray[np.floating]) -> NDArray[np.float64] | None:
    """(2, 3): turn, even scale and shift, no mirroring, that bring (N, 2) points nearest to others in least squares
    (Umeyama, PAMI 1991, equations 39 to 43). None where the source's points are one point, or not finite."""
    source, target = np.asarray(source_xy, np.float64), np.asarray(target_xy, np.float64)
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    centred = source - source_mean
    variance = float((centred**2).sum()) / len(source)
    if not np.isfinite(variance) or variance < 1e-9:
        return None
    left, values, right = np.linalg.svd((target - target_mean).T @ centred / len(source))
    signs = np.array([1.0, 1.0 if np.linalg.det(left) * np.linalg.det(right) > 0 else -1.0])
    turn = left @ np.diag(signs) @ right
    scale = float((values * signs).sum()) / variance
    return np.column_stack([scale * turn, target_mean - scale * turn @ source_mean])
