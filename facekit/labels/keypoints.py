"""Which of a file's points are the five landmarks: by their names, and by how they lie to each other.

Left and right are as seen in the picture (structures.LANDMARK_NAMES): the left eye is the one on the picture's left in
an upright face. Names decide which point is which. Where the points of nearly all faces of a file are mirrored against
their names, the file means the person's own left, as COCO's persons do: then both sides are exchanged, and that is
said. A point of a mirrored face can't be told from an anatomical one otherwise, whatever the file calls it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facekit.labels.values import class_name
from facekit.structures import FLIPPED_LANDMARKS, LANDMARK_NAMES

log = logging.getLogger(__name__)

MAX_POINTS = 1000  # of a face; more are a mistake, and are passed over unread
MIRRORED_SHARE = 0.8  # of a file's faces, from which on its left is the person's own
_SIDES = {"left": "left", "l": "left", "right": "right", "r": "right"}
_PARTS = {
    "eye": "eye", "eyes": "eye", "eyecenter": "eye", "pupil": "eye", "nose": "nose", "nosetip": "nose",
    "mouth": "mouth", "mouthcorner": "mouth", "lip": "mouth", "lips": "mouth", "lipcorner": "mouth",
}  # fmt: skip
_SHORT = {
    "le": "left eye", "re": "right eye", "n": "nose", "lm": "left mouth", "rm": "right mouth", "leye": "left eye",
    "reye": "right eye", "lmouth": "left mouth", "rmouth": "right mouth",
}  # fmt: skip
_OTHER_PARTS = {
    "ear", "chin", "brow", "eyebrow", "forehead", "cheek", "jaw", "head", "neck", "shoulder", "elbow", "wrist", "hand",
    "hip", "knee", "ankle", "foot",
}  # fmt: skip
_FILLERS = {"corner", "center", "centre", "tip", "point", "pt", "landmark", "of", "the", "top", "kp", "keypoint"}
# How far along the line from the eyes to the mouth the nose lies: 0 between the eyes, 1 between the mouth's corners.
NOSE_RANGE = (-0.1, 1.1)
LEAST_COSINE = 0.75  # between the line of the eyes and that of the mouth: about 41 degrees


def landmark_of(name: Any) -> int | None:
    """The place in LANDMARK_NAMES of a point of that name: leftEye, l_eye, eye-left, "mouth corner left", Nose tip."""
    words = _words(name)
    sides = {_SIDES[word] for word in words if word in _SIDES}
    parts = {_PARTS[word] for word in words if word in _PARTS}
    if len(parts) != 1 or len(sides) > 1 or not all(word in _SIDES or word in _PARTS for word in words):
        return None
    wanted = "_".join([*sides, *parts])
    return LANDMARK_NAMES.index(wanted) if wanted in LANDMARK_NAMES else None


def _words(name: Any) -> list[str]:
    """In small letters, sides apart, without fillers; none of what is no name."""
    if not isinstance(name, str) or len(name) > 60:
        return []
    spaced = "".join(f" {letter}" if letter.isupper() else letter for letter in name) if not name.isupper() else name
    plain = class_name(spaced)
    words = [word for word in _SHORT.get(plain, plain).split() if word not in _FILLERS]
    for side in ("left", "right"):  # lefteye, mouthright
        words = [part for word in words for part in word.replace(side, f" {side} ").split()]
    return words


def order_by_names(names: Sequence[Any]) -> list[int] | None:
    """Where each of the five landmarks stands among points of these names; None where one is missing or there twice."""
    places = [landmark_of(name) for name in names[:MAX_POINTS]]
    if any(places.count(number) != 1 for number in range(len(LANDMARK_NAMES))):
        return None
    return [places.index(number) for number in range(len(LANDMARK_NAMES))]


def may_be_ours(names: Sequence[Any]) -> bool:
    """Whether five points whose names aren't known as the landmarks' may come in their order all the same: none is
    known as another part of a head or body, or as a landmark that stands elsewhere."""
    if len(names) != len(LANDMARK_NAMES):
        return False
    for place, name in enumerate(names):
        parts = {word.rstrip("0123456789").removesuffix("s") for word in _words(name)}
        if parts & _OTHER_PARTS or landmark_of(name) not in (None, place):
            return False
    return True


def say_nothing(names: Sequence[Any]) -> bool:
    """Whether points are but numbered: 1, "2", point_3, kpt4. Their order is then all there is."""
    pattern = re.compile(r"(p|pt|point|kp|kpt|keypoint|landmark)?\s*\d+")
    return all(pattern.fullmatch(class_name(str(name))) for name in names[:MAX_POINTS])


def say_taken_for_ours(why: str, where: str) -> None:
    """Warns that points are read in the order of LANDMARK_NAMES, though a file says something of theirs."""
    log.warning("%s: %s: the points are read as %s. Are they?", where, why, ", ".join(LANDMARK_NAMES))


def are_mirrored(landmarks_xy: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(N, 5, 2) -> (N,): whether left and right are exchanged, however the face is turned; False for NaN."""
    eyes, mouth, down = _directions(landmarks_xy)
    with np.errstate(invalid="ignore", over="ignore"):
        eyes, mouth = (side[:, 0] * down[:, 1] - side[:, 1] * down[:, 0] for side in (eyes, mouth))
        return np.asarray((eyes < 0) & (mouth < 0))


def contradict(landmarks_xy: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(N, 5, 2) -> (N,): whether the points can't be those of a face in this order; False for NaN.

    Left and right exchanged, eyes and mouth that point to different sides, or a nose over the eyes or under the mouth.
    Where a profile's eyes or mouth corners fall together, left and right say nothing: these are let pass.
    """
    eyes, mouth, down = _directions(landmarks_xy)
    with np.errstate(all="ignore"):
        height = np.linalg.norm(down, axis=1)
        nose = landmarks_xy[:, 2] - landmarks_xy[:, :2].mean(axis=1)
        along = (nose * down).sum(axis=1) / height**2
        lengths = np.linalg.norm(eyes, axis=1) * np.linalg.norm(mouth, axis=1)
        apart = (eyes * mouth).sum(axis=1) < LEAST_COSINE * lengths
        displaced = (along < NOSE_RANGE[0]) | (along > NOSE_RANGE[1])
        return np.asarray((are_frontal(landmarks_xy) & (are_mirrored(landmarks_xy) | apart)) | displaced)


def are_frontal(landmarks_xy: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(N, 5, 2) -> (N,): whether eyes and mouth are so wide that they tell left from right; False for NaN."""
    eyes, mouth, down = (np.linalg.norm(line, axis=1) for line in _directions(landmarks_xy))
    return np.asarray(np.minimum(eyes, mouth) > 0.35 * down)


def _directions(landmarks_xy: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """(N, 2) each: from the left eye to the right one, from the left mouth corner to the right one, from the middle of
    the eyes to that of the mouth."""
    with np.errstate(invalid="ignore", over="ignore"):
        left_eye, right_eye, _, left_mouth, right_mouth = np.moveaxis(landmarks_xy, 1, 0)
        down = (left_mouth + right_mouth - left_eye - right_eye) / 2
        return right_eye - left_eye, right_mouth - left_mouth, down


def as_seen(landmarks_xy: NDArray[np.float64], where: str) -> NDArray[np.float64]:
    """(N, 5, 2), named, of all faces of a file: with the sides exchanged where nearly all show the person's own."""
    labelled = landmarks_xy[np.isfinite(landmarks_xy).all(axis=(1, 2))]
    clear = labelled[are_frontal(labelled)]  # profiles say nothing of left and right, whichever way they look
    mirrored = int(are_mirrored(clear).sum())
    if not len(clear) or mirrored < MIRRORED_SHARE * len(clear):
        return landmarks_xy
    log.warning(
        "%s: the left eye lies right of the right one in %d of %d faces: left and right are taken for the person's "
        "own, and exchanged.", where, mirrored, len(clear),
    )  # fmt: skip
    return landmarks_xy[:, FLIPPED_LANDMARKS]


def warn_of_contradictions(landmarks_xy: NDArray[np.float64], where: str) -> None:
    """Of (N, 5, 2) points that nothing names, of all faces of a file: says where their order can't be ours."""
    labelled = landmarks_xy[np.isfinite(landmarks_xy).all(axis=(1, 2))]
    are_wrong = contradict(labelled)
    wrong, telling = int(are_wrong.sum()), int((are_wrong | are_frontal(labelled)).sum())
    if wrong and wrong >= MIRRORED_SHARE * telling:
        log.warning(
            "%s: the landmarks of %d of %d faces contradict each other: is their order %s, left and right as seen?",
            where, wrong, telling, ", ".join(LANDMARK_NAMES),
        )  # fmt: skip
