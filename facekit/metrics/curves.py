"""Precision and recall, shared by the metrics that walk down a ranking of detections."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def area_under_envelope(recall: NDArray[np.float64], precision: NDArray[np.float64]) -> float:
    """Average precision: the area under the smallest falling step curve that lies on or over the precision.

    Args:
        recall: (K,) in 0..1, never falling.
        precision: (K,) in 0..1 at those recalls.

    Returns:
        0..1; 0.0 for a curve without points. Recall that is never reached adds nothing.
    """
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * envelope))
