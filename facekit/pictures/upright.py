"""Decoded pictures as a player shows them: turned and mirrored by the file's display matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def display_matrix(decoded: Any) -> NDArray[np.int64] | None:
    """(2, 2) of PyAV's frame: a pixel at (x, y) is shown at (x, y) times it; None: it has none.

    FFmpeg's AV_FRAME_DATA_DISPLAYMATRIX, nine int32 by rows, of which the rest moves and scales.
    """
    data = decoded.side_data.get("DISPLAYMATRIX")
    if data is None or data.buffer_size < 36:
        return None
    return np.frombuffer(data, np.int32, 9).reshape(3, 3)[:2, :2].astype(np.int64)


def swaps_sides(matrix: NDArray[np.int64] | None) -> bool:
    """Whether it turns by a quarter, to the nearest."""
    if matrix is None:
        return False
    (a, b), (c, d) = matrix.tolist()
    return bool(a * d != b * c and abs(a) + abs(d) < abs(b) + abs(c))


def upright(image_bgr: NDArray[np.uint8], matrix: NDArray[np.int64] | None) -> NDArray[np.uint8]:
    """(H, W, 3), turned by the nearest multiple of 90 degrees and mirrored; as it is by a matrix that maps all to a
    line or a point. The angle alone would not do: that of a mirrored picture is 180 degrees to FFmpeg."""
    if matrix is None:
        return image_bgr
    (a, b), (c, d) = matrix.tolist()
    if a * d == b * c:
        return image_bgr
    if swaps_sides(matrix):
        image_bgr, a, d = image_bgr.transpose(1, 0, 2), c, b
    if a < 0:
        image_bgr = image_bgr[:, ::-1]
    if d < 0:
        image_bgr = image_bgr[::-1]
    return np.ascontiguousarray(image_bgr)
