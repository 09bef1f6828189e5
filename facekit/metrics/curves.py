"""Precision and recall, shared by the metrics that walk down a ranking of detections."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from facekit.metrics.matching import IGNORED, SetMatches


class OperatingPoint(NamedTuple):
    """What a detector does where the faces over one score are kept."""

    score_threshold: float  # detections whose score is over it are kept
    precision: float  # 0..1; NaN where nothing is kept
    recall: float  # 0..1; NaN without faces to find
    f1: float  # their harmonic mean, 0..1; NaN without faces to find
    false_positives_per_picture: float


@dataclass(frozen=True)
class DetectionCurve:
    """What is found down to each of the K scores that occur, best first; equal scores are one point."""

    scores: NDArray[np.float64]  # (K,) falling
    true: NDArray[np.int64]  # (K,) faces found so far
    false: NDArray[np.int64]  # (K,) false positives so far
    faces: int  # that count
    pictures: int

    @property
    def ap(self) -> float:
        """Area under the falling envelope of precision over recall, 0..1; NaN if no face counts."""
        if self.faces == 0:
            return math.nan
        return area_under_envelope(self.true / self.faces, self.true / (self.true + self.false))

    def recall_at(self, false_positives_per_picture: float) -> float:
        """The largest recall with at most so many false positives a picture, 0..1; NaN if no face counts."""
        if self.faces == 0:
            return math.nan
        within = np.searchsorted(self.false / self.pictures, false_positives_per_picture, side="right")
        return float(self.true[within - 1] / self.faces) if within else 0.0

    def at(self, score_threshold: float) -> OperatingPoint:
        """What is kept over a score."""
        kept = int(np.count_nonzero(self.scores > score_threshold))
        true, false = (int(counts[kept - 1]) if kept else 0 for counts in (self.true, self.false))
        return OperatingPoint(
            score_threshold,
            true / (true + false) if kept else math.nan,
            true / self.faces if self.faces else math.nan,
            2 * true / (true + false + self.faces) if self.faces else math.nan,
            false / self.pictures if self.pictures else math.nan,
        )

    def best_f1(self, lowest: float) -> OperatingPoint | None:
        """The threshold of the best F1, and of equal ones the highest; None where no face counts or none is found.

        lowest: the score over which detections were asked for, as nothing is known of those below it. The threshold
        lies midway between the last score that is kept and the next, in as few decimals as tell them apart.
        """
        f1 = 2 * self.true / np.maximum(self.true + self.false + self.faces, 1)
        if not self.faces or not len(f1) or f1.max() <= 0:
            return None
        best = int(f1.argmax())
        next_score = float(self.scores[best + 1]) if best + 1 < len(self.scores) else lowest
        return self.at(_between(next_score, float(self.scores[best])))

    def thinned(self, points: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Recall and precision of at most so many points, evenly over the recall: of each the best precision."""
        if not len(self.scores) or not self.faces:
            return np.empty(0), np.empty(0)
        wanted = np.linspace(self.true[0], self.true[-1], points)
        rows = np.unique(np.append(np.searchsorted(self.true, wanted), len(self.true) - 1))
        return self.true[rows] / self.faces, self.true[rows] / (self.true + self.false)[rows]


def detection_curve(matches: SetMatches) -> DetectionCurve:
    """The curve of a set. Where several detections claim one face, the best-scored one has it; the others are false."""
    counts = matches.match != IGNORED
    match, scores = matches.match[counts], matches.scores[counts]
    order = np.argsort(-scores, kind="stable")
    match, scores = match[order], scores[order]
    is_true = np.zeros(len(match), dtype=np.bool_)
    is_true[np.unique(match, return_index=True)[1]] = True
    is_true &= match >= 0
    last_of_equals = np.flatnonzero(np.diff(scores, append=-np.inf))
    true = is_true.cumsum(dtype=np.int64)[last_of_equals]
    return DetectionCurve(scores[last_of_equals], true, last_of_equals + 1 - true, matches.faces, matches.pictures)


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


def _between(low: float, high: float) -> float:
    """A number from low up to, but not at, high: near their middle, with few decimals."""
    middle = (low + high) / 2
    rounded = (round(middle, digits) for digits in range(1, 17))
    return next((number for number in rounded if low <= number < high), low)
