"""Landmarks by name, and by how they lie to each other."""

from __future__ import annotations

import logging
import math

import numpy as np
import pytest
from numpy.typing import NDArray

from facekit.labels.keypoints import (
    are_mirrored,
    as_seen,
    contradict,
    landmark_of,
    order_by_names,
    say_nothing,
    warn_of_contradictions,
)
from facekit.structures import FLIPPED_LANDMARKS, LANDMARK_NAMES

FRONTAL = np.array([[30.0, 40], [60, 40], [45, 55], [34, 70], [56, 70]])
PROFILE = np.array([[30.0, 40], [33, 40], [20, 55], [28, 70], [30, 70]])


def turned(points_xy: NDArray[np.float64], degrees: float) -> NDArray[np.float64]:
    angle = math.radians(degrees)
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    return np.asarray((points_xy - 50) @ turn + 50)


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (
            "left_eye",
            "left_eye leftEye LEFT_EYE l_eye eye_l eye-left|Left Eye|lefteye|left_eye_center|left_pupil le leye",
        ),
        ("right_eye", "right_eye rightEye r_eye eye_right re"),
        ("nose", "nose nose_tip noseTip|Nose Tip|n"),
        ("left_mouth", "left_mouth mouth_left left_mouth_corner mouth_corner_left leftmouthcorner left_lip lm mouth_l"),
        ("right_mouth", "right_mouth rightMouthCorner|right mouth corner"),
        (None, "left_ear mouth eye left_eyebrow left_eye_outer left_right_eye chin nose_mouth 3"),
    ],
)
def test_common_spellings(wanted: str | None, names: str) -> None:
    for name in names.split("|") if "|" in names else [names]:
        for one in [name] if " " in name and "_" not in name else name.split():
            found = landmark_of(one)
            assert (None if found is None else LANDMARK_NAMES[found]) == wanted, one


@pytest.mark.parametrize("name", [None, 3, "", "x" * 10_000, "\0"])
def test_what_is_no_name(name: object) -> None:
    assert landmark_of(name) is None


def test_order() -> None:
    assert order_by_names(["nose", "left_eye", "right_eye", "left_mouth", "right_mouth"]) == [1, 2, 0, 3, 4]
    coco = ["nose", "left_eye", "right_eye", "left_ear", "right_ear"]
    assert order_by_names(coco) is None
    assert order_by_names([*LANDMARK_NAMES, "nose"]) is None  # which of the two?
    assert order_by_names(["chin", *reversed(LANDMARK_NAMES)]) == [5, 4, 3, 2, 1]
    assert say_nothing(["1", "2", "3", "4", "5"]) and say_nothing(["kpt_0", "point 1"])
    assert not say_nothing(["nose", "2"])


@pytest.mark.parametrize("degrees", [0, 45, 90, 180, 270])
def test_a_turned_face_is_no_mirrored_one(degrees: float) -> None:
    faces = np.stack([turned(FRONTAL, degrees), turned(FRONTAL[FLIPPED_LANDMARKS], degrees)])
    assert are_mirrored(faces).tolist() == [False, True]
    assert contradict(faces).tolist() == [False, True]


@pytest.mark.parametrize(
    ("order", "expected"),
    [([0, 1, 2, 3, 4], False), ([2, 0, 1, 3, 4], True), ([3, 4, 2, 0, 1], True), ([0, 1, 3, 2, 4], True),
     ([0, 1, 2, 4, 3], True), ([2, 1, 0, 3, 4], True)],
)  # fmt: skip
def test_wrong_orders_contradict(order: list[int], expected: bool) -> None:
    assert contradict(FRONTAL[order][None]).tolist() == [expected]


def test_profiles_and_unlabelled_points_do_not() -> None:
    faces = np.stack([PROFILE, PROFILE[FLIPPED_LANDMARKS], np.full((5, 2), np.nan), np.full((5, 2), 7.0)])
    assert not contradict(faces).any()


class TestAnatomicalNames:
    def test_nearly_all_mirrored(self, caplog: pytest.LogCaptureFixture) -> None:
        faces = np.stack([FRONTAL[FLIPPED_LANDMARKS]] * 9 + [FRONTAL, PROFILE])
        with caplog.at_level(logging.WARNING, "facekit"):
            seen = as_seen(faces, "a.json")
        np.testing.assert_array_equal(seen[0], FRONTAL)
        assert "left and right are taken for the person's own, and exchanged" in caplog.text

    @pytest.mark.parametrize("mirrored", [0, 5])
    def test_else_names_decide(self, caplog: pytest.LogCaptureFixture, mirrored: int) -> None:
        faces = np.stack([FRONTAL[FLIPPED_LANDMARKS]] * mirrored + [FRONTAL] * 5)
        with caplog.at_level(logging.WARNING, "facekit"):
            np.testing.assert_array_equal(as_seen(faces, "a.json"), faces)
        assert not caplog.records
        assert as_seen(np.empty((0, 5, 2)), "a.json").shape == (0, 5, 2)

    @pytest.mark.parametrize("profiles", [8, 30, 200])
    def test_profiles_are_not_asked(self, profiles: int, caplog: pytest.LogCaptureFixture) -> None:
        """Whichever way they look, they tell nothing of left and right."""
        faces = np.array([FRONTAL[FLIPPED_LANDMARKS]] * 30 + [PROFILE] * profiles)
        with caplog.at_level(logging.WARNING, "facekit"):
            assert np.array_equal(as_seen(faces, "labels.json"), faces[:, FLIPPED_LANDMARKS])
            warn_of_contradictions(faces, "labels.txt")
        assert ["in 30 of 30 faces" in caplog.records[0].getMessage(), len(caplog.records)] == [True, 2]
        only_profiles = np.array([PROFILE] * 9)
        assert as_seen(only_profiles, "labels.json") is only_profiles
