from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from facekit.errors import FacekitError
from facekit.metrics.landmarks import LandmarkError, landmark_error

FACE_A, FACE_B = [0, 0, 40, 90], [200, 0, 100, 100]  # x, y, w, h: sqrt(40 * 90) = 60, and 100
HIT_A, HIT_B, NOWHERE = [0, 0, 40, 90], [200, 0, 300, 100], [600, 600, 700, 700]
POINTS_A = np.array([[10, 30], [30, 30], [20, 50], [10, 70], [30, 70]], dtype=float)


def moved(xy: NDArray[np.float64], x: float, y: float) -> NDArray[np.float64]:
    return xy + np.array([x, y])


POINTS_B = moved(POINTS_A, 200, 0)
UNLABELLED = np.full((5, 2), np.nan)


def boxes(*rows: Sequence[float]) -> NDArray[np.float64]:
    return np.array(rows, dtype=np.float64).reshape(-1, 4)


def points(*faces: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.array(faces, dtype=np.float64).reshape(-1, 5, 2)


def test_by_hand() -> None:
    # Two of the five points of A are off, by 3, 4 (so 5) and by 10: 15 / 5 = 3 pixels of 60. B is off by 10 of 100.
    off_a = POINTS_A.copy()
    off_a[0] += [3, 4]
    off_a[3] -= [0, 10]
    found = boxes(NOWHERE, HIT_A, HIT_B)
    error = landmark_error(
        [boxes(FACE_A, FACE_B)],
        [[False, False]],
        [points(POINTS_A, POINTS_B)],
        [found],
        [[0.9, 0.8, 0.7]],
        [points(POINTS_A, off_a, moved(POINTS_B, 0, 10))],
    )
    assert error == (pytest.approx(100 * (3 / 60 + 10 / 100) / 2), 2, 1.0)


def test_missed_and_unlabelled_faces() -> None:
    # Over two pictures: A found, B without labels, and in the second picture A missed.
    error = landmark_error(
        [boxes(FACE_A, FACE_B), boxes(FACE_A)],
        [[False, False], [False]],
        [points(POINTS_A, UNLABELLED), points(POINTS_A)],
        [boxes(HIT_B, HIT_A), boxes(NOWHERE)],
        [[0.9, 0.8], [0.9]],
        [points(POINTS_B, moved(POINTS_A, 6, 0)), points(POINTS_A)],
    )
    assert error == (pytest.approx(10), 1, 0.5)


def test_second_hit_does_not_count() -> None:
    near, far = moved(POINTS_A, 0, 6), moved(POINTS_A, 0, 60)
    error = landmark_error(
        [boxes(FACE_A)], [[False]], [points(POINTS_A)], [boxes(HIT_A, HIT_A)], [[0.5, 0.6]], [points(far, near)]
    )
    assert error == (pytest.approx(10), 1, 1.0)


def test_a_detection_is_the_face_that_it_overlaps_best() -> None:
    # The unlabelled face is the better match, so that the labelled one behind it is missed.
    faces = boxes([0, 0, 40, 80], FACE_A)
    error = landmark_error(
        [faces], [[False, False]], [points(POINTS_A, UNLABELLED)], [boxes(HIT_A)], [[0.5]], [points(POINTS_A)]
    )
    assert math.isnan(error.nme_percent)
    assert error[1:] == (0, 0.0)


def test_a_crowd_is_neither_found_nor_missed() -> None:
    # Its landmarks, if it has any, are nobody's; detections within it are nobody's either.
    crowd = [300, 300, 200, 200]
    error = landmark_error(
        [boxes(FACE_A, crowd)],
        [[False, True]],
        [points(POINTS_A, moved(POINTS_A, 300, 300))],
        [boxes([300, 300, 500, 500], HIT_A)],
        [[0.9, 0.8]],
        [points(moved(POINTS_A, 900, 0), moved(POINTS_A, 6, 0))],
    )
    assert error == (pytest.approx(10), 1, 1.0)


@pytest.mark.parametrize("labels", [[], [points(UNLABELLED)], [points()]])
def test_nothing_labelled(labels: list[NDArray[np.float64]]) -> None:
    faces = [boxes(*[FACE_A] * len(picture)) for picture in labels]
    error = landmark_error(
        faces,
        [[False] * len(picture) for picture in labels],
        labels,
        [boxes(HIT_A)] * len(faces),
        [[0.5]] * len(faces),
        [points(POINTS_A)] * len(faces),
    )
    assert isinstance(error, LandmarkError)
    assert math.isnan(error.nme_percent)
    assert math.isnan(error.found)
    assert error.faces == 0


class TestComplaints:
    def test_shapes(self) -> None:
        with pytest.raises(ValueError, match=r"det_landmarks_xy\[0\]: must be of shape \(1, 5, 2\), but got \(1, 10\)"):
            landmark_error([boxes(FACE_A)], [[False]], [points(POINTS_A)], [boxes(HIT_A)], [[0.5]], [np.zeros((1, 10))])
        with pytest.raises(ValueError, match=r"gt_landmarks_xy\[0\]: must be of shape \(1, 5, 2\)"):
            landmark_error([boxes(FACE_A)], [[False]], [points()], [boxes(HIT_A)], [[0.5]], [points(POINTS_A)])

    def test_lengths(self) -> None:
        with pytest.raises(ValueError, match="one entry a picture, but got 1, 1 and 0"):
            landmark_error([boxes(FACE_A)], [[False]], [points(POINTS_A)], [boxes(HIT_A)], [[0.5]], [])

    def test_landmarks_that_are_not_finite(self) -> None:
        with pytest.raises(FacekitError, match=r"det_landmarks_xy\[0\]: expected finite"):
            landmark_error(
                [boxes(FACE_A)], [[False]], [points(POINTS_A)], [boxes(HIT_A)], [[0.5]], [points(UNLABELLED)]
            )
