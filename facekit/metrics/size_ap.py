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
    """The curve of one height, see `curves_by_height`."""
    labels = (gt_boxes_xywh, is_ignored, det_boxes_xyxy, det_scores)
    return curves_by_height(*labels, (min_height,), frame)[min_height]


def curves_by_height(
    gt_boxes_xywh: Sequence[ArrayLike],
    is_ignored: Sequence[ArrayLike],
    det_boxes_xyxy: Sequence[ArrayLike],
    det_scores: Sequence[ArrayLike],
    min_heights: Sequence[int],
    frame: float = FRAME,
) -> dict[int, DetectionCurve]:
    """True and false positives at IoU 0.5 for faces of at least each of `min_heights`, in the annotation's picture.

    Faces and detections are rounded to whole pixels; faces, one pixel larger than annotated, are clipped to the frame.
    Smaller faces and crowds are ignored: none of them counts as missed, and a detection that matches no other face but
    has half its own area in an ignored one is neither true nor false, however many such detections there are.

    Args:
        gt_boxes_xywh: one (N, 4) a picture, COCO boxes x, y, w, h in pixels.
        is_ignored: one (N,) bool a picture, true for crowds, whatever their height.
        det_boxes_xyxy: one (M, 4) a picture, corners in pixels, in any order.
        det_scores: one (M,) a picture.
        min_heights: pixels, after rounding and clipping. 1 is every face inside the frame.
        frame: side in pixels. The protocol's hides what lies right of or below pixel 1024, so that faces there can't
            be found; math.inf leaves every face whole.

    Raises:
        ValueError: sequences of different lengths, or arrays of other shapes.
        FacekitError: a value that is not finite.
    """
    matches = {height: [np.empty(0, dtype=np.int64)] for height in min_heights}
    counted = dict.fromkeys(min_heights, 0)
    scores = [np.empty(0)]
    for picture in labelled_pictures(gt_boxes_xywh, is_ignored, det_boxes_xyxy, det_scores):
        faces_xywh = _faces_in_frame(picture.faces_xyxy, frame)
        heights = np.where(picture.is_ignored, np.nan, faces_xywh[:, 3])  # a crowd is of none
        if picture.is_ignored.any():
            # A crowd is no face that the frame could hide: it stays whole, so that what lies in it is nowhere wrong.
            faces_xywh[picture.is_ignored] = _whole_pixels(picture.faces_xyxy[picture.is_ignored] + FAR_PIXEL)
        keep = picture.scores > SCORE_THRESHOLD
        iou, share = _overlaps(_whole_pixels(picture.boxes_xyxy[keep]), faces_xywh)
        scores.append(picture.scores[keep])
        for height in min_heights:
            counts = (height <= heights) & (heights <= frame)
            match = _match(iou, share, counts)
            matches[height].append(np.where(match >= 0, match + counted[height], match))
            counted[height] += int(np.count_nonzero(counts))
    every_score = np.concatenate(scores)
    return {
        height: detection_curve(SetMatches(np.concatenate(part), every_score, counted[height], len(gt_boxes_xywh)))
        for height, part in matches.items()
    }


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


def _overlaps(
    boxes_xywh: NDArray[np.float64], faces_xywh: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(M, N) IoU of each box with each face, and the share of the box's own area that lies in it."""
    boxes_xyxy, faces_xyxy = (
        np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1) for xywh in (boxes_xywh, faces_xywh)
    )
    areas, face_areas = (np.prod(xywh[:, 2:], axis=1) for xywh in (boxes_xywh, faces_xywh))
    shared = intersection_areas(boxes_xyxy, faces_xyxy)
    return ratio_of(shared, areas[:, None] + face_areas - shared), ratio_of(shared, areas[:, None])


def _match(iou: NDArray[np.float64], share: NDArray[np.float64], counts: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(M,) which of the counting faces is each box's best, else IGNORED or FALSE. Who comes first is settled later: a
    face that is taken isn't passed over for the next best, so boxes don't depend on each other."""
    match = np.where((share[:, ~counts] >= IOU_THRESHOLD).any(axis=1), IGNORED, FALSE)
    candidates = iou[:, counts]
    hits = (candidates >= IOU_THRESHOLD).any(axis=1)
    if hits.any():
        match[hits] = candidates[hits].argmax(axis=1)
    return match
