"""Labels completed by a detector: landmarks where annotators drew boxes alone, faces where nobody drew any."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facekit.base.files import check_new, check_outputs, check_writable_folder, protecting, write_text
from facekit.base.progress import progress_bar
from facekit.base.reading import open_regular
from facekit.detector import Detector
from facekit.errors import FacekitError, Loss, counted
from facekit.labels.formats import read_labels
from facekit.labels.formats.coco import to_coco
from facekit.labels.layout import name_in
from facekit.labels.picture_labels import PictureLabels
from facekit.machine.memory import give_back_freed_memory
from facekit.machine.signals import StopSignals
from facekit.metrics.matching import same_faces
from facekit.ops.boxes import pairwise_iou
from facekit.pictures.headers import MAX_PIXELS, read_header
from facekit.pictures.listing import list_pictures
from facekit.pictures.read import HEAD_BYTES, picture_size
from facekit.pictures.read_ahead import read_each
from facekit.structures import Detections


@dataclass(frozen=True)
class Marked:
    pictures: list[PictureLabels]
    scores: list[NDArray[np.float64]]  # a picture: (N,) in 0..1 of the detector's faces; NaN: not of the detector
    faces: int  # of all pictures, crowd regions left out
    given: int  # faces that got landmarks
    added: int  # faces of pictures that nobody had labelled
    losses: list[Loss]
    stopped_by: int = 0  # the signal that asked for the end; the pictures behind are as those that can't be read

    def text(self) -> str:
        return f"{counted(self.faces, 'face')}: {self.given} were given landmarks, {self.added} were added"


def plan_mark(
    source: Path, destination: Path, data_root: Path | None, unlabelled: bool, force: bool = False
) -> list[PictureLabels]:
    """The pictures to mark: those of labels of any format, or with `unlabelled` of a folder, of labels whose faces are
    passed over, or a single picture.

    Raises FacekitError, before anything is loaded or written, for what is neither, and where the destination is read,
    or, without `force`, is there already.
    """
    if destination.is_dir() and destination != source:
        raise FacekitError(f"{destination}: a folder. Give the name of a json file in it.")
    # Of a folder of pictures only those are read: a json in it may be of an earlier run.
    check_outputs([None if unlabelled and source.is_dir() else source], [destination])
    is_picture = source.is_file() and _head_is_picture(source)
    if unlabelled and (is_picture or source.is_dir()):
        listing = list_pictures([str(source)], flag="`unlabelled`")
        listing.say()
        pictures = [
            PictureLabels(path, None, np.empty((0, 4)), np.empty((0, 5, 2)), np.empty(0, bool), is_labelled=False)
            for path in listing.pictures
        ]
    elif unlabelled and not source.exists():
        raise FacekitError(f"`unlabelled` {source}: there is no such folder, picture or label file. Check the path.")
    elif is_picture:
        raise FacekitError(f"{source}: a picture, not labels. Add `unlabelled=True` to have its faces found.")
    else:
        pictures = [
            replace(picture.take(np.zeros_like(picture.is_crowd)), is_labelled=False) if unlabelled else picture
            for picture in _read_labels(source, data_root)
        ]
    check_outputs([picture.path for picture in pictures], [destination])
    check_new(destination, force)
    check_writable_folder(destination.parent)
    return pictures


def _head_is_picture(path: Path) -> bool:
    try:
        with open_regular(path) as file:
            return read_header(file.read(HEAD_BYTES) or b"") is not None
    except OSError as error:
        raise FacekitError(f"{path}: can't be read ({error.strerror}). Check the file.") from error


def _read_labels(source: Path, data_root: Path | None) -> list[PictureLabels]:
    if source.is_file():
        with open_regular(source) as file:
            head = file.read(HEAD_BYTES) or b""
        # UTF-16 has zeros too, behind a mark of its own.
        if b"\0" in head and not head.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise FacekitError(f"{source}: neither labels nor a picture, but other bytes. Give a label file or folder.")
    try:
        return read_labels(source, data_root)
    except FacekitError as error:
        if source.is_dir():
            raise FacekitError(f"{error} A folder of pictures without labels needs `unlabelled=True`.") from error
        raise


Found = tuple[list[Detections | None], list[Loss], int]
Find = Callable[[Sequence[PictureLabels], float, int], Found]


def mark(
    pictures: Sequence[PictureLabels],
    detector: Detector,
    least_score: float,
    max_pixels: int = MAX_PIXELS,
    find: Find | None = None,
) -> Marked:
    """Pictures with labels keep their boxes, and their landmarks where they have some; a face without gets those of
    the detector's face that is the same (`metrics.matching.same_faces`). Pictures without labels get the detector's
    faces. Only faces over least_score count.

    A picture that can't be read keeps the labels it has; without labels it is left out. A signal ends the work early,
    and what is done is handed back. find: what finds the faces, where that is not this process.

    Raises FacekitError for a detector without landmarks that has nothing to add, and where no picture can be read.
    """
    if all(picture.is_labelled for picture in pictures) and not detector.head.has_landmarks:
        raise FacekitError(
            f"{detector.template.name} finds no landmarks, and all pictures have labels: there is nothing to add. "
            f"Take a detector with landmarks, such as yunet-n."
        )
    find = find or partial(_find, detector)
    with protecting([picture.path for picture in pictures]):
        found, losses, stopped_by = find(pictures, least_score, max_pixels)
    _refuse_none(pictures, found, losses)
    before, marked, scores = [], [], []
    for picture, faces in zip(pictures, found, strict=True):
        if faces is None and not picture.is_labelled:
            continue
        labels, their_scores = picture, np.full(len(picture.boxes_xywh), np.nan)
        if faces is not None:
            labels, their_scores = (_with_landmarks if picture.is_labelled else _with_faces)(picture, faces)
        before.append(picture)
        marked.append(labels)
        scores.append(their_scores)
    pairs = list(zip(before, marked, strict=True))
    return Marked(
        marked,
        scores,
        faces=sum(int((~new.is_crowd).sum()) for new in marked),
        given=sum(int((_has_landmarks(new) & ~_has_landmarks(old)).sum()) for old, new in pairs if old.is_labelled),
        added=sum(len(new.boxes_xywh) for old, new in pairs if not old.is_labelled),
        losses=losses,
        stopped_by=stopped_by,
    )


def _find(detector: Detector, pictures: Sequence[PictureLabels], least_score: float, max_pixels: int) -> Found:
    """A picture's faces over least_score, or None where it can't be read or wasn't reached; the signal that came."""
    found: list[Detections | None] = []
    losses: list[Loss] = []
    paths = [picture.path for picture in pictures]
    images = read_each(paths, [picture.size_wh for picture in pictures], max_pixels=max_pixels)
    bar = progress_bar(None, total=len(pictures), desc="marking", unit="picture")
    with StopSignals() as stop, closing(images), bar:
        for path, image_bgr in zip(paths, images, strict=True):
            marks = marks_of(detector, image_bgr, least_score)
            if isinstance(marks, FacekitError):
                losses.append(Loss.of(path, marks))
                found.append(None)
            else:
                found.append(marks)
                give_back_freed_memory()
            bar.update()
            if stop.received:
                break
    found += [None] * (len(pictures) - len(found))
    return found, losses + detector.losses(), stop.received


def marks_of(
    detector: Detector, image_bgr: NDArray[np.uint8] | FacekitError, least_score: float
) -> Detections | FacekitError:
    """A picture's faces over least_score, or why it can't be read or looked at."""
    if isinstance(image_bgr, FacekitError):
        return image_bgr
    try:
        return detector.detect_batch([image_bgr])[0].above(least_score)
    except FacekitError as error:
        return error


def _refuse_none(pictures: Sequence[PictureLabels], found: Sequence[Detections | None], losses: Sequence[Loss]) -> None:
    if pictures and all(faces is None for faces in found):
        first = losses[0] if losses else f"{pictures[0].path}: not reached"
        raise FacekitError(f"None of the {len(found)} pictures could be marked; the first: {first}")


def _has_landmarks(picture: PictureLabels) -> NDArray[np.bool_]:
    return np.asarray(np.isfinite(picture.landmarks_xy).all(axis=(1, 2)))


Scored = tuple[PictureLabels, NDArray[np.float64]]  # with the score of each of its faces, or NaN


def _with_landmarks(picture: PictureLabels, faces: Detections) -> Scored:
    no_scores = np.full(len(picture.boxes_xywh), np.nan)
    if faces.landmarks_xy is None or not len(faces) or not len(picture.boxes_xywh):
        return picture, no_scores
    iou = pairwise_iou(picture.boxes_xyxy, faces.boxes_xyxy.astype(np.float64))
    iou[picture.is_crowd] = 0
    same = same_faces(iou)
    is_given = (same >= 0) & ~_has_landmarks(picture)
    landmarks_xy = np.where(is_given[:, None, None], faces.landmarks_xy[same], picture.landmarks_xy)
    scores = np.where(is_given, faces.scores[same], no_scores)
    return replace(picture, landmarks_xy=landmarks_xy.astype(np.float64)), scores


def _with_faces(picture: PictureLabels, faces: Detections) -> Scored:
    size_wh = picture.size_wh or picture_size(picture.path)
    corners_xyxy = np.clip(faces.boxes_xyxy.astype(np.float64), 0, np.tile(size_wh, 2))
    boxes_xywh = np.concatenate([corners_xyxy[:, :2], corners_xyxy[:, 2:] - corners_xyxy[:, :2]], axis=1)
    landmarks_xy = np.full((len(faces), 5, 2), np.nan) if faces.landmarks_xy is None else faces.landmarks_xy
    seen = (boxes_xywh[:, 2:] >= 1).all(axis=1)  # of what reaches outside, at least a pixel
    labels = replace(
        picture, size_wh=size_wh, boxes_xywh=boxes_xywh[seen], landmarks_xy=landmarks_xy[seen].astype(np.float64),
        is_crowd=np.zeros(int(seen.sum()), dtype=np.bool_), is_labelled=True,
    )  # fmt: skip
    return labels, faces.scores[seen].astype(np.float64)


def write_marked(destination: Path, marked: Marked, root: Path | None) -> None:
    """As COCO json, with a "score" for each face that the detector found or gave landmarks; pictures that no label file
    names are named below root."""
    names = []
    for picture in marked.pictures:
        name = picture.name if picture.name is not None or root is None else name_in(root, picture.path)
        names.append(name or picture.path.name)
    content = to_coco(marked.pictures, names)
    scores = np.concatenate([np.empty(0), *marked.scores])
    for annotation, score in zip(content["annotations"], scores.tolist(), strict=True):
        if np.isfinite(score):
            annotation["score"] = round(score, 6)
    write_text(destination, json.dumps(content) + "\n")
