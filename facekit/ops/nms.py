"""From decoded boxes to the faces of a picture. NumPy: the same on every runtime and machine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from facekit.ops.arrays import as_numpy
from facekit.structures import Decoded, Detections

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
    is_box = (corners[:, 2:] >= corners[:, :2]).all(axis=1) & (np.abs(corners) <= FARTHEST).all(axis=1)
    chosen = np.flatnonzero((scores > score_threshold) & is_box)
    chosen = chosen[np.argsort(-scores[chosen], kind="stable")[:max_candidates]]
    boxes_xyxy = corners[chosen]
    kept = suppress(boxes_xyxy, nms_iou_threshold, union_slack, max_detections)
    scale = np.array(scale_xy, dtype=np.float32)
    landmarks = None
    if decoded.landmarks_xy is not None:
        points = as_numpy(decoded.landmarks_xy)[chosen[kept]].astype(np.float32, copy=False)
        landmarks = points.reshape(-1, 5, 2) * scale
    return Detections(boxes_xyxy[kept] * np.tile(scale, 2), scores[chosen[kept]], landmarks)


def suppress(
    boxes_xyxy: NDArray[np.float32], iou_threshold: float, union_slack: float = 0.0, most: int | None = None
) -> NDArray[np.int64]:
    """Greedy NMS of (N, 4) boxes, best first: the (K,) indices of those that overlap no better kept box by more than
    the threshold, ascending; the best `most` of them.

    Boxes are laid out by their left border. Two boxes overlap by more than t only where their left borders lie within
    (1 - t) / t of either's width, so a kept box looks at that stretch alone: a crowd costs its neighbours, not its
    square.
    """
    count = len(boxes_xyxy)
    by_left = np.argsort(boxes_xyxy[:, 0], kind="stable")
    x1, y1, x2, y2 = boxes_xyxy[by_left].T.copy()
    areas = (x2 - x1) * (y2 - y1)
    reach = (x2 - x1) * np.float32((1 - iou_threshold) / iou_threshold * 1.0001) if iou_threshold > 0 else x2 + np.inf
    place_of = np.empty(count, dtype=np.int64)
    place_of[by_left] = np.arange(count)
    flags = bytearray(b"\1") * count  # the same memory twice: a byte is cheap to look at, an array to change
    stands = np.frombuffer(flags, dtype=np.bool_)
    kept: list[int] = []
    with np.errstate(divide="ignore", invalid="ignore"):  # boxes without area overlap nothing
        for index, place in enumerate(place_of.tolist()):
            if not flags[place]:
                continue
            kept.append(index)
            if len(kept) == most:
                break
            left, far = x1[place], reach[place]
            near = slice(*x1.searchsorted((left - far, left + far)))
            width = np.minimum(x2[near], x2[place]) - np.maximum(x1[near], left)
            height = np.minimum(y2[near], y2[place]) - np.maximum(y1[near], y1[place])
            shared = np.maximum(width, 0, out=width) * np.maximum(height, 0, out=height)
            overlap = shared / (areas[near] + areas[place] - shared + np.float32(union_slack))
            stands[near] &= ~(overlap > iou_threshold)
    return np.array(kept, dtype=np.int64)
