"""Faces of tools that draw shapes freely (labelme, CVAT): boxes, and points that belong to one of them."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facekit.labels.keypoints import as_seen, landmark_of
from facekit.labels.picture_labels import MAX_COORDINATE, PictureLabels
from facekit.labels.values import kinds_to_read, say_no_flags
from facekit.structures import LANDMARK_NAMES

log = logging.getLogger(__name__)

XY = tuple[float, float]


class DrawnBox(NamedTuple):
    """A shape around a face."""

    label: str
    box_xywh: tuple[float, float, float, float]
    group: Any  # that points share with it; None: no group
    is_crowd: bool
    place: str  # where it stands
    no_flag: str = ""  # see values.is_ignored


class DrawnPoint(NamedTuple):
    """A point with a landmark's name, or another."""

    label: str
    xy: XY
    group: Any


@dataclass
class Drawing:
    """The shapes of one picture."""

    boxes: list[DrawnBox] = field(default_factory=list)
    points: list[DrawnPoint] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)  # shapes that are neither, by kind


def box_around(points: Sequence[XY]) -> tuple[float, float, float, float]:
    """x, y, w, h around one point or more."""
    xs, ys = zip(*points, strict=True)
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)


def box_of_ellipse(cx: float, cy: float, rx: float, ry: float, angle: float = 0.0) -> tuple[float, float, float, float]:
    """x, y, w, h around an ellipse whose first radius lies at that angle, in radians."""
    half_w = math.hypot(rx * math.cos(angle), ry * math.sin(angle))
    half_h = math.hypot(rx * math.sin(angle), ry * math.cos(angle))
    return cx - half_w, cy - half_h, 2 * half_w, 2 * half_h


class DrawnFaces:
    """All drawings of a set on their way to labels: of several labels only those named face are read."""

    def __init__(self, source: Path, drawings: Sequence[Drawing]) -> None:
        self.source = source
        kinds = kinds_to_read({box.label for drawing in drawings for box in drawing.boxes}, str(source))
        self.boxes = [[box for box in drawing.boxes if box.label in kinds] for drawing in drawings]
        no_flags = [f"{box.place}.{box.no_flag}" for boxes in self.boxes for box in boxes if box.no_flag]
        say_no_flags(no_flags, str(source))
        self._lost: Counter[str] = Counter()
        for drawing in drawings:
            self._lost.update(drawing.passed_over)
        landmarks = [self._landmarks(boxes, one.points) for boxes, one in zip(self.boxes, drawings, strict=True)]
        whole = as_seen(np.concatenate([np.empty((0, 5, 2)), *landmarks]), str(source))
        self.landmarks_xy = np.split(whole, np.cumsum([len(points) for points in landmarks])[:-1])
        if self._lost:
            what = ", ".join(f"{count} {name}" for name, count in self._lost.most_common(8))
            log.warning("%s: neither faces nor their landmarks, and not read: %s.", source, what)

    def labels(self, number: int, path: Path, name: str, size_wh: tuple[int, int] | None) -> PictureLabels:
        """Of the drawing of that number."""
        boxes = self.boxes[number]
        return PictureLabels(
            path, size_wh, np.array([box.box_xywh for box in boxes], np.float64).reshape(-1, 4),
            self.landmarks_xy[number], np.array([box.is_crowd for box in boxes], bool), name=name,
        )  # fmt: skip

    def _landmarks(self, boxes: Sequence[DrawnBox], points: Sequence[DrawnPoint]) -> NDArray[np.float64]:
        """(N, 5, 2): each named point for the box of its group, or else for the smallest box that it lies in."""
        found = np.full((len(boxes), len(LANDMARK_NAMES), 2), np.nan)
        taken: set[tuple[int, int]] = set()
        for point in points:
            landmark = landmark_of(point.label)
            face = None if landmark is None else _owner(point, boxes)
            if landmark is None or face is None or (face, landmark) in taken:
                reason = "with another name" if landmark is None else "in no box" if face is None else "named twice"
                self._lost[f"points {reason}"] += 1
                continue
            taken.add((face, landmark))
            found[face, landmark] = point.xy
        return found


def is_finite(values: Sequence[float]) -> bool:
    """Whether all are finite numbers within MAX_COORDINATE."""
    return all(abs(value) <= MAX_COORDINATE for value in values)  # False for NaN too


def _owner(point: DrawnPoint, boxes: Sequence[DrawnBox]) -> int | None:
    if point.group is not None:
        grouped = [number for number, box in enumerate(boxes) if box.group == point.group]
        if len(grouped) == 1:
            return grouped[0]
    inside = []
    for number, box in enumerate(boxes):
        x, y, w, h = box.box_xywh
        if x <= point.xy[0] <= x + w and y <= point.xy[1] <= y + h:
            inside.append((w * h, number))
    return min(inside)[1] if inside else None
