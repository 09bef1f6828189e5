"""Average precision as PASCAL VOC measures it (Everingham et al., IJCV 2010, section 4.2): `ap_50`, and `ap_50_voc07`
by eleven points of recall, over every annotated face whatever its size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facekit.metrics.curves import DetectionCurve, detection_curve
from facekit.metrics.matching import (
    FALSE,
    IGNORED,
    IOU_THRESHOLD,
    LabelledPicture,
    SetMatches,
    labelled_pictures,
    overlaps_of,
)

RECALLS = np.linspace(0, 1, 11)


def voc_curve(
    gt_boxes_xywh: Sequence[ArrayLike],
    is_ignored: Sequence[ArrayLike],
    det_boxes_xyxy: Sequence[ArrayLike],
    det_scores: Sequence[ArrayLike],
) -> DetectionCurve:
    """True and false positives at IoU 0.5. A detection may find the face alone that it overlaps most, ignored ones left
    out: where a better-scored one has that face, it is false, also if another face is still free (COCO's moves on).
    Crowds are neither missed nor wrong: a detection with half its own area in one, and no face, does not count.

    Areas are width times height: that is VOC's own count for boxes whose last pixel is x + w - 1. Arguments and errors
    as `labelled_pictures`.
    """
    matches, scores, faces, counting = [np.empty(0, dtype=np.int64)], [np.empty(0)], 0, 0
    for picture in labelled_pictures(gt_boxes_xywh, is_ignored, det_boxes_xyxy, det_scores):
        match = _best_faces(picture)
        matches.append(np.where(match >= 0, match + faces, match))
        scores.append(picture.scores)
        faces += len(picture.faces_xyxy)
        counting += int(np.count_nonzero(~picture.is_ignored))
    return detection_curve(SetMatches(np.concatenate(matches), np.concatenate(scores), counting, len(gt_boxes_xywh)))


def _best_faces(picture: LabelledPicture) -> NDArray[np.int64]:
    """(M,) the index of the face that each detection claims, else IGNORED or FALSE."""
    match = np.full(len(picture.scores), FALSE)
    if not len(picture.faces_xyxy) or not len(match):
        return match
    overlaps = overlaps_of(picture)
    match[(overlaps[:, picture.is_ignored] >= IOU_THRESHOLD).any(axis=1)] = IGNORED
    faces = np.where(picture.is_ignored, 0.0, overlaps)
    hits = faces.max(axis=1) >= IOU_THRESHOLD
    match[hits] = faces[hits].argmax(axis=1)
    return match


def eleven_point_ap(curve: DetectionCurve) -> float:
    """VOC 2007's AP, 0..1: the mean of the best precisions at recalls of 0, 0.1 ... 1 or more; NaN without faces."""
    if curve.faces == 0:
        return float("nan")
    recall, precision = curve.true / curve.faces, curve.true / (curve.true + curve.false)
    # Recall is a quotient: that of the tenth face of a hundred must reach 0.1 whatever rounding did to either.
    return float(np.mean([precision[recall >= least - 1e-9].max(initial=0.0) for least in RECALLS]))
