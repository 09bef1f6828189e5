"""Which detection has found which face: greedy by score at IoU 0.5, as COCO does it (its crowds are ignored faces)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facekit.metrics.overlaps import as_rows, intersection_areas, ratio_of

IOU_THRESHOLD = 0.5
SAME_FACE_IOU = 0.5  # over which two boxes are the same face, where each is the other's best

IGNORED = -1  # claims no face, but lies in an ignored one: neither a hit nor a false positive
FALSE = -2


class LabelledPicture(NamedTuple):
    """Faces and detections of one picture, checked."""

    faces_xyxy: NDArray[np.float64]  # (N, 4) pixels
    is_ignored: NDArray[np.bool_]  # (N,) a crowd or an invalid face: none to find, and nothing false on it
    boxes_xyxy: NDArray[np.float64]  # (M, 4) pixels
    scores: NDArray[np.float64]  # (M,)


class SetMatches(NamedTuple):
    """The P detections of all pictures in one row, and what each has found."""

    match: NDArray[np.int64]  # (P,) a number for each face that counts, else IGNORED or FALSE
    scores: NDArray[np.float64]  # (P,)
    faces: int  # that count
    pictures: int

    @property
    def is_hit(self) -> NDArray[np.bool_]:
        """(P,) which detections have found a face."""
        return self.match >= 0


def labelled_pictures(
    gt_boxes_xywh: Sequence[ArrayLike],
    is_ignored: Sequence[ArrayLike],
    det_boxes_xyxy: Sequence[ArrayLike],
    det_scores: Sequence[ArrayLike],
) -> Iterator[LabelledPicture]:
    """The pictures one by one.

    Args:
        gt_boxes_xywh: one (N, 4) a picture, x, y, w, h in pixels.
        is_ignored: one (N,) bool a picture, true for crowds and for what annotators marked as invalid.
        det_boxes_xyxy: one (M, 4) a picture, corners in pixels, in any order.
        det_scores: one (M,) a picture.

    Raises:
        ValueError: sequences of different lengths, or arrays of other shapes.
        FacekitError: a value that is not finite.
    """
    lengths = [len(part) for part in (gt_boxes_xywh, is_ignored, det_boxes_xyxy, det_scores)]
    if len(set(lengths)) > 1:
        raise ValueError(
            "gt_boxes_xywh, is_ignored, det_boxes_xyxy and det_scores must have one entry a picture, but got "
            f"{lengths[0]}, {lengths[1]}, {lengths[2]} and {lengths[3]}."
        )
    for index, parts in enumerate(zip(gt_boxes_xywh, is_ignored, det_boxes_xyxy, det_scores, strict=True)):
        faces_xywh = as_rows(parts[0], 4, f"gt_boxes_xywh[{index}]")
        ignored = np.asarray(parts[1], dtype=np.bool_)
        boxes_xyxy = as_rows(parts[2], 4, f"det_boxes_xyxy[{index}]")
        scores = as_rows(parts[3], 0, f"det_scores[{index}]")
        if ignored.shape != (len(faces_xywh),):
            raise ValueError(f"is_ignored[{index}]: must be of shape ({len(faces_xywh)},), but got {ignored.shape}.")
        if len(boxes_xyxy) != len(scores):
            raise ValueError(f"det_scores[{index}]: must have {len(boxes_xyxy)} scores, but got {len(scores)}.")
        corners = np.concatenate([faces_xywh[:, :2], faces_xywh[:, :2] + faces_xywh[:, 2:]], axis=1)
        yield LabelledPicture(corners, ignored, boxes_xyxy, scores)


def overlaps_of(picture: LabelledPicture) -> NDArray[np.float64]:
    """(M, N) 0..1: IoU of each detection with each face; with an ignored one the share of the detection's own area, as
    a crowd is larger than the faces in it."""
    areas, face_areas = (
        np.prod(xyxy[:, 2:] - xyxy[:, :2], axis=1) for xyxy in (picture.boxes_xyxy, picture.faces_xyxy)
    )
    shared = intersection_areas(picture.boxes_xyxy, picture.faces_xyxy)
    whole = np.where(picture.is_ignored, areas[:, None], areas[:, None] + face_areas - shared)
    return ratio_of(shared, whole)


def match_greedily(picture: LabelledPicture, overlaps: NDArray[np.float64] | None = None) -> NDArray[np.int64]:
    """(M,) the index of the face that each detection has found, else IGNORED or FALSE.

    Best score first (equal scores in the order given), a detection takes the best of the faces that are still free, at
    IoU 0.5 or more; so a second hit is false. What takes none but has half its own area in an ignored face is ignored.

    Args:
        overlaps: what `overlaps_of` gives, where the caller has it already.
    """
    if overlaps is None:
        overlaps = overlaps_of(picture)
    reaches = overlaps >= IOU_THRESHOLD
    match = np.where(reaches[:, picture.is_ignored].any(axis=1), IGNORED, FALSE)
    free = np.where(reaches & ~picture.is_ignored, overlaps, 0.0)
    order = np.argsort(-picture.scores, kind="stable")
    for index in order[free[order].any(axis=1)].tolist():  # few of all detections reach a face
        if free[index].any():
            match[index] = free[index].argmax()
            free[:, match[index]] = 0.0
    return match


def match_set(
    gt_boxes_xywh: Sequence[ArrayLike],
    is_ignored: Sequence[ArrayLike],
    det_boxes_xyxy: Sequence[ArrayLike],
    det_scores: Sequence[ArrayLike],
) -> SetMatches:
    """`match_greedily` over a set. Arguments and errors as `labelled_pictures`."""
    matches, scores, faces, counting = [np.empty(0, dtype=np.int64)], [np.empty(0)], 0, 0
    for picture in labelled_pictures(gt_boxes_xywh, is_ignored, det_boxes_xyxy, det_scores):
        match = match_greedily(picture)
        matches.append(np.where(match >= 0, match + faces, match))
        scores.append(picture.scores)
        faces += len(picture.faces_xyxy)
        counting += int(np.count_nonzero(~picture.is_ignored))
    return SetMatches(np.concatenate(matches), np.concatenate(scores), counting, len(gt_boxes_xywh))


def same_faces(iou: NDArray[np.floating]) -> NDArray[np.int64]:
    """(N, M) IoU of two sets of boxes -> (N,) the box of the second set that is the same face, -1 for none: each is the
    other's best, at IoU over SAME_FACE_IOU. For two sources that know of faces, neither of which is better known."""
    if not iou.size:
        return np.full(len(iou), -1)
    best = iou.argmax(axis=1)
    rows = np.arange(len(iou))
    is_same = (iou.argmax(axis=0)[best] == rows) & (iou[rows, best] > SAME_FACE_IOU)
    return np.where(is_same, best, -1)
