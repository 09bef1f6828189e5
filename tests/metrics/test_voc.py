from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facekit.metrics.voc import eleven_point_ap, voc_curve

Box = tuple[float, float, float, float]


def iou(one: Box, other: Box) -> float:
    """x, y, w, h."""
    across = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    down = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    shared = max(across, 0) * max(down, 0)
    return shared / (one[2] * one[3] + other[2] * other[3] - shared)


def slow_ap(pictures: list[tuple[list[Box], list[tuple[float, Box]]]]) -> tuple[float, float]:
    """The development kit's loop, face by face: area under the curve, and eleven points. No equal scores, no crowds."""
    found = sorted(
        ((score, number, box) for number, (_, some) in enumerate(pictures) for score, box in some),
        key=lambda entry: -entry[0],
    )
    taken: set[tuple[int, int]] = set()
    total = sum(len(faces) for faces, _ in pictures)
    recalls, precisions, true = [0.0], [0.0], 0
    for rank, (_, number, box) in enumerate(found, start=1):
        best, best_face = -1.0, -1
        for face, truth in enumerate(pictures[number][0]):
            if iou(box, truth) > best:
                best, best_face = iou(box, truth), face
        if best >= 0.5 and (number, best_face) not in taken:
            taken.add((number, best_face))
            true += 1
        recalls.append(true / total)
        precisions.append(true / rank)
    area = 0.0
    for place in range(1, len(recalls)):
        area += (recalls[place] - recalls[place - 1]) * max(precisions[place:])
    eleven = 0.0
    for tenth in range(11):
        eleven += max((p for p, r in zip(precisions, recalls, strict=True) if r + 1e-9 >= tenth / 10), default=0) / 11
    return area, eleven


def boxes(low: int, high: int) -> st.SearchStrategy[list[Box]]:
    side = st.integers(2, 9)
    return st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8), side, side), min_size=low, max_size=high)


@settings(max_examples=60)
@given(data=st.data())
def test_against_the_kits_loop(data: st.DataObject) -> None:
    pictures, scores = [], iter(data.draw(st.permutations(range(1, 60))))
    for number in range(data.draw(st.integers(1, 3))):
        faces = data.draw(boxes(1 if number == 0 else 0, 5))
        pictures.append((faces, [(next(scores) / 100, box) for box in data.draw(boxes(0, 8))]))
    truth = [np.array(faces, dtype=float).reshape(-1, 4) for faces, _ in pictures]
    xywh = [np.array([box for _, box in found], dtype=float).reshape(-1, 4) for _, found in pictures]
    xyxy = [np.concatenate([part[:, :2], part[:, :2] + part[:, 2:]], axis=1) for part in xywh]
    curve = voc_curve(
        truth,
        [np.zeros(len(part), bool) for part in truth],
        xyxy,
        [[score for score, _ in found] for _, found in pictures],
    )
    area, eleven = slow_ap(pictures)
    assert curve.ap == pytest.approx(area, abs=1e-12)
    assert eleven_point_ap(curve) == pytest.approx(eleven, abs=1e-9)


FACES = np.array([[0.0, 0, 10, 10], [4, 0, 10, 10], [100, 100, 2, 2]])


def test_a_second_hit_is_false_although_another_face_is_free() -> None:
    """Two boxes on the first face, the second of which overlaps the other face by half, too."""
    found = np.array([[0.0, 0, 10, 10], [1, 0, 11, 10]])
    curve = voc_curve([FACES], [np.zeros(3, bool)], [found], [[0.9, 0.8]])
    assert (curve.true.tolist(), curve.false.tolist()) == ([1, 1], [0, 1])
    assert curve.ap == pytest.approx(1 / 3)
    assert eleven_point_ap(curve) == pytest.approx(4 / 11)  # at recalls of 0 to 0.3


def test_crowds_are_neither_missed_nor_wrong() -> None:
    crowd = np.array([False, False, False, True])
    faces = np.concatenate([FACES, [[200.0, 200, 100, 100]]])
    found = np.array([[0.0, 0, 10, 10], [210, 210, 220, 220], [500, 500, 510, 510]])
    curve = voc_curve([faces], [crowd], [found], [[0.9, 0.8, 0.7]])
    assert (curve.faces, curve.true.tolist(), curve.false.tolist()) == (3, [1, 1], [0, 1])


def test_tiny_and_far_faces_count() -> None:
    far = np.array([[5000.0, 5000, 1, 1]])
    curve = voc_curve([far], [np.zeros(1, bool)], [np.array([[5000.0, 5000, 5001, 5001]])], [[0.001]])
    assert (curve.ap, eleven_point_ap(curve)) == (1, 1)


def test_without_faces_and_without_detections() -> None:
    nothing = np.zeros((0, 4))
    assert math.isnan(voc_curve([nothing], [np.zeros(0, bool)], [FACES], [[0.1, 0.2, 0.3]]).ap)
    assert math.isnan(eleven_point_ap(voc_curve([nothing], [np.zeros(0, bool)], [nothing], [[]])))
    curve = voc_curve([FACES], [np.zeros(3, bool)], [nothing], [[]])
    assert (curve.ap, eleven_point_ap(curve)) == (0, 0)
