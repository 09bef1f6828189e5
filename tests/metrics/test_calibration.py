from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from facekit.errors import FacekitError
from facekit.metrics.calibration import expected_calibration_error, reliability, reliability_of
from facekit.metrics.matching import match_set

FACE = [0, 0, 100, 100]
CROWD = [300, 0, 200, 200]
HIT, IN_CROWD, NOWHERE = [0, 0, 100, 100], [310, 10, 330, 30], [600, 600, 700, 700]


def boxes(*rows: Sequence[float]) -> NDArray[np.float64]:
    return np.array(rows, dtype=np.float64).reshape(-1, 4)


def test_by_hand() -> None:
    # One face hit at 0.9, then hit again at 0.7; a miss at 0.8; two detections in a crowd are left out.
    found = boxes(HIT, HIT, NOWHERE, IN_CROWD, IN_CROWD)
    low, high = reliability(
        match_set([boxes(FACE, CROWD)], [[False, True]], [found], [[0.9, 0.7, 0.8, 0.95, 0.2]]), bins=2
    )
    assert low[:3] == (0.0, 0.5, 0)
    assert math.isnan(low.mean_score)
    assert math.isnan(low.precision)
    assert high == (0.5, 1.0, 3, pytest.approx(0.8), pytest.approx(1 / 3))
    assert expected_calibration_error([low, high]) == pytest.approx(0.8 - 1 / 3)


def test_error_weighs_bins_by_their_detections() -> None:
    # Three at 0.25 of which one hits, and one at 0.75 that hits: (3 * 1/12 + 1 * 1/4) / 4.
    bins = reliability_of([0.25, 0.25, 0.25, 0.75], [True, False, False, True], bins=2)
    assert expected_calibration_error(bins) == pytest.approx((3 / 12 + 1 / 4) / 4)


def test_scores_on_edges_belong_to_the_bin_above() -> None:
    scores = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    bins = reliability_of(scores, [True] * 11)
    assert [part.detections for part in bins] == [1] * 9 + [2]
    assert [part.low for part in bins] == scores[:-1]
    assert [part.high for part in bins] == scores[1:]


def test_scores_a_rounding_outside_belong_to_the_ends() -> None:
    bins = reliability_of([-1e-7, 1 + 1e-7], [False, True])
    assert (bins[0].detections, bins[-1].detections) == (1, 1)


def test_empty() -> None:
    for bins in (
        reliability(match_set([], [], [], [])),
        reliability(match_set([boxes(FACE)], [[False]], [boxes()], [[]])),
        reliability_of([], []),
    ):
        assert [part.detections for part in bins] == [0] * 10
        assert math.isnan(expected_calibration_error(bins))


@given(st.lists(st.tuples(st.integers(0, 100), st.booleans()), min_size=1), st.integers(1, 12))
def test_agrees_with_a_slow_reference(detections: list[tuple[int, bool]], count: int) -> None:
    # Scores are hundredths, so that whole numbers decide on the bin.
    members: list[list[tuple[int, bool]]] = [[] for _ in range(count)]
    for score, hit in detections:
        members[min(score * count // 100, count - 1)].append((score, hit))
    bins = reliability_of([score / 100 for score, _ in detections], [hit for _, hit in detections], count)
    assert [part.detections for part in bins] == [len(rows) for rows in members]
    error = 0.0
    for part, rows in zip(bins, members, strict=True):
        if rows:
            mean, precision = sum(score for score, _ in rows) / len(rows) / 100, sum(hit for _, hit in rows) / len(rows)
            assert part[3:] == (pytest.approx(mean), pytest.approx(precision))
            error += abs(mean - precision) * len(rows) / len(detections)
    assert expected_calibration_error(bins) == pytest.approx(error)


class TestComplaints:
    @pytest.mark.parametrize("score", [-0.1, 1.1, 37.0])
    def test_scores_that_are_no_probabilities(self, score: float) -> None:
        with pytest.raises(FacekitError, match=f"scores: {score:g} lies outside"):
            reliability_of([0.5, score], [True, True])

    def test_shapes(self) -> None:
        with pytest.raises(ValueError, match=r"is_hit: must be of shape \(2,\), but got \(1,\)"):
            reliability_of([0.5, 0.5], [True])
        with pytest.raises(ValueError, match="bins: must be 1 or more, but got 0"):
            reliability_of([0.5], [True], bins=0)
