"""What is wrong with one face's numbers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facekit.datasets.check import face_defects
from facekit.labels.picture_labels import PictureLabels

WIDTH, HEIGHT = 160, 120
POINTS = [[40, 40], [60, 40], [50, 50], [42, 60], [58, 60]]  # in the box 30, 30, 40, 40
CROSSED = [[50, 80], [30, 70], [50, 70], [32, 90], [48, 90]]  # the nose first, in the box 20, 60, 40, 40
BOX = [30, 30, 40, 40]


def labels_of(*boxes: Any, points: Any = None) -> PictureLabels:
    landmarks = np.full((len(boxes), 5, 2), np.nan) if points is None else np.array(points, np.float64)
    array = np.array(boxes, np.float64).reshape(-1, 4)
    return PictureLabels(Path("a.jpg"), (WIDTH, HEIGHT), array, landmarks, np.zeros(len(boxes), bool))


class TestFaces:
    def test_none(self) -> None:
        assert all(mask.shape == (0,) for mask in face_defects(labels_of(), (WIDTH, HEIGHT)).values())

    @pytest.mark.parametrize(
        ("box", "kind"),
        [
            ([0, 0, WIDTH, HEIGHT], None),
            ([-1, -1, 20, 20], None),
            ([-1.5, 0, 20, 20], "box-partly-outside"),
            ([0, HEIGHT - 10, 9, 11.5], "box-partly-outside"),
            ([-20, 0, 20, 20], "box-outside"),
            ([0, HEIGHT, 20, 20], "box-outside"),
            ([5, 5, -3, 20], "empty-box"),
            ([5, 5, 20, 0], "empty-box"),
            ([500, 5, 0, 0], "empty-box"),
            ([5, 5, math.inf, 20], "bad-numbers"),
            ([5, 2e9, 20, 20], "bad-numbers"),
        ],
    )
    def test_box(self, box: list[float], kind: str | None) -> None:
        found = [name for name, mask in face_defects(labels_of(box), (WIDTH, HEIGHT)).items() if mask.any()]
        assert found == ([] if kind is None else [kind])

    @pytest.mark.parametrize(("x", "stray"), [(30, False), (20, False), (19.9, True), (80, False), (80.1, True)])
    def test_landmark_a_quarter_outside(self, x: float, stray: bool) -> None:
        points = [[x, 40], *POINTS[1:]]
        mask = face_defects(labels_of(BOX, points=[points]), (WIDTH, HEIGHT))["landmarks-outside"]
        assert mask.tolist() == [stray]

    def test_two_pixels_outside_a_small_face(self) -> None:
        points = np.full((1, 5, 2), 12.0)
        assert not face_defects(labels_of([5, 5, 5, 5], points=points), (WIDTH, HEIGHT))["landmarks-outside"].any()

    def test_endless_landmark(self) -> None:
        points = [[[math.inf, 40], *POINTS[1:]]]
        defects = face_defects(labels_of(BOX, points=points), (WIDTH, HEIGHT))
        assert [kind for kind, mask in defects.items() if mask.any()] == ["bad-numbers"]

    def test_doubled_boxes(self) -> None:
        boxes = [[10, 10, 40, 40], [10.5, 10, 40, 40], [12, 10, 40, 40], [9.5, 10, 40, 40], [80, 10, 40, 40]]
        assert face_defects(labels_of(*boxes), None)["doubled-box"].tolist() == [False, True, False, True, False]

    def test_doubled_boxes_as_all_pairs_say(self) -> None:
        rng = np.random.default_rng(0)
        boxes = np.concatenate([rng.uniform(0, 20, (300, 2)), rng.uniform(20, 22, (300, 2))], axis=1)
        x1, y1, w, h = boxes.T
        width = np.minimum(x1 + w, (x1 + w)[:, None]) - np.maximum(x1, x1[:, None])
        height = np.minimum(y1 + h, (y1 + h)[:, None]) - np.maximum(y1, y1[:, None])
        shared = width.clip(0) * height.clip(0)
        near = shared / (w * h + (w * h)[:, None] - shared) > 0.95
        expected: list[bool] = []
        for row in range(300):
            expected.append(any(near[row, other] and not expected[other] for other in range(row)))
        assert sum(expected) > 5
        assert face_defects(labels_of(*boxes), None)["doubled-box"].tolist() == expected
