"""Tracks of hand-made sequences, whose answers are known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from facekit.structures import Detections
from facekit.tracks.assignment import least_cost_pairs
from facekit.tracks.bytetrack import ByteTracker, TrackSettings


def frame(*faces: tuple[float, float, float]) -> Detections:
    """x, y of the centre and score; 40 pixels wide, 50 high."""
    boxes = [(x - 20, y - 25, x + 20, y + 25) for x, y, _ in faces]
    return Detections(np.array(boxes, np.float32).reshape(-1, 4), np.array([score for *_, score in faces], np.float32))


def ids(found: Detections) -> list[int]:
    assert found.track_ids is not None
    return found.track_ids.tolist()


@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (2, 5), (5, 2), (4, 4), (6, 5)])
def test_pairs_are_the_cheapest_of_all(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(sum(shape))
    for _ in range(20):
        costs = rng.random(shape).round(1)  # with ties
        pairs = least_cost_pairs(costs)
        few, many = sorted(shape)
        table = costs if shape[0] <= shape[1] else costs.T
        best = min(sum(table[i, j] for i, j in enumerate(order)) for order in itertools.permutations(range(many), few))
        assert sum(costs[pair] for pair in pairs) == pytest.approx(best)
        assert len(pairs) == few == len({row for row, _ in pairs}) == len({column for _, column in pairs})


def test_a_face_that_walks_keeps_its_number() -> None:
    tracker = ByteTracker()
    assert [ids(tracker.update(frame((100 + 12 * step, 200, 0.9)))) for step in range(20)] == [[1]] * 20


def test_two_that_cross_keep_theirs() -> None:
    """They pass at 20 pixels a frame, one 30 pixels below the other: motion tells them apart."""
    tracker = ByteTracker()
    last: list[int] = []
    for step in range(30):
        faces = [(100 + 10 * step, 200, 0.9), (390 - 10 * step, 230, 0.8)]
        last = ids(tracker.update(frame(*faces)))
    assert last == [1, 2]


def test_a_low_score_continues_a_track_but_begins_none() -> None:
    tracker = ByteTracker()
    assert ids(tracker.update(frame((100, 100, 0.9), (300, 100, 0.3)))) == [1]
    assert ids(tracker.update(frame((102, 100, 0.2), (300, 100, 0.3)))) == [1]
    assert ids(tracker.update(frame((104, 100, 0.05)))) == []


def test_a_face_that_was_hidden_comes_back() -> None:
    settings = TrackSettings(keep=5)
    for hidden, number in ((5, 1), (6, 2)):
        tracker = ByteTracker(settings)
        for step in range(10):
            tracker.update(frame((100 + 4 * step, 100, 0.9)))
        for _ in range(hidden):
            assert len(tracker.update(frame())) == 0
        assert ids(tracker.update(frame((100 + 4 * (10 + hidden), 100, 0.9)))) == [number]


def test_far_away_is_another_face() -> None:
    tracker = ByteTracker()
    tracker.update(frame((100, 100, 0.9)))
    assert ids(tracker.update(frame((300, 100, 0.9)))) == [2]


def test_carried_boxes_move_on_and_are_marked() -> None:
    tracker = ByteTracker()
    for step in range(10):
        tracker.update(frame((100 + 8 * step, 100, 0.9)))
    carried = tracker.carry()
    assert carried.is_interpolated is not None and carried.is_interpolated.all() and ids(carried) == [1]
    assert abs(float(carried.boxes_xyxy[0, [0, 2]].mean()) - 180) < 3


def test_empty_frames_and_numbers_that_are_none() -> None:
    tracker = ByteTracker()
    broken = Detections(np.full((1, 4), np.nan, np.float32), np.array([0.9], np.float32))
    assert len(tracker.update(frame())) == len(tracker.update(broken)) == len(tracker.carry()) == 0
