from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from facekit.metrics.mistakes import Mistake, Mistakes, worst_mistakes


def boxes(*rows: Sequence[float]) -> NDArray[np.float64]:
    return np.array(rows, dtype=np.float64).reshape(-1, 4)


def of_one(
    faces: NDArray[np.float64],
    found: NDArray[np.float64],
    scores: Sequence[float],
    ignored: Sequence[int] = (),
    score_threshold: float = 0.0,
) -> Mistakes:
    is_ignored = np.isin(np.arange(len(faces)), ignored)
    return worst_mistakes([faces], [is_ignored], [found], [scores], 10, 10, score_threshold)


FACE = [0, 0, 100, 100]
HIT = [0, 0, 100, 100]
NOWHERE, ELSEWHERE = [600, 600, 700, 700], [800, 800, 900, 900]


class TestFalsePositives:
    def test_best_score_is_the_worst(self) -> None:
        false_positives, misses = of_one(boxes(FACE), boxes(NOWHERE, HIT, ELSEWHERE), [0.3, 0.9, 0.4])
        assert false_positives == [Mistake(0, (800, 800, 900, 900), 0.4), Mistake(0, (600, 600, 700, 700), 0.3)]
        assert misses == []

    @pytest.mark.parametrize(("width", "is_false"), [(30, False), (29, True)])
    def test_a_poor_box_is_none(self, width: float, is_false: bool) -> None:
        # The box has IoU width / 100 with the face, which is missed in either case.
        mistakes = of_one(boxes(FACE), boxes([0, 0, width, 100]), [0.8])
        assert bool(mistakes.false_positives) == is_false
        assert mistakes.misses == [Mistake(0, (0, 0, 100, 100), 0.0 if is_false else 0.8)]

    def test_second_hit_is_none(self) -> None:
        assert of_one(boxes(FACE), boxes(HIT, HIT), [0.9, 0.8]) == ([], [])

    def test_over_an_ignored_face_is_none(self) -> None:
        # IoU of the small one with the crowd is 0.01; 0.3 and 0.29 of the others lie in it.
        found = boxes([10, 10, 20, 20], [97, 0, 107, 10], [97.1, 0, 107.1, 10])
        (false_positive,), misses = of_one(boxes(FACE), found, [0.9, 0.8, 0.6], ignored=[0])
        assert false_positive == Mistake(0, (97.1, 0, 107.1, 10), 0.6)
        assert misses == []


class TestMisses:
    def test_largest_face_is_the_worst(self) -> None:
        faces = boxes([0, 0, 10, 10], [50, 0, 20, 20], [100, 0, 15, 15])
        mistakes = of_one(faces, boxes([0, 0, 10, 10]), [0.9])
        assert [miss.box_xyxy for miss in mistakes.misses] == [(50, 0, 70, 20), (100, 0, 115, 15)]
        assert [miss.score for miss in mistakes.misses] == [0, 0]

    def test_best_score_that_touches_it(self) -> None:
        # Two poor boxes of IoU 0.4, and one of 0.1, which scores best.
        found = boxes([0, 0, 40, 100], [0, 0, 100, 40], [0, 0, 10, 100])
        mistakes = of_one(boxes(FACE), found, [0.2, 0.5, 0.9])
        assert mistakes.misses == [Mistake(0, (0, 0, 100, 100), 0.5)]
        assert mistakes.false_positives == [Mistake(0, (0, 0, 10, 100), 0.9)]

    def test_one_detection_finds_one_face(self) -> None:
        faces = boxes(FACE, [10, 0, 100, 100])
        assert of_one(faces, boxes(HIT), [0.9]).misses == [Mistake(0, (10, 0, 110, 100), 0.9)]

    def test_ignored_faces_are_none(self) -> None:
        assert of_one(boxes(FACE, FACE), boxes(), [], ignored=[0]).misses == [Mistake(0, (0, 0, 100, 100), 0.0)]

    def test_detections_below_the_threshold_only_tell_how_near_it_was(self) -> None:
        found, scores = boxes(HIT, NOWHERE), [0.29, 0.2]
        assert of_one(boxes(FACE), found, scores).misses == []
        assert of_one(boxes(FACE), found, scores, score_threshold=0.3) == ([], [Mistake(0, (0, 0, 100, 100), 0.29)])
        assert of_one(boxes(FACE), found, scores, score_threshold=0.29).misses == []


class TestWholeSet:
    def test_limits(self) -> None:
        # The first picture is strange: five false positives and five misses, all worse than those of the second.
        faces = [boxes(*([200 * k, 0, 90 + k, 90] for k in range(5))), boxes([0, 0, 20, 20], [50, 0, 10, 10])]
        found = [boxes(*([200 * k, 500, 200 * k + 50, 550] for k in range(5))), boxes(NOWHERE, ELSEWHERE)]
        scores = [[0.5, 0.6, 0.9, 0.8, 0.7], [0.2, 0.1]]
        no = [[False] * 5, [False] * 2]
        mistakes = worst_mistakes(faces, no, found, scores, count=3, per_picture=2)
        assert [(bad.picture, bad.score) for bad in mistakes.false_positives] == [(0, 0.9), (0, 0.8), (1, 0.2)]
        assert [miss.box_xyxy for miss in mistakes.misses] == [(800, 0, 894, 90), (600, 0, 693, 90), (0, 0, 20, 20)]
        assert len(worst_mistakes(faces, no, found, scores, count=1).misses) == 1
        assert len(worst_mistakes(faces, no, found, scores, count=9, per_picture=1).misses) == 2

    def test_empty(self) -> None:
        assert worst_mistakes([], [], [], [], 5) == ([], [])
        assert worst_mistakes([boxes()], [[]], [boxes()], [[]], 5) == ([], [])
        assert worst_mistakes([boxes()], [[]], [boxes(HIT)], [[0.5]], 5) == ([Mistake(0, (0, 0, 100, 100), 0.5)], [])

    def test_lengths(self) -> None:
        with pytest.raises(ValueError, match="one entry a picture, but got 1, 1, 1 and 0"):
            worst_mistakes([boxes()], [[]], [boxes()], [], 5)
