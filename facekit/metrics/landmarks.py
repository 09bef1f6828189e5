"""How far the five landmarks lie from where annotators put them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facekit.errors import FacekitError
from facekit.metrics.matching import labelled_pictures, match_greedily


class LandmarkError(NamedTuple):
    """The normalised mean error, and what it rests on."""

    nme_percent: float  # per cent of sqrt(box width * box height); NaN without a face that was found
    faces: int  # labelled with landmarks and found
    found: float  # their share of all faces labelled with landmarks, 0..1; NaN without any


def landmark_error(
    gt_boxes_xywh: Sequence[ArrayLike],
    is_ignored: Sequence[ArrayLike],
    gt_landmarks_xy: Sequence[ArrayLike],
    det_boxes_xyxy: Sequence[ArrayLike],
    det_scores: Sequence[ArrayLike],
    det_landmarks_xy: Sequence[ArrayLike],
) -> LandmarkError:
    """Normalised mean error over the faces that are labelled with landmarks and found.

    Detections are matched to all faces, greedily by score at IoU 0.5 (`matching.match_greedily`). A face's error is the
    mean distance of its five points, divided by the square root of its annotated box's area, which profiles don't
    shrink as they do the distance of the eyes. Faces that are missed add nothing to the error: read it beside `found`.

    Args:
        gt_boxes_xywh: one (N, 4) a picture, x, y, w, h in pixels.
        is_ignored: one (N,) bool a picture, true for crowds: not found, not missed, whatever landmarks they carry.
        gt_landmarks_xy: one (N, 5, 2) a picture in pixels; faces with a NaN are not labelled.
        det_boxes_xyxy: one (M, 4) a picture, corners in pixels, in any order.
        det_scores: one (M,) a picture.
        det_landmarks_xy: one (M, 5, 2) a picture in pixels.

    Raises:
        ValueError: sequences of different lengths, or arrays of other shapes.
        FacekitError: a value that is not finite, apart from NaN among gt_landmarks_xy.
    """
    if not len(gt_boxes_xywh) == len(gt_landmarks_xy) == len(det_landmarks_xy):
        raise ValueError(
            "gt_boxes_xywh, gt_landmarks_xy and det_landmarks_xy must have one entry a picture, but got "
            f"{len(gt_boxes_xywh)}, {len(gt_landmarks_xy)} and {len(det_landmarks_xy)}."
        )
    errors, labelled_faces = [np.empty(0)], 0
    pictures = labelled_pictures(gt_boxes_xywh, is_ignored, det_boxes_xyxy, det_scores)
    for index, (picture, gt_points, det_points) in enumerate(
        zip(pictures, gt_landmarks_xy, det_landmarks_xy, strict=True)
    ):
        gt_xy = _points(gt_points, len(picture.faces_xyxy), f"gt_landmarks_xy[{index}]")
        det_xy = _points(det_points, len(picture.boxes_xyxy), f"det_landmarks_xy[{index}]")
        if not np.isfinite(det_xy).all():
            raise FacekitError(
                f"det_landmarks_xy[{index}]: expected finite numbers, got NaN or infinity. "
                "Look for a diverged training or a broken export."
            )
        is_labelled = np.isfinite(gt_xy.sum(axis=(1, 2))) & ~picture.is_ignored
        labelled_faces += int(np.count_nonzero(is_labelled))
        match = match_greedily(picture)
        rows = np.flatnonzero(match >= 0)
        rows = rows[is_labelled[match[rows]]]
        faces = match[rows]
        distances = np.linalg.norm(det_xy[rows] - gt_xy[faces], axis=2).mean(axis=1)
        sizes = picture.faces_xyxy[faces, 2:] - picture.faces_xyxy[faces, :2]
        errors.append(distances / np.sqrt(sizes.prod(axis=1)))
    per_face = np.concatenate(errors)
    return LandmarkError(
        100 * float(per_face.mean()) if len(per_face) else math.nan,
        len(per_face),
        len(per_face) / labelled_faces if labelled_faces else math.nan,
    )


def _points(values: ArrayLike, count: int, where: str) -> NDArray[np.float64]:
    points = np.asarray(values, dtype=np.float64)
    if points.shape != (count, 5, 2):
        raise ValueError(f"{where}: must be of shape ({count}, 5, 2), but got {points.shape}.")
    return points
