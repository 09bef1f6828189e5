from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facekit.metrics.curves import DetectionCurve, detection_curve
from facekit.metrics.matching import FALSE, IGNORED, SetMatches, match_set

FACE_A, FACE_B = [0, 0, 100, 100], [200, 0, 100, 100]  # x, y, w, h
CROWD = [0, 300, 400, 200]
HIT_A, HIT_B, IN_CROWD, NOWHERE = [0, 0, 100, 100], [200, 0, 300, 100], [10, 310, 40, 340], [600, 600, 700, 700]


def curve(match: Sequence[int], scores: Sequence[float], faces: int = 2, pictures: int = 2) -> DetectionCurve:
    return detection_curve(SetMatches(np.array(match, np.int64), np.array(scores, float), faces, pictures))


class TestOperatingPoints:
    """Two pictures, two faces. 0.9 hits A, 0.6 nothing, 0.5 B, 0.4 A again, 0.3 nothing."""

    CURVE = curve([0, FALSE, 1, 0, FALSE], [0.9, 0.6, 0.5, 0.4, 0.3])

    @pytest.mark.parametrize(
        ("threshold", "precision", "recall", "f1", "false_positives"),
        [
            (0.0, 2 / 5, 1, 4 / 7, 3 / 2),
            (0.3, 2 / 4, 1, 4 / 6, 2 / 2),  # over the threshold, not at it
            (0.45, 2 / 3, 1, 4 / 5, 1 / 2),
            (0.55, 1 / 2, 1 / 2, 2 / 4, 1 / 2),
            (0.6, 1, 1 / 2, 2 / 3, 0),
        ],
    )
    def test_by_hand(
        self, threshold: float, precision: float, recall: float, f1: float, false_positives: float
    ) -> None:
        assert self.CURVE.at(threshold) == pytest.approx((threshold, precision, recall, f1, false_positives))

    def test_nothing_kept(self) -> None:
        point = self.CURVE.at(0.9)
        assert math.isnan(point.precision)
        assert point[2:] == (0, 0, 0)

    def test_no_face_to_find(self) -> None:
        point = curve([FALSE], [0.9], faces=0).at(0.5)
        assert (point.precision, point.false_positives_per_picture) == (0, 0.5)
        assert math.isnan(point.recall) and math.isnan(point.f1)

    def test_no_picture(self) -> None:
        assert math.isnan(curve([], [], faces=0, pictures=0).at(0.5).false_positives_per_picture)


class TestBestF1:
    def test_by_hand(self) -> None:
        # 0.45 lies between the last kept, 0.5, and the first left out, 0.4.
        best = TestOperatingPoints.CURVE.best_f1(lowest=0.02)
        assert best == TestOperatingPoints.CURVE.at(0.45)

    @pytest.mark.parametrize(
        ("match", "scores", "expected"),
        [
            ([0, FALSE], [0.93, 0.31], 0.6),
            ([0, FALSE], [0.5004, 0.5001], 0.5002),
            ([0], [0.8], 0.4),  # down to what was asked for, 0.02
        ],
    )
    def test_midway_in_few_decimals(self, match: list[int], scores: list[float], expected: float) -> None:
        best = curve(match, scores, faces=1).best_f1(0.02)
        assert best is not None and best.score_threshold == expected

    def test_of_equal_ones_the_one_with_fewer_false_positives(self) -> None:
        # F1 is 2/3 after the first and after the fourth detection.
        best = curve([0, FALSE, FALSE, 1], [0.9, 0.8, 0.7, 0.6]).best_f1(0)
        assert best is not None and 0.8 <= best.score_threshold < 0.9
        assert best.precision == 1

    @pytest.mark.parametrize(
        "nothing", [curve([], []), curve([FALSE], [0.9]), curve([FALSE], [0.9], faces=0), curve([], [], faces=0)]
    )
    def test_nothing_to_advise(self, nothing: DetectionCurve) -> None:
        assert nothing.best_f1(0.02) is None

    @given(
        st.lists(st.tuples(st.sampled_from([0, 1, 2, FALSE, IGNORED]), st.floats(0.03, 1)), min_size=1),
        st.integers(3, 9),
    )
    def test_no_other_threshold_is_better(self, detections: list[tuple[int, float]], faces: int) -> None:
        found = curve([match for match, _ in detections], [score for _, score in detections], faces)
        best = found.best_f1(lowest=0.02)
        others = [found.at(threshold).f1 for threshold in [0.02, *(score for _, score in detections)]]
        assert (best.f1 if best else 0) == pytest.approx(max(others))


def test_crowds_take_no_part() -> None:
    # One face found, one missed; of four more detections three lie in a crowd.
    matches = match_set(
        [np.array([FACE_A, FACE_B, CROWD]), np.empty((0, 4))],
        [[False, False, True], []],
        [np.array([HIT_A, IN_CROWD, IN_CROWD, [0, 300, 400, 500]]), np.array([NOWHERE])],
        [[0.9, 0.99, 0.5, 0.4], [0.2]],
    )
    assert (matches.faces, matches.pictures) == (2, 2)
    found = detection_curve(matches)
    assert found.at(0.1) == pytest.approx((0.1, 1 / 2, 1 / 2, 1 / 2, 1 / 2))
    assert found.at(0.3) == pytest.approx((0.3, 1, 1 / 2, 2 / 3, 0))


def test_faces_of_different_pictures_are_different() -> None:
    faces, hits = [np.array([FACE_A]), np.array([FACE_A])], [np.array([HIT_A]), np.array([HIT_A])]
    assert detection_curve(match_set(faces, [[False], [False]], hits, [[0.9], [0.8]])).ap == 1.0


class TestThinned:
    def test_ends_and_best_precision_of_each_recall(self) -> None:
        recall, precision = TestOperatingPoints.CURVE.thinned(200)
        assert recall.tolist() == [0.5, 1, 1]
        assert precision.tolist() == pytest.approx([1, 2 / 3, 2 / 5])

    def test_no_more_points_than_asked_for(self) -> None:
        rng = np.random.default_rng(0)
        found = curve(
            np.where(rng.random(5000) < 0.5, np.arange(5000), FALSE).tolist(), rng.random(5000).tolist(), 3000
        )
        recall, _ = found.thinned(200)
        assert len(recall) <= 201
        assert recall[-1] == found.true[-1] / 3000

    def test_empty(self) -> None:
        assert [len(part) for part in curve([], []).thinned(9)] == [0, 0]
        assert [len(part) for part in curve([FALSE], [0.5], faces=0).thinned(9)] == [0, 0]
