"""AP and recall of faces of a minimum height: `ap_64x64` of the templates, a VOC-style all-points AP that ignores
small faces and crowds, and the recall at a given number of false positives a picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facekit.metrics.curves import DetectionCurve, detection_curve
from facekit.metrics.matching import FALSE, IGNORED, IOU_THRESHOLD, SetMatches, labelled_pictures
from facekit.metrics.overlaps import intersection_areas, ratio_of

FRAME = 1024  # pixels; faces are clipped to a square of this side, whatever the picture's size
FAR_PIXEL = np.array([0.0, 0.0, 1.0, 1.0])  # annotated boxes are taken to be a pixel wider and higher than they say
SCORE_THRESHOLD = 0.01  # only detections over it take part


def ap_by_height(
    gt_boxes_xywh: Sequence[ArrayLike],
    is_ignored: Sequence[ArrayLike],
    det_boxes_xyxy: Sequence[ArrayLike],
    det_scores: Sequence[ArrayLike],
    min_height: int = 64,
) -> float:
    """Average precision, 0..1, at IoU 0.5 for faces of at least `min_height` pixels. See `curve_by_height`."""
    return curve_by_height(gt_boxes_xywh, is_ignored, det_boxes_xyxy, det_scores, min_height).ap


def curve_by_height(
    gt_boxes_xywh: Sequence[ArrayLike],
    is_ignored: Sequence[ArrayLike],
    det_boxes_xyxy: Sequence[ArrayLike],
    det_scores: Sequence[ArrayLike],
    min_height: int = 64,
    frame: float = FRAME,
) -> DetectionCurve:
    """True and false positives at IoU 0.5 for faces of at least `min_height` pixels in the annotation's picture.

    Faces and detections are rounded to whole pixels; faces, one pixel larger than annotated, are clipped to the frame.
    Smaller faces and crowds are ignored: none of them counts as missed, and a detection that matches no other face but
    has half its own area in an ignored one is neither true nor false, however many such detections there are.

    Args:
        gt_boxes_xywh: one (N, 4) a picture, COCO boxes x, y, w, h in pixels.
        is_ignored: one (N,) bool a picture, true for crowds, whatever their height.
        det_boxes_xyxy: one (M, 4) a picture, corners in pixels, in any order.
        det_scores: one (M,) a picture.
        min_height: pixels, after rounding and clipping. 1 is every face inside the frame.
        frame: side in pixels. The protocol's hides what lies right of or below pixel 1024, so that faces there can't
            be found; math.inf leaves every face whole.

    Raises:
        ValueError: sequences of different lengths, or arrays of other shapes.
        FacekitError: a value that is not finite.
    """
    matches, scores, counted = [np.empty(0, dtype=np.int64)], [np.empty(0)], 0
    for picture in labelled_pictures(gt_boxes_xywh, is_ignored, det_boxes_xyxy, det_scores):
        faces_xywh = _faces_in_frame(picture.faces_xyxy, frame)
        keep = picture.scores > SCORE_THRESHOLD
        counts = (min_height <= faces_xywh[:, 3]) & (faces_xywh[:, 3] <= frame) & ~picture.is_ignored
        ignored_xywh = faces_xywh[~counts]
        if picture.is_ignored.any():
            # A crowd is no face that the frame could hide: it stays whole, so that what lies in it is nowhere wrong.
            crowds_xywh = _whole_pixels(picture.faces_xyxy[picture.is_ignored] + FAR_PIXEL)
            ignored_xywh = np.concatenate([faces_xywh[~counts & ~picture.is_ignored], crowds_xywh])
        match = _match(_whole_pixels(picture.boxes_xyxy[keep]), faces_xywh[counts], ignored_xywh)
        matches.append(np.where(match >= 0, match + counted, match))
        scores.append(picture.scores[keep])
        counted += int(np.count_nonzero(counts))
    return detection_curve(SetMatches(np.concatenate(matches), np.concatenate(scores), counted, len(gt_boxes_xywh)))


def _whole_pixels(boxes_xyxy: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 4) corners to x, y, w, h, each rounded by itself, halves to even."""
    xywh = np.concatenate([boxes_xyxy[:, :2], boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]], axis=1)
    rounded: NDArray[np.float64] = np.rint(xywh)
    return rounded


def _faces_in_frame(faces_xyxy: NDArray[np.float64], frame: float) -> NDArray[np.float64]:
    """(N, 4) corners as annotated to x, y, w, h in whole pixels, clipped to the frame."""
    faces_xywh = _whole_pixels(faces_xyxy + FAR_PIXEL)
    # The protocol moves a corner that lies outside without shrinking the box by as much.
    top_left = np.maximum(faces_xywh[:, :2], 0)
    return np.concatenate([top_left, np.minimum(faces_xywh[:, 2:], frame - top_left)], axis=1)


def _match(
    boxes_xywh: NDArray[np.float64], counting_xywh: NDArray[np.float64], ignored_xywh: NDArray[np.float64]
) -> NDArray[np.int64]:
    """(N,) the index of each box's best counting face, else IGNORED or FALSE. Who comes first is settled later: a
    face that is taken isn't passed over for the next best, so boxes don't depend on each other."""
    boxes_xyxy, counting_xyxy, ignored_xyxy = (
        np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
        for xywh in (boxes_xywh, counting_xywh, ignored_xywh)
    )
    box_areas, counting_areas = (np.prod(xywh[:, 2:], axis=1) for xywh in (boxes_xywh, counting_xywh))
    match = np.full(len(boxes_xywh), FALSE)
    if len(ignored_xywh):
        shared = intersection_areas(boxes_xyxy, ignored_xyxy)
        match[(ratio_of(shared, box_areas[:, None]) >= IOU_THRESHOLD).any(axis=1)] = IGNORED
    if len(counting_xywh):
        shared = intersection_areas(boxes_xyxy, counting_xyxy)
        iou = ratio_of(shared, box_areas[:, None] + counting_areas - shared)
        hits = iou.max(axis=1) >= IOU_THRESHOLD
        match[hits] = iou[hits].argmax(axis=1)
    return match
