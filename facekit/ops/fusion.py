"""Several passes over one picture become one set of faces: by weighted boxes fusion, or each face of its best look.

Solovyev, Wang, Gabruseva 2021, "Weighted boxes fusion: Ensembling boxes from different object detection models",
section 3.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from facekit.errors import FacekitError
from facekit.ops.boxes import area, intersections
from facekit.ops.nms import suppress
from facekit.structures import Detections

LEAST_WEIGHT = 1e-12  # lets boxes of score 0 have a mean
ROUNDING = 1e-6  # of an IoU
STRIPS = 64
PART_SHARE = 0.8  # of a box, inside a larger face's: then it is a part of that


def fuse(passes: Sequence[Detections], iou_threshold: float = 0.55, max_detections: int | None = None) -> Detections:
    """The faces that several passes over one picture found together, best score first.

    Best score first, each box joins the fused box that it overlaps most, if by more than the threshold, or else starts
    a new one. A fused box is the mean of its T boxes weighted by score, and so are its landmarks; its score is their
    plain mean, times min(T, N) / N for N passes, so that what few passes have seen counts less.

    Args:
        passes: one or more, all of one picture and in its pixels, scores in 0..1; a pass may have found nothing.
        iou_threshold: 0.5 or more, below 1: with less, one box could be part of two faces side by side.
        max_detections: of the result, the best ones; None: all.

    Returns:
        float32; with landmarks if the passes have them.

    Raises:
        ValueError: no passes, a threshold out of range, or landmarks in some passes only.
        FacekitError: a value that is not finite.
    """
    if not passes:
        raise ValueError("passes: must be one or more, but got none.")
    if not 0.5 <= iou_threshold < 1:
        raise ValueError(f"iou_threshold: must be 0.5 or more and below 1, but got {iou_threshold:g}.")
    scores = np.concatenate([found.scores for found in passes]).astype(np.float64)
    values = np.concatenate([_values(found) for found in _alike(passes)])
    if not (np.isfinite(values).all() and np.isfinite(scores).all()):
        raise FacekitError(
            "fusion of passes: a box, score or landmark is not finite, expected finite numbers. "
            "Look for a diverged training or a broken export."
        )
    order = np.argsort(-scores, kind="stable")
    scores, values = scores[order], values[order]
    weights = np.maximum(scores, LEAST_WEIGHT)
    _, cluster = np.unique(_cluster(values[:, :4], weights, iou_threshold), return_inverse=True)
    sizes = np.bincount(cluster)
    fused_scores = np.bincount(cluster, scores) / sizes * np.minimum(sizes, len(passes)) / len(passes)
    best = np.argsort(-fused_scores, kind="stable")[:max_detections]
    sums = np.stack([np.bincount(cluster, weights * column) for column in values.T], axis=1)
    fused = (sums / np.bincount(cluster, weights)[:, None])[best].astype(np.float32)
    return Detections(
        boxes_xyxy=fused[:, :4],
        scores=fused_scores[best].astype(np.float32),
        landmarks_xy=fused[:, 4:].reshape(-1, 5, 2) if fused.shape[1] > 4 else None,
    )


def unite(
    looks: Sequence[Detections], iou_threshold: float, large_side: float, max_detections: int | None = None
) -> Detections:
    """The faces of looks at one picture in ever smaller copies, each as it was seen best: greedy suppression over all.

    What lies inside a better box of a smaller copy, whose face is larger than the finer looks know (over `large_side`
    pixels), is a part of that face: of a face that is too large a network sees eyes and mouths, and takes them for
    faces. All boxes are in the picture's pixels. Raises as fuse(), but for values that are not finite.
    """
    if not looks:
        raise ValueError("looks: must be one or more, but got none.")
    seen = _alike(looks)
    scores = np.concatenate([found.scores for found in seen])
    values = np.concatenate([_values(found) for found in seen]).astype(np.float32)
    copy = np.repeat(np.arange(len(seen)), [len(found) for found in seen])
    order = np.argsort(-scores, kind="stable")
    kept = order[suppress(values[order, :4], iou_threshold)]
    boxes_xyxy, copy = values[kept, :4], copy[kept]
    areas = area(boxes_xyxy)
    large = np.flatnonzero((areas > large_side**2) & (copy > 0))
    is_part = intersections(boxes_xyxy[:, None], boxes_xyxy[large]) > PART_SHARE * areas[:, None]
    is_part &= (copy[:, None] < copy[large]) & (np.arange(len(kept))[:, None] > large)
    kept = kept[~is_part.any(axis=1)][:max_detections]
    landmarks_xy = values[kept, 4:].reshape(-1, 5, 2) if values.shape[1] > 4 else None
    return Detections(values[kept, :4], scores[kept], landmarks_xy)


def _alike(passes: Sequence[Detections]) -> Sequence[Detections]:
    """The passes that found something, or one that didn't: they agree on landmarks."""
    found = [part for part in passes if len(part)] or [passes[0]]
    if len({part.landmarks_xy is None for part in found}) > 1:
        raise ValueError("passes: must all have landmarks or none, but some have them.")
    return found


def _values(found: Detections) -> NDArray[np.float64]:
    """(N, 4) corners, or (N, 14) with landmarks."""
    columns = [found.boxes_xyxy]
    if found.landmarks_xy is not None:
        columns.append(found.landmarks_xy.reshape(len(found), 10))
    return np.concatenate(columns, axis=1).astype(np.float64)


def _cluster(boxes_xyxy: NDArray[np.float64], weights: NDArray[np.float64], iou_threshold: float) -> NDArray[np.int64]:
    """(N,) the first box of the cluster that each box belongs to, for boxes best score first.

    The paper takes one box after the other. Here many are taken at once, with the same result: a box only waits for
    those before it that could be in its way. The latest box of a cluster overlaps the fused box by more than the
    threshold t, as the mean moves towards it. Since 1 - IoU obeys the triangle inequality, what overlaps the fused box
    by more than t overlaps that latest box by more than 2 t - 1, and boxes that overlap by less never want the same
    cluster.
    """
    early, late = _overlapping_pairs(boxes_xyxy, 2 * iou_threshold - 1 - ROUNDING)
    before, after = _Neighbours(late, early, len(weights)), _Neighbours(early, late, len(weights))
    cluster = np.arange(len(weights))
    latest = cluster.copy()
    fused, totals, sums = boxes_xyxy.copy(), weights.copy(), boxes_xyxy * weights[:, None]
    waits_for = before.counts.copy()
    ready = np.flatnonzero(waits_for == 0)
    while len(ready):
        box, neighbour = before.of(ready)
        number = cluster[neighbour]
        once = latest[number] == neighbour
        box, number = box[once], number[once]
        iou = _paired_iou(boxes_xyxy[box], fused[number])
        order = np.lexsort((number, -iou, box))
        order = order[iou[order] > iou_threshold]
        box, best = np.unique(box[order], return_index=True)
        number = number[order][best]
        cluster[box], latest[number] = number, box
        totals[number] += totals[box]
        sums[number] += sums[box]
        fused[number] = sums[number] / totals[number, None]
        _, waiting = after.of(ready)
        np.subtract.at(waits_for, waiting, 1)
        ready = np.unique(waiting[waits_for[waiting] == 0])
    return cluster


class _Neighbours:
    """For each of N boxes those that it is paired with."""

    def __init__(self, boxes: NDArray[np.int64], partners: NDArray[np.int64], count: int) -> None:
        self.counts = np.bincount(boxes, minlength=count)
        self._partners = partners[np.argsort(boxes, kind="stable")]
        self._starts = np.cumsum(self.counts) - self.counts

    def of(self, boxes: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """All pairs of these boxes, (P,) the box and (P,) its partner."""
        counts = self.counts[boxes]
        return np.repeat(boxes, counts), self._partners[_ranges(self._starts[boxes], counts)]


def _overlapping_pairs(
    boxes_xyxy: NDArray[np.float64], iou_threshold: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All pairs of boxes that overlap by more than the threshold, (P,) the lower and (P,) the higher index.

    The picture is cut into strips that hold about equally many upper edges. In each strip a box is compared with those
    whose left edge lies between its own edges.
    """
    index = np.flatnonzero((boxes_xyxy[:, 2:] > boxes_xyxy[:, :2]).all(axis=1))
    left, top, right, bottom = boxes_xyxy[index].T
    edges = np.unique(np.sort(top)[:: max(len(top) // STRIPS, 1)])
    first_strip, last_strip = np.searchsorted(edges, top, side="right") - 1, np.searchsorted(edges, bottom) - 1
    # Ranks instead of pixels, so that far outliers don't spoil the keys.
    left_rank, right_rank = (np.searchsorted(np.sort(left), edge) for edge in (left, right))

    spans = last_strip - first_strip + 1
    row, strip = np.repeat(np.arange(len(index)), spans), _ranges(first_strip, spans)
    order = np.argsort(strip * len(index) + left_rank[row], kind="stable")
    row, strip = row[order], strip[order]
    ends = np.searchsorted(strip * len(index) + left_rank[row], strip * len(index) + right_rank[row])
    widths = ends - np.arange(1, len(row) + 1)
    one, other = np.repeat(np.arange(len(row)), widths), _ranges(np.arange(1, len(row) + 1), widths)
    # Two boxes meet in several strips: the first of them counts.
    once = strip[one] == np.maximum(first_strip[row[one]], first_strip[row[other]])
    one, other = index[row[one[once]]], index[row[other[once]]]
    overlaps = _paired_iou(boxes_xyxy[one], boxes_xyxy[other]) > max(iou_threshold, 0.0)
    one, other = one[overlaps], other[overlaps]
    return np.minimum(one, other), np.maximum(one, other)


def _ranges(starts: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """start, start + 1, ... of each range, `counts` numbers long, one range behind the other."""
    ends = np.cumsum(counts)
    return np.repeat(starts - (ends - counts), counts) + np.arange(ends[-1] if len(ends) else 0)


def _paired_iou(boxes_xyxy: NDArray[np.float64], others_xyxy: NDArray[np.float64]) -> NDArray[np.float64]:
    """IoU of boxes in pairs, (P, 4) and (P, 4) -> (P,); 0 where nothing is shared."""
    low, high = np.maximum(boxes_xyxy[:, :2], others_xyxy[:, :2]), np.minimum(boxes_xyxy[:, 2:], others_xyxy[:, 2:])
    sizes = np.maximum(high - low, 0)
    shared = sizes[:, 0] * sizes[:, 1]
    area, other_area = ((xyxy[:, 2] - xyxy[:, 0]) * (xyxy[:, 3] - xyxy[:, 1]) for xyxy in (boxes_xyxy, others_xyxy))
    iou: NDArray[np.float64] = np.zeros_like(shared)
    np.divide(shared, area + other_area - shared, out=iou, where=shared > 0)
    return iou
