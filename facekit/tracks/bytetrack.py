"""Numbers for faces, frame by frame: ByteTrack (Zhang et al., ECCV 2022, algorithm 1) with a motion like SORT's (Bewley
et al., ICIP 2016): a Kalman filter of constant velocity on centre, area's root and aspect.

Each frame the faces of high score are paired with where tracks should be, by IoU; then those of low score with the
tracks that are left, which is how a half hidden face keeps its number. Only a high score begins a track.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facekit.ops.boxes import pairwise_iou
from facekit.structures import Detections
from facekit.tracks.assignment import least_cost_pairs

HIGH_IOU, LOW_IOU = 0.2, 0.4  # least overlap to be the same face; faces move more than their size tells, so little
# Deviations, in parts of the face's side: of what is found, and by which place and velocity change from frame to frame.
FOUND, PLACE, VELOCITY = 0.05, 0.05, 0.02


@dataclass(frozen=True)
class TrackSettings:
    """What begins, continues and ends a track."""

    high: float = 0.5  # score that begins one
    low: float = 0.1  # score that continues one
    keep: int = 30  # frames that a track waits for its face to come again


class _Track:
    """The state is x, y of the centre, side (the area's root), log of width over height, and their velocities."""

    def __init__(self, number: int, box_xyxy: NDArray[np.float32], score: float) -> None:
        self.number, self.score, self.missed = number, score, 0
        self.mean = np.concatenate([_measured(box_xyxy), np.zeros(4)])
        side = self.mean[2]
        self.spread = np.diag([side, side, side, 1, side, side, side, 0.1]) ** 2 * 0.1

    def predict(self) -> None:
        step = np.eye(8) + np.eye(8, k=4)
        side = max(self.mean[2], 1.0)
        noise = np.array([PLACE * side] * 3 + [PLACE] + [VELOCITY * side] * 3 + [VELOCITY / 10]) ** 2
        self.mean = step @ self.mean
        if self.missed:
            self.mean[4:] *= 0.9  # a face that nobody sees isn't followed off to nowhere
        self.mean[2] = max(self.mean[2], 1.0)
        self.spread = step @ self.spread @ step.T + np.diag(noise)

    def correct(self, box_xyxy: NDArray[np.float32], score: float) -> None:
        side = max(self.mean[2], 1.0)
        noise = np.diag(np.array([FOUND * side] * 3 + [FOUND]) ** 2)
        gain = self.spread[:, :4] @ np.linalg.inv(self.spread[:4, :4] + noise)
        self.mean = self.mean + gain @ (_measured(box_xyxy) - self.mean[:4])
        self.spread = self.spread - gain @ self.spread[:4]
        self.score, self.missed = score, 0

    def box_xyxy(self) -> NDArray[np.float32]:
        x, y, side, aspect = self.mean[:4]
        half = max(side, 1.0) * np.array([np.exp(aspect / 2), np.exp(-aspect / 2)]) / 2
        return np.array([x - half[0], y - half[1], x + half[0], y + half[1]], np.float32)


def _measured(box_xyxy: NDArray[np.float32]) -> NDArray[np.float64]:
    x1, y1, x2, y2 = box_xyxy.astype(np.float64)
    width, height = max(x2 - x1, 1e-3), max(y2 - y1, 1e-3)
    return np.array([(x1 + x2) / 2, (y1 + y2) / 2, np.sqrt(width * height), np.log(width / height)])


class ByteTracker:
    """Of one video; frames are given in their order."""

    def __init__(self, settings: TrackSettings | None = None) -> None:
        self.settings = settings or TrackSettings()
        self._tracks: list[_Track] = []
        self._next = 1

    def update(self, faces: Detections) -> Detections:
        """The faces of the next frame that belong to tracks, with their numbers: those over the high score, and those
        over the low one that continue a track. `faces`: all over the low score; boxes stay as they were found."""
        self._predict()
        usable = np.isfinite(faces.boxes_xyxy).all(axis=1) & (faces.scores > self.settings.low)
        is_high = faces.scores > self.settings.high
        owner = np.zeros(len(faces), np.int64)
        left = self._pair(faces, np.flatnonzero(usable & is_high), self._tracks, HIGH_IOU, owner)
        recent = [track for track in left if track.missed == 0]
        self._pair(faces, np.flatnonzero(usable & ~is_high), recent, LOW_IOU, owner)
        for index in np.flatnonzero(usable & is_high & (owner == 0)):
            self._tracks.append(_Track(self._next, faces.boxes_xyxy[index], float(faces.scores[index])))
            owner[index] = self._next
            self._next += 1
        seen = set(owner.tolist())
        for track in self._tracks:
            track.missed += track.number not in seen
        self._tracks = [track for track in self._tracks if track.missed <= self.settings.keep]
        chosen = np.flatnonzero(owner)
        found = faces.take(chosen)
        return Detections(
            found.boxes_xyxy, found.scores, found.landmarks_xy, owner[chosen], np.zeros(len(chosen), bool)
        )

    def carry(self) -> Detections:
        """Where the tracked faces of the frame before should be in the next, which nobody has looked at."""
        self._predict()
        alive = [track for track in self._tracks if track.missed == 0]
        return Detections(
            np.array([track.box_xyxy() for track in alive], np.float32).reshape(-1, 4),
            np.array([track.score for track in alive], np.float32),
            None,
            np.array([track.number for track in alive], np.int64),
            np.ones(len(alive), bool),
        )

    def _predict(self) -> None:
        for track in self._tracks:
            track.predict()

    def _pair(
        self, faces: Detections, chosen: NDArray[np.int64], tracks: list[_Track], least_iou: float,
        owner: NDArray[np.int64],
    ) -> list[_Track]:  # fmt: skip
        """Gives faces to tracks, in `owner`; the tracks that are left."""
        if not len(chosen) or not tracks:
            return list(tracks)
        places = np.array([track.box_xyxy() for track in tracks], np.float32)
        iou = pairwise_iou(places, faces.boxes_xyxy[chosen]).astype(np.float64)
        # What overlaps too little costs as much as no pair at all, so it never moves another pair.
        pairs = [(row, column) for row, column in least_cost_pairs(1 - np.where(iou >= least_iou, iou, 0))
                 if iou[row, column] >= least_iou]  # fmt: skip
        for row, column in pairs:
            face = int(chosen[column])
            tracks[row].correct(faces.boxes_xyxy[face], float(faces.scores[face]))
            owner[face] = tracks[row].number
        taken = {row for row, _ in pairs}
        return [track for row, track in enumerate(tracks) if row not in taken]
