"""What boxes share with each other, and the checks on boxes that all metrics make. float64 throughout."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facekit.errors import FacekitError


def as_rows(values: ArrayLike, columns: int, where: str) -> NDArray[np.float64]:
    """The values as float64 (N, columns), or (N,) for no columns; the caller's array is never changed.

    Raises:
        ValueError: another shape. `where` names the argument and the picture.
        FacekitError: a value that is not finite.
    """
    rows = np.asarray(values, dtype=np.float64)
    if (rows.shape[1:] != (columns,)) if columns else (rows.ndim != 1):
        expected = f"(_, {columns})" if columns else "(_,)"
        raise ValueError(f"{where}: must be of shape {expected}, but got {rows.shape}.")
    if not np.isfinite(rows).all():
        first = np.argwhere(~np.isfinite(rows))[0, 0]
        raise FacekitError(
            f"{where}: row {first} is {rows[first]}, expected finite numbers. "
            "Look for a diverged training or a broken export."
        )
    return rows


def intersection_areas(
    first_xyxy: NDArray[np.float64], second_xyxy: NDArray[np.float64], pixel: float = 0.0
) -> NDArray[np.float64]:
    """The area that every box of the first set shares with every box of the second.

    Args:
        first_xyxy: (N, 4) corners in pixels.
        second_xyxy: (M, 4) corners in pixels.
        pixel: 1.0 where the far corner lies inside the box (widths are x2 - x1 + 1), else 0.0.

    Returns:
        (N, M) square pixels, 0 or more; 0 also for boxes turned inside out.
    """
    width = np.minimum(first_xyxy[:, None, 2], second_xyxy[:, 2])
    width -= np.maximum(first_xyxy[:, None, 0], second_xyxy[:, 0])
    width += pixel
    height = np.minimum(first_xyxy[:, None, 3], second_xyxy[:, 3])
    height -= np.maximum(first_xyxy[:, None, 1], second_xyxy[:, 1])
    height += pixel
    area: NDArray[np.float64] = np.maximum(width, 0.0, out=width)
    area *= np.maximum(height, 0.0, out=height)
    return area


def ratio_of(shared: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    """shared / whole, (N, M); 0 wherever nothing is shared, so that boxes without area need no case of their own."""
    ratio: NDArray[np.float64] = np.divide(shared, whole, out=np.zeros_like(shared), where=shared > 0)
    return ratio
