"""Labels completed by a detector: landmarks where annotators drew boxes alone, faces where nobody drew any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facekit.detector import Detector
from facekit.engine.evaluation.evaluate import detect_pictures
from facekit.errors import FacekitError
from facekit.labels.formats.coco import write_coco
from facekit.labels.layout import name_in
from facekit.labels.picture_labels import PictureLabels
from facekit.metrics.matching import pairwise_iou, same_faces
from facekit.pictures.read import picture_size
from facekit.structures import Detections


@dataclass(frozen=True)
class Marked:
    pictures: list[PictureLabels]
    faces: int  # of all pictures, crowd regions left out
    given: int  # faces that got landmarks
    added: int  # faces of pictures that nobody had labelled

    def text(self) -> str:
        return f"{self.faces} faces: {self.given} were given landmarks, {self.added} were added"


def mark(pictures: Sequence[PictureLabels], detector: Detector, least_score: float) -> Marked:
    """Pictures with labels keep their boxes, and their landmarks where they have some; a face without gets those of
    the detector's face that is the same (`metrics.matching.same_faces`). Pictures without labels get the detector's
    faces. Only faces over least_score count.

    Raises FacekitError for a detector without landmarks that has nothing to add, and pictures that can't be read.
    """
    if all(picture.is_labelled for picture in pictures) and not detector.head.has_landmarks:
        raise FacekitError(
            f"{detector.template.name} finds no landmarks, and all pictures have labels: there is nothing to add. "
            f"Take a detector with landmarks, such as yunet-n."
        )
    found = [faces.above(least_score) for faces in detect_pictures(detector, pictures, description="marking").found]
    marked = [
        _with_landmarks(picture, faces) if picture.is_labelled else _with_faces(picture, faces)
        for picture, faces in zip(pictures, found, strict=True)
    ]
    pairs = list(zip(pictures, marked, strict=True))
    return Marked(
        marked,
        faces=sum(int((~new.is_crowd).sum()) for new in marked),
        given=sum(int((_has_landmarks(new) & ~_has_landmarks(old)).sum()) for old, new in pairs if old.is_labelled),
        added=sum(len(new.boxes_xywh) for old, new in pairs if not old.is_labelled),
    )


def _has_landmarks(picture: PictureLabels) -> NDArray[np.bool_]:
    return np.asarray(np.isfinite(picture.landmarks_xy).all(axis=(1, 2)))


def _with_landmarks(picture: PictureLabels, faces: Detections) -> PictureLabels:
    if faces.landmarks_xy is None or not len(faces) or not len(picture.boxes_xywh):
        return picture
    iou = pairwise_iou(picture.boxes_xyxy, faces.boxes_xyxy.astype(np.float64))
    iou[picture.is_crowd] = 0
    same = same_faces(iou)
    is_given = (same >= 0) & ~_has_landmarks(picture)
    landmarks_xy = np.where(is_given[:, None, None], faces.landmarks_xy[same], picture.landmarks_xy)
    return replace(picture, landmarks_xy=landmarks_xy.astype(np.float64))


def _with_faces(picture: PictureLabels, faces: Detections) -> PictureLabels:
    size_wh = picture.size_wh or picture_size(picture.path)
    corners_xyxy = np.clip(faces.boxes_xyxy.astype(np.float64), 0, np.tile(size_wh, 2))
    boxes_xywh = np.concatenate([corners_xyxy[:, :2], corners_xyxy[:, 2:] - corners_xyxy[:, :2]], axis=1)
    landmarks_xy = np.full((len(faces), 5, 2), np.nan) if faces.landmarks_xy is None else faces.landmarks_xy
    seen = (boxes_xywh[:, 2:] >= 1).all(axis=1)  # of what reaches outside, at least a pixel
    return replace(
        picture, size_wh=size_wh, boxes_xywh=boxes_xywh[seen], landmarks_xy=landmarks_xy[seen].astype(np.float64),
        is_crowd=np.zeros(int(seen.sum()), dtype=np.bool_), is_labelled=True,
    )  # fmt: skip


def write_marked(destination: Path, marked: Marked, root: Path | None) -> None:
    """As COCO json; pictures that no label file names are named below root."""
    named = []
    for picture in marked.pictures:
        name = picture.name if picture.name is not None or root is None else name_in(root, picture.path)
        named.append((name or picture.path.name, picture))
    write_coco(destination, named)
