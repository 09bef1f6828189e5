"""Faces of a picture as a sequence of Python's."""

from __future__ import annotations

import numpy as np
import pytest

from facekit.errors import ArgumentError
from facekit.results.row import Row
from facekit.structures import Detections


def three() -> Detections:
    boxes = np.arange(12, dtype=np.float32).reshape(3, 4)
    return Detections(
        boxes, np.array([0.9, 0.5, 0.1], np.float32), np.zeros((3, 5, 2), np.float32), np.array([7, 8, 9])
    )


@pytest.mark.parametrize(
    ("part", "tracks"),
    [(slice(0, 2), [7, 8]), (slice(-1, None), [9]), (slice(None, None, -1), [9, 8, 7]), (slice(5, 9), [])],
)
def test_a_slice_is_detections(part: slice, tracks: list[int]) -> None:
    faces = three()[part]
    assert isinstance(faces, Detections) and [face.track_id for face in faces] == tracks
    assert len(faces.to_dicts()) == len(faces) == len(tracks)
    assert faces.is_interpolated is None and faces.landmarks_xy is not None and len(faces.landmarks_xy) == len(tracks)


@pytest.mark.parametrize("number", [0.5, 1, np.float32(0.5), np.int64(1)])
def test_thresholds_of_any_kind_of_number(number: float) -> None:
    assert len(three().above(number)) == (1 if number < 1 else 0)
    assert len(three().at_least(number)) == 3


@pytest.mark.parametrize("wrong", ["x", "0.5", None, float("nan"), np.float32("nan"), [0.5], np.zeros(3)])
def test_what_is_no_number_is_refused(wrong: object) -> None:
    with pytest.raises(ArgumentError, match="`score_threshold`: expected a number, got"):
        three().above(wrong)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="`side`: expected a number, got"):
        three().at_least(wrong)  # type: ignore[arg-type]


def test_equal_are_those_of_equal_values() -> None:
    one, other = three(), three()
    assert one == other and one[0] == other[0] and Row("a.jpg", faces=one) == Row("a.jpg", faces=other)
    assert not (one != other or one[0] != other[0] or one[0] == one[1] or one == one[:2])
    assert one[:1] != Detections(one.boxes_xyxy[:1], one.scores[:1]) and one != "faces" and one[0] != "face"
    assert one[0] != (one.boxes_xyxy[0], "0.9", None, None, False) and one[0] != ("a", 1, 2, 3, 4)
    assert Row("a.jpg", name="a", left_out="a page", file_state=(1, 2)) == Row("a.jpg") != Row("b.jpg")
    unknown, again = (Detections(np.full((1, 4), np.nan, np.float32), one.scores[:1]) for _ in range(2))
    assert unknown == again and unknown[0] == again[0]
