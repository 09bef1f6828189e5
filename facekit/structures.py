"""The vocabulary that all floors share: what a network returns, what it means, what is found in a picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

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


@dataclass(frozen=True)
class Detections:
    """Faces found in one picture, best score first, in that picture's own pixels. A sequence of Face."""

    boxes_xyxy: NDArray[np.float32]  # (N, 4)
    scores: NDArray[np.float32]  # (N,) in 0..1
    landmarks_xy: NDArray[np.float32] | None = None  # (N, 5, 2) in the order of LANDMARK_NAMES

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, index: int) -> Face:
        landmarks = None if self.landmarks_xy is None else self.landmarks_xy[index]
        return Face(self.boxes_xyxy[index], float(self.scores[index]), landmarks)

    def __iter__(self) -> Iterator[Face]:
        return (self[index] for index in range(len(self)))

    def above(self, score_threshold: float) -> Detections:
        """Only the faces whose score is over the threshold."""
        keep = self.scores > score_threshold
        landmarks = None if self.landmarks_xy is None else self.landmarks_xy[keep]
        return Detections(self.boxes_xyxy[keep], self.scores[keep], landmarks)

    def to_dicts(self) -> list[dict[str, Any]]:
        """A dict a face, of plain numbers, for JSON: box_xyxy, score, and landmarks_xy by LANDMARK_NAMES if any."""
        rows = []
        for face in self:
            row: dict[str, Any] = {"box_xyxy": face.box_xyxy.tolist(), "score": face.score}
            if face.landmarks_xy is not None:
                row["landmarks_xy"] = dict(zip(LANDMARK_NAMES, face.landmarks_xy.tolist(), strict=True))
            rows.append(row)
        return rows
