"""What there is to learn in labels, counted before anything is trained or said to be sound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facekit.errors import FacekitError
from facekit.labels.picture_labels import PictureLabels


@dataclass(frozen=True)
class Counts:
    """Of the pictures of one source, or of several."""

    source: str
    pictures: int
    unlabelled: int  # pictures whose faces nobody marked, for a teacher
    negatives: int  # labelled pictures without any face
    faces: int  # all but crowds
    crowds: int  # crowds, "difficult" and ignored faces: neither learnt nor background
    small: int  # faces with a side under the least that is trained on
    without_landmarks: int  # of those that are learnt

    @property
    def learnt(self) -> int:
        return self.faces - self.small

    def line(self, min_face_size: float) -> str:
        """In words; what there is none of is left out."""
        parts = [
            (self.negatives, f"{self.negatives} without faces"),
            (self.unlabelled, f"{self.unlabelled} without labels"),
        ]
        of_pictures = ", ".join(text for count, text in parts if count)
        of_faces = [f"{self.without_landmarks} of them without landmarks"] if self.without_landmarks else []
        if self.crowds:
            of_faces.append(f"{self.crowds} crowds or difficult faces ignored")
        if self.small:
            of_faces.append(f"{self.small} under {min_face_size:g} px left out")
        pictures = f"{self.pictures} pictures" + (f" ({of_pictures})" if of_pictures else "")
        return f"{self.source}: {pictures}; {'; '.join([f'{self.learnt} faces to learn', *of_faces])}"


def count_faces(pictures: Sequence[PictureLabels], min_face_size: float = 0.0, source: str = "") -> Counts:
    """min_face_size: pixels of the picture; faces with a smaller side are not trained on."""
    labelled = [picture for picture in pictures if picture.is_labelled]
    crowds = [picture.is_crowd for picture in labelled]
    large = [(picture.boxes_xywh[:, 2:] >= min_face_size).all(axis=1) for picture in labelled]
    marked = [np.isfinite(picture.landmarks_xy).all(axis=(1, 2)) for picture in labelled]
    trio = list(zip(crowds, large, marked, strict=True))
    return Counts(
        source,
        pictures=len(pictures),
        unlabelled=len(pictures) - len(labelled),
        negatives=sum(not len(crowd) for crowd in crowds),
        faces=sum(int((~crowd).sum()) for crowd in crowds),
        crowds=sum(int(crowd.sum()) for crowd in crowds),
        small=sum(int((~crowd & ~big).sum()) for crowd, big, _ in trio),
        without_landmarks=sum(int((~crowd & big & ~mark).sum()) for crowd, big, mark in trio),
    )


def count_by_source(pictures: Sequence[PictureLabels], min_face_size: float = 0.0) -> list[Counts]:
    """One for each label file, in order."""
    sources: dict[str, list[PictureLabels]] = {}
    for picture in pictures:
        sources.setdefault(picture.source or "pictures without labels", []).append(picture)
    return [count_faces(group, min_face_size, _short(source)) for source, group in sources.items()]


def why_nothing_to_learn(counts: Counts, min_face_size: float = 0.0) -> str | None:
    """The reason and the remedy; None where there is a face to learn, or a teacher is to mark some."""
    if counts.learnt or counts.unlabelled:
        return None
    if not counts.faces and not counts.crowds:
        return (
            f"not one of the {counts.pictures} pictures has a face: none to learn. Are these the right labels, and was "
            f"a class or category left out above?"
        )
    if not counts.faces:
        return (
            f"all {counts.crowds} faces are crowds (iscrowd, ignore or difficult): none to learn. If each is one face, "
            f"as in CVAT's masks, which are all written as crowds, set the flag to 0 in the labels."
        )
    return (
        f"all {counts.faces} faces have a side under {min_face_size:g} pixels (augmentation.min_face_size) and are "
        f"left out: none to learn. Lower it in the template, or give larger pictures."
    )


def check_learnable(pictures: Sequence[PictureLabels], min_face_size: float, what: str) -> None:
    """Raises FacekitError where there is no face to learn; `what` are the pictures for, such as "training"."""
    reason = why_nothing_to_learn(count_faces(pictures, min_face_size), min_face_size)
    if reason is not None:
        sources = ", ".join(dict.fromkeys(picture.source for picture in pictures if picture.source))
        raise FacekitError(f"{sources + ': ' if sources else ''}nothing for {what}: {reason}")


def check_countable(pictures: Sequence[PictureLabels]) -> None:
    """Raises FacekitError for validation pictures in which no face counts: AP has no value then, and nothing that is
    chosen by it ends well."""
    if pictures and all(picture.is_crowd.all() for picture in pictures):
        sources = ", ".join(dict.fromkeys(picture.source for picture in pictures if picture.source))
        raise FacekitError(
            f"{sources + ': ' if sources else ''}no face of the labels counts, so AP has no value. Give labels with "
            f"faces, or leave `val_ann_files` out."
        )


def _short(source: str) -> str:
    return "/".join(Path(source).parts[-2:])
