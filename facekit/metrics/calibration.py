"""Whether scores mean what they say: of the detections scored about 0.8, about 80 per cent should be faces."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facekit.errors import FacekitError
from facekit.metrics.matching import IGNORED, SetMatches
from facekit.metrics.overlaps import as_rows

ROUNDING = 1e-6  # by which a single-precision sigmoid or softmax may leave 0..1


class ReliabilityBin(NamedTuple):
    """Detections whose scores lie in low <= score < high; the last bin has its upper end too."""

    low: float
    high: float
    detections: int
    mean_score: float  # NaN in an empty bin
    precision: float  # 0..1, the share that hit a face; NaN in an empty bin


def reliability(matches: SetMatches, bins: int = 10) -> list[ReliabilityBin]:
    """Reliability of the scores over a labelled set, see `matching.match_set`.

    A second hit on a face is none. Ignored faces, crowds among them, can't be hit, and detections that lie in them are
    left out. Errors as `reliability_of`.
    """
    counts = matches.match != IGNORED
    return reliability_of(matches.scores[counts], matches.is_hit[counts], bins)


def reliability_of(scores: ArrayLike, is_hit: ArrayLike, bins: int = 10) -> list[ReliabilityBin]:
    """Reliability of scores whose detections are known to hit or not.

    Args:
        scores: (P,) in 0..1, without those of ignored detections.
        is_hit: (P,) bool.
        bins: number of equal parts of 0..1.

    Raises:
        ValueError: arrays of other shapes, or fewer than one bin.
        FacekitError: scores outside 0..1 or not finite.
    """
    score, hit = as_rows(scores, 0, "scores"), np.asarray(is_hit, dtype=np.bool_)
    if hit.shape != score.shape:
        raise ValueError(f"is_hit: must be of shape {score.shape}, but got {hit.shape}.")
    if bins < 1:
        raise ValueError(f"bins: must be 1 or more, but got {bins}.")
    outside = (score < -ROUNDING) | (score > 1 + ROUNDING)
    if outside.any():
        raise FacekitError(
            f"scores: {score[outside][0]:g} lies outside 0..1, so that it can't be a probability. "
            "Check that the export applies the sigmoid or softmax."
        )
    edges = np.arange(bins + 1) / bins
    which = np.clip(np.searchsorted(edges, score, side="right") - 1, 0, bins - 1)
    number = np.bincount(which, minlength=bins)
    mean_score, precision = (_mean(which, values, number) for values in (score, hit.astype(np.float64)))
    return [
        ReliabilityBin(*row)
        for row in zip(
            edges[:-1].tolist(),
            edges[1:].tolist(),
            number.tolist(),
            mean_score.tolist(),
            precision.tolist(),
            strict=True,
        )
    ]


def expected_calibration_error(bins: Sequence[ReliabilityBin]) -> float:
    """Mean over all detections of how far their bin's precision lies from its mean score, 0..1; NaN without detections.

    Naeini, Cooper, Hauskrecht 2015, "Obtaining well calibrated probabilities using Bayesian binning".
    """
    filled = [part for part in bins if part.detections]
    if not filled:
        return math.nan
    total = sum(part.detections for part in filled)
    return sum(part.detections * abs(part.precision - part.mean_score) for part in filled) / total


def _mean(which: NDArray[np.int64], values: NDArray[np.float64], number: NDArray[np.int64]) -> NDArray[np.float64]:
    """(bins,) of the values that lie in each bin; NaN for none."""
    sums = np.bincount(which, weights=values, minlength=len(number))
    means = np.full(len(number), math.nan)
    np.divide(sums, number, out=means, where=number > 0)
    return means
