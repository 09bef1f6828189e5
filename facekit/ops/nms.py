"""From decoded boxes to the faces of a picture. NumPy: the same on every runtime and machine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from facekit.ops.arrays import as_numpy
from facekit.structures import Decoded, Detections

FEW = 2048  # boxes, up to which looking at all of them is cheaper than a layout
BLOCK = 64
FARTHEST = 1e7  # pixels from the picture's corner: no box of a working detector lies there, and none is infinite


def select_detections(
    decoded: Decoded,
    score_threshold: float,
    nms_iou_threshold: float,
    max_candidates: int | None,
    max_detections: int | None,
    union_slack: float = 0.0,
    scale_xy: tuple[float, float] = (1.0, 1.0),
) -> Detections:
    """The faces of one picture, (A, 4) boxes and (A,) scores: threshold, best candidates, greedy NMS, best detections.

    `scale_xy` multiplies x and y: from pixels of the network's input to pixels of the picture. `union_slack` is added
    to each union of two boxes, in square pixels of the input. Equal scores keep the order of the priors. What is not
    finite is no face.
    """
    scores = as_numpy(decoded.scores).astype(np.float32, copy=False)
    corners = as_numpy(decoded.boxes_xyxy).astype(np.float32, copy=False)
    # Distances may come out negative and turn a box inside out, and early in training overflow: that is no face.
    x1, y1, x2, y2 = corners.T
    is_face = (
        (scores > score_threshold) & (x2 >= x1) & (y2 >= y1) & (np.abs(corners).max(axis=1, initial=0) <= FARTHEST)
    )
    chosen = np.flatnonzero(is_face)
    chosen = chosen[np.argsort(-scores[chosen], kind="stable")[:max_candidates]]
    boxes_xyxy = corners[chosen]
    kept = suppress(boxes_xyxy, nms_iou_threshold, union_slack, max_detections)
    landmarks = None
    if decoded.landmarks_xy is not None:
        points = as_numpy(decoded.landmarks_xy)[chosen[kept]].astype(np.float32, copy=False)
        landmarks = points.reshape(-1, 5, 2) * np.array(scale_xy, dtype=np.float32)
    return Detections(boxes_xyxy[kept] * np.array(scale_xy * 2, dtype=np.float32), scores[chosen[kept]], landmarks)


def suppress(
    boxes_xyxy: NDArray[np.float32], iou_threshold: float, union_slack: float = 0.0, most: int | None = None
) -> NDArray[np.int64]:
    """Greedy NMS of (N, 4) boxes, best first: the (K,) indices of those that overlap no better kept box by more than
    the threshold, ascending; the best `most` of them.

    Boxes are laid out by their left border. A box that overlaps another of width w by more than t begins no more than
    w (1 - t) / t before it (it would have to cover more than it shares) and w (1 - t) behind it: a kept box looks at
    that stretch alone, so that a crowd costs its neighbours, not its square.
    """
    kept: list[int] = []
    rest = np.arange(len(boxes_xyxy))
    share = max(iou_threshold, 1e-9)
    before, behind = np.float32((1 - share) / share * 1.0001), np.float32((1 - share) * 1.0001)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # boxes without area overlap nothing
        while len(rest) > FEW and len(kept) != most:
            # Once half of the boxes have fallen, those that stand are laid out anew.
            by_left = np.argsort(boxes_xyxy[rest, 0])
            corners = boxes_xyxy[rest[by_left]].T.copy()
            top_left, bottom_right, left = corners[:2], corners[2:], corners[0]
            sides = bottom_right - top_left
            areas = sides[0] * sides[1]
            place_of = np.empty(len(rest), dtype=np.int64)
            place_of[by_left] = np.arange(len(rest))
            flags = bytearray(b"\1") * len(rest)  # the same memory twice: cheap to look at, cheap to change
            stands = np.frombuffer(flags, dtype=np.bool_)
            for place in place_of.tolist():
                if not flags[place]:
                    continue
                kept.append(int(rest[by_left[place]]))
                if len(kept) == most:
                    break
                width, x1 = sides[0, place], left[place]
                near = slice(*left.searchsorted((x1 - width * before, x1 + width * behind)))
                common = np.minimum(bottom_right[:, near], bottom_right[:, place, None])
                common -= np.maximum(top_left[:, near], top_left[:, place, None])
                np.maximum(common, 0, out=common)
                shared = common[0] * common[1]
                union = areas[near] + (areas[place] + np.float32(union_slack))
                union -= shared
                shared /= union
                stands[near] &= ~(shared > iou_threshold)
                flags[place] = 0
                if 2 * np.count_nonzero(stands) < len(rest):
                    break
            rest = rest[stands[place_of]]
    left_over = None if most is None else most - len(kept)
    return np.array(
        kept + rest[_suppress_few(boxes_xyxy[rest], iou_threshold, union_slack, left_over)].tolist(), np.int64
    )


def _suppress_few(
    boxes_xyxy: NDArray[np.float32], iou_threshold: float, union_slack: float, most: int | None
) -> NDArray[np.int64]:
    """suppress() without a layout: the best BLOCK of those that stand settle among themselves, then fell the others."""
    areas = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).prod(axis=1)

    def fells(some: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(S, O): whether each of some overlaps each of others by more than the threshold."""
        x1, y1, x2, y2 = boxes_xyxy[some].T[:, :, None]
        left, top, right, bottom = boxes_xyxy[others].T
        width = np.minimum(x2, right) - np.maximum(x1, left)
        height = np.minimum(y2, bottom) - np.maximum(y1, top)
        shared = np.maximum(width, 0) * np.maximum(height, 0)
        over: NDArray[np.bool_] = (
            shared / (areas[others] + (areas[some] + np.float32(union_slack))[:, None] - shared) > iou_threshold
        )
        return over

    kept: list[int] = []
    rest = np.arange(len(boxes_xyxy))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # boxes without area overlap nothing
        while len(rest) and len(kept) != most:
            block, rest = rest[:BLOCK], rest[BLOCK:]
            fallen, new = np.zeros(len(block), dtype=np.bool_), []
            for place, falls in enumerate(fells(block, block)):
                if not fallen[place]:
                    new.append(place)
                    fallen |= falls
                    if len(kept) + len(new) == most:
                        break
            kept += block[new].tolist()
            if len(rest):
                rest = rest[~fells(block[new], rest).any(axis=0)]
    return np.array(kept, dtype=np.int64)
