"""The mistakes of a detector that are worth a look: confident detections of nothing, and large faces not found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facekit.metrics.matching import labelled_pictures, match_greedily, overlaps_of

TOUCHING = 0.3  # overlap from which a detection has to do with a face, if only as a poor box


class Mistake(NamedTuple):
    """One detection of nothing, or one face that was missed."""

    picture: int  # index into the sequences given
    box_xyxy: tuple[float, float, float, float]  # pixels
    score: float  # the detection's; for a miss the best of those that touch the face, 0 for none


class Mistakes(NamedTuple):
    """Worst first."""

    false_positives: list[Mistake]
    misses: list[Mistake]


def worst_mistakes(
    gt_boxes_xywh: Sequence[ArrayLike],
    is_ignored: Sequence[ArrayLike],
    det_boxes_xyxy: Sequence[ArrayLike],
    det_scores: Sequence[ArrayLike],
    count: int,
    per_picture: int = 2,
    score_threshold: float = 0.0,
) -> Mistakes:
    """The `count` worst false positives and misses of a set, at most `per_picture` of each from one picture.

    A false positive touches no face: IoU below 0.3 with all of them, and less than 0.3 of its area in any ignored one.
    The best score is the worst. A miss is a face that no detection takes, greedily by score at IoU 0.5
    (`matching.match_greedily`). The largest is the worst. Poor boxes and second hits are thus no false positives here,
    though the face under a poor box is a miss.

    Args:
        is_ignored: true for crowds and for what annotators marked as invalid: never a miss, and what lies over them is
            never a false positive. For the others, and for errors, see `matching.labelled_pictures`.
        score_threshold: detections below it take no face and are no false positive; they only tell how near a miss was.
    """
    false_positives: list[tuple[float, Mistake]] = []
    misses: list[tuple[float, Mistake]] = []
    pictures = labelled_pictures(gt_boxes_xywh, is_ignored, det_boxes_xyxy, det_scores)
    for index, picture in enumerate(pictures):
        overlaps = overlaps_of(picture)
        counts = picture.scores >= score_threshold
        is_false = counts & ~(overlaps >= TOUCHING).any(axis=1)
        false_positives += _worst(index, picture.boxes_xyxy, picture.scores, picture.scores, is_false, per_picture)
        is_missed = ~picture.is_ignored
        match = match_greedily(picture, overlaps)
        is_missed[match[counts & (match >= 0)]] = False
        areas = np.prod(picture.faces_xyxy[:, 2:] - picture.faces_xyxy[:, :2], axis=1)
        nearest = np.where(overlaps >= TOUCHING, picture.scores[:, None], 0.0).max(axis=0, initial=0.0)
        misses += _worst(index, picture.faces_xyxy, areas, nearest, is_missed, per_picture)
    return Mistakes(_heaviest(false_positives, count), _heaviest(misses, count))


def _worst(
    index: int,
    boxes_xyxy: NDArray[np.float64],
    weights: NDArray[np.float64],
    scores: NDArray[np.float64],
    is_mistake: NDArray[np.bool_],
    limit: int,
) -> list[tuple[float, Mistake]]:
    """The heaviest mistakes of one picture, each behind its weight."""
    rows = np.flatnonzero(is_mistake)
    rows = rows[np.argsort(-weights[rows], kind="stable")[:limit]]
    return [
        (weight, Mistake(index, tuple(box), score))
        for weight, box, score in zip(
            weights[rows].tolist(), boxes_xyxy[rows].tolist(), scores[rows].tolist(), strict=True
        )
    ]


def _heaviest(weighted: list[tuple[float, Mistake]], count: int) -> list[Mistake]:
    return [mistake for _, mistake in sorted(weighted, key=lambda pair: -pair[0])[:count]]
