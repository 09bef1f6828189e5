"""The vocabulary that all floors share: what a network returns, what it means, what is found in a picture."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from facekit.errors import ArgumentError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Array = Any  # a torch.Tensor or a numpy.ndarray: functions that take one give back their like

LANDMARK_NAMES = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")  # as seen in the picture
FLIPPED_LANDMARKS = [1, 0, 2, 4, 3]  # where each stands in a mirrored picture: a left eye is a right one there


class RawOutputs(NamedTuple):
    """What every network returns, in training and in evaluation: A priors of all levels, finest level first,
    row by row, then prior by prior within a cell."""

    class_logits: Tensor  # (B, A, C) before softmax or sigmoid
    box_deltas: Tensor  # (B, A, 4) as the head's coder defines them
    objectness_logits: Tensor | None = None  # (B, A), objectness or centre-ness before the sigmoid
    landmark_deltas: Tensor | None = None  # (B, A, 10): x, y of the five LANDMARK_NAMES


class Priors(NamedTuple):
    """The A priors (anchors, grid points) of an input of one size, in the order of RawOutputs."""

    cxcywh: Array  # (A, 4) float32, pixels of the input
    strides: Array  # (A,) float32, pixels between cells of the prior's level
    size_hw: tuple[int, int]  # of the input

    def at(self, columns: Array) -> Priors:
        """The priors of (P,) int64 columns, in that order; a prior may come more than once."""
        return Priors(self.cxcywh[columns], self.strides[columns], self.size_hw)

    def tensors(self, device: torch.device | str | None = None) -> Priors:
        """The same priors as torch tensors on `device`."""
        import torch

        cxcywh, strides = (torch.from_numpy(part).to(device) for part in (self.cxcywh, self.strides))
        return Priors(cxcywh, strides, self.size_hw)


class Activated(NamedTuple):
    """RawOutputs with probabilities in place of logits; deltas are untouched."""

    class_probabilities: Array  # (B, A, C) in 0..1
    box_deltas: Array  # (B, A, 4)
    objectness: Array | None = None  # (B, A) in 0..1
    landmark_deltas: Array | None = None  # (B, A, 10)

    def of(self, picture: int) -> Activated:
        """What is said of one picture of the batch, without the batch's dimension."""
        return Activated(*(None if part is None else part[picture] for part in self))

    def at(self, columns: Array) -> Activated:
        """Of one picture: the priors of (P,) int64 columns."""
        return Activated(*(None if part is None else part[columns] for part in self))


class Decoded(NamedTuple):
    """One box, score and set of landmarks a prior, in pixels of the network's input; nothing is suppressed yet."""

    boxes_xyxy: Array  # (B, A, 4)
    scores: Array  # (B, A) in 0..1
    landmarks_xy: Array | None = None  # (B, A, 10)

    def of(self, picture: int) -> Decoded:
        """What is said of one picture of the batch, without the batch's dimension."""
        return Decoded(*(None if part is None else part[picture] for part in self))

    def at(self, columns: Array) -> Decoded:
        """Of one picture: the priors of (P,) int64 columns."""
        return Decoded(*(None if part is None else part[columns] for part in self))


class Targets(NamedTuple):
    """Labels of a batch of B pictures, all N faces in one list: no padding, and no faces is simply N = 0."""

    boxes_xyxy: Tensor  # (N, 4) float, pixels of the network's input
    picture_index: Tensor  # (N,) int64 in 0..B-1, ascending
    landmarks_xy: Tensor  # (N, 10) float; undefined where has_landmarks is false
    has_landmarks: Tensor  # (N,) bool
    batch_size: int
    is_labelled: Tensor | None = None  # (B,) bool: false where nobody marked the picture's faces; None: all are
    # (M, 5) float: the picture (0..B-1), then x1, y1, x2, y2 of a region that is neither face nor background, such as a
    # crowd; None: none. See ops.ignored.
    ignored: Tensor | None = None

    def to(self, device: torch.device | str) -> Targets:
        """The same targets with all tensors on `device`."""
        fields = self._asdict()
        return Targets(**{
            name: field if field is None or name == "batch_size" else field.to(device, non_blocking=True)
            for name, field in fields.items()
        })  # fmt: skip


def mirrored_boxes(boxes_xyxy: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """(N, 4) of a picture of that width -> where they lie in its mirror image."""
    mirrored = boxes_xyxy.copy()
    mirrored[:, [0, 2]] = width - boxes_xyxy[:, [2, 0]]
    return mirrored


def mirrored_landmarks(landmarks_xy: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """(N, 5, 2) of a picture of that width -> where they lie in its mirror image; left ones become right ones."""
    mirrored = landmarks_xy[:, FLIPPED_LANDMARKS].copy()
    mirrored[..., 0] = width - mirrored[..., 0]
    return mirrored


class Face(NamedTuple):
    """One face, in the picture's own pixels."""

    box_xyxy: NDArray[np.float32]  # (4,)
    score: float  # 0..1
    landmarks_xy: NDArray[np.float32] | None  # (5, 2) in the order of LANDMARK_NAMES
    track_id: int | None = None  # of a video: the same face has the same number; from 1
    is_interpolated: bool = False  # of a video: not found in this frame, but between others

    def __eq__(self, other: object) -> bool:
        """By values."""
        return isinstance(other, tuple) and len(self) == len(other) and all(map(_are_equal, self, other))

    def __ne__(self, other: object) -> bool:
        """Else a tuple's own, which compares arrays as they are."""
        return not self == other


SCHEMA_VERSION = 1  # of to_dict(), and of the rows that detect writes: docs/detect.md


@dataclass(frozen=True)
class Detections:
    """Faces found in one picture, best score first, in that picture's own pixels. A sequence of Face; a slice
    of it is Detections, too."""

    boxes_xyxy: NDArray[np.float32]  # (N, 4)
    scores: NDArray[np.float32]  # (N,) in 0..1
    landmarks_xy: NDArray[np.float32] | None = None  # (N, 5, 2) in the order of LANDMARK_NAMES
    track_ids: NDArray[np.int64] | None = None  # (N,), of a video whose faces are tracked
    is_interpolated: NDArray[np.bool_] | None = None  # (N,), of a video: true where a box stands between found ones

    def __eq__(self, other: object) -> bool:
        """By values."""
        return isinstance(other, Detections) and all(map(_are_equal, vars(self).values(), vars(other).values()))

    def __len__(self) -> int:
        return len(self.scores)

    @overload
    def __getitem__(self, index: int) -> Face: ...

    @overload
    def __getitem__(self, index: slice) -> Detections: ...

    def __getitem__(self, index: int | slice) -> Face | Detections:
        if isinstance(index, slice):
            return self.take(index)
        return Face(
            self.boxes_xyxy[index],
            float(self.scores[index]),
            None if self.landmarks_xy is None else self.landmarks_xy[index],
            None if self.track_ids is None else int(self.track_ids[index]),
            self.is_interpolated is not None and bool(self.is_interpolated[index]),
        )

    def __iter__(self) -> Iterator[Face]:
        return (self[index] for index in range(len(self)))

    def above(self, score_threshold: float) -> Detections:
        """Only the faces whose score is over the threshold. Raises ArgumentError for what is no number."""
        _check_number("score_threshold", score_threshold)
        return self.take(self.scores > score_threshold)

    def at_least(self, side: float) -> Detections:
        """Only the faces whose box is that many pixels wide and high, or more. Raises ArgumentError for what is no
        number."""
        _check_number("side", side)
        return self.take((self.boxes_xyxy[:, 2:] - self.boxes_xyxy[:, :2]).min(axis=1, initial=np.inf) >= side)

    def take(self, chosen: NDArray[Any] | slice) -> Detections:
        """Only the faces of (N,) bool, those of (M,) int indices in that order, or those of a slice."""
        parts = (self.boxes_xyxy, self.scores, self.landmarks_xy, self.track_ids, self.is_interpolated)
        return Detections(*(None if part is None else part[chosen] for part in parts))  # type: ignore[arg-type]

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON: the version of the schema, and the faces as to_dicts() gives them."""
        return {"schema": SCHEMA_VERSION, "faces": self.to_dicts()}

    def to_dicts(self) -> list[dict[str, Any]]:
        """A dict a face, of plain numbers, for JSON: box_xyxy, score, and, where the detector has them, landmarks_xy by
        LANDMARK_NAMES; of tracked video track and interpolated. Numbers have the digits that a float32 needs."""
        rows = []
        for face in self:
            row: dict[str, Any] = {"box_xyxy": _plain(face.box_xyxy), "score": _plain([face.score])[0]}
            if face.landmarks_xy is not None:
                points = _plain(face.landmarks_xy.ravel())
                row["landmarks_xy"] = {
                    name: points[2 * index : 2 * index + 2] for index, name in enumerate(LANDMARK_NAMES)
                }
            if face.track_id is not None:
                row["track"] = face.track_id
            if self.is_interpolated is not None:
                row["interpolated"] = face.is_interpolated
            rows.append(row)
        return rows

    @classmethod
    def from_dicts(cls, faces: Sequence[Mapping[str, Any]]) -> Detections:
        """What to_dicts() gave. Raises KeyError, TypeError or ValueError for anything else."""
        boxes = np.array([face["box_xyxy"] for face in faces], np.float32).reshape(-1, 4)
        scores = np.array([face["score"] for face in faces], np.float32)
        points = [[face["landmarks_xy"][name] for name in LANDMARK_NAMES] for face in faces if "landmarks_xy" in face]
        tracks = [face["track"] for face in faces if "track" in face]
        between = [face["interpolated"] for face in faces if "interpolated" in face]
        if any(len(part) not in (0, len(boxes)) for part in (points, tracks, between)):
            raise ValueError("some faces have what others lack")
        return cls(
            boxes,
            scores,
            np.array(points, np.float32).reshape(-1, 5, 2) if points else None,
            np.array(tracks, np.int64) if tracks else None,
            np.array(between, np.bool_) if between else None,
        )


def _are_equal(one: Any, other: Any) -> bool:
    """Of arrays all values; nan equals nan."""
    if one is None or other is None:
        return one is other
    try:
        return np.array_equal(one, other, equal_nan=True)
    except TypeError:  # texts, in the tuple that a face is compared with
        return False


def _check_number(name: str, value: object) -> None:
    """nan is none: nothing is over it, and no faces at all would be left."""
    if not isinstance(value, numbers.Real) or math.isnan(value):
        raise ArgumentError(f"`{name}`: expected a number, got {value!r:.80}.")


def _plain(values: Iterable[float]) -> list[float]:
    """The shortest numbers that are these as float32: 0.8643217, not 0.8643217086791992."""
    return [float(str(np.float32(value))) for value in values]
