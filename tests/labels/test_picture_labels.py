from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from facekit.errors import FacekitError
from facekit.labels.picture_labels import (
    PictureLabels,
    check_listed_once,
    check_pictures_exist,
    drop_unusable_boxes,
    finish_reading,
    picture_path,
)


def labels(boxes: list[list[float]], size_wh: tuple[int, int] | None = (40, 30), name: str = "a.png") -> PictureLabels:
    count = len(boxes)
    return PictureLabels(
        path=Path(name),
        size_wh=size_wh,
        boxes_xywh=np.array(boxes, dtype=np.float64).reshape(-1, 4),
        landmarks_xy=np.arange(count * 10, dtype=np.float64).reshape(-1, 5, 2),
        is_crowd=np.arange(count) % 2 == 1,
    )


class TestEmpty:
    def test_no_pictures(self) -> None:
        assert drop_unusable_boxes([], "labels.json") == []
        check_pictures_exist([], "labels.json", lambda picture, face: "", "")

    @pytest.mark.parametrize("size_wh", [None, (40, 30)])
    def test_no_faces(self, size_wh: tuple[int, int] | None) -> None:
        [picture] = drop_unusable_boxes([labels([], size_wh)], "labels.json")
        assert picture.boxes_xywh.shape == (0, 4)
        assert picture.boxes_xyxy.shape == (0, 4)

    def test_take_nothing(self) -> None:
        assert labels([[1, 2, 3, 4]]).take(np.array([False])).boxes_xywh.shape == (0, 4)


def test_take_keeps_rows_together() -> None:
    picture = labels([[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]])
    taken = picture.take(np.array([False, True, True]))
    assert taken.boxes_xyxy.tolist() == [[5, 6, 12, 14], [9, 10, 20, 22]]
    assert taken.landmarks_xy[:, 0, 0].tolist() == [10, 20]
    assert taken.is_crowd.tolist() == [True, False]
    assert len(picture.boxes_xywh) == 3  # the caller's own stays


def test_take_keeps_attributes() -> None:
    picture = dataclasses.replace(labels([[1, 2, 3, 4]] * 3), attributes=np.arange(18, dtype=np.int8).reshape(3, 6))
    taken = picture.take(np.array([False, True, False])).attributes
    assert taken is not None and taken.tolist() == [[6, 7, 8, 9, 10, 11]]


def test_drop_leaves_the_callers_arrays_alone() -> None:
    picture = labels([[1, 1, 0, 5], [1, 1, 5, 5]])
    before = picture.boxes_xywh.copy()
    [kept] = drop_unusable_boxes([picture], "labels.json")
    np.testing.assert_array_equal(picture.boxes_xywh, before)
    assert kept.landmarks_xy[0, 0, 0] == 10


def test_warnings_count_over_all_pictures_and_name_the_first(caplog: pytest.LogCaptureFixture) -> None:
    pictures = [labels([[1, 1, 5, 5]]), labels([[2, 2, 0, 1]], name="b.png"), labels([[3, 3, 0, 1]], name="c.png")]
    drop_unusable_boxes(pictures, "here.json")
    [record] = caplog.records
    assert record.levelname == "WARNING"
    message = record.getMessage()
    assert message == "here.json: 2 boxes have no area: left out (first: b.png: x, y, w, h = [2.0, 2.0, 0.0, 1.0])."


@given(st.lists(st.tuples(*[st.integers(-60, 60)] * 4), max_size=8))
def test_what_stays_overlaps_the_picture(boxes: list[tuple[int, ...]]) -> None:
    """Against the definition, pixel rectangle by pixel rectangle."""
    [kept] = drop_unusable_boxes([labels([list(box) for box in boxes])], "labels.json")
    wanted = []
    for x, y, w, h in boxes:
        overlap_w, overlap_h = min(x + w, 40) - max(x, 0), min(y + h, 30) - max(y, 0)
        if w > 0 and h > 0 and overlap_w > 0 and overlap_h > 0:
            wanted.append([x, y, w, h])
    assert kept.boxes_xywh.tolist() == wanted


class TestCorners:
    @staticmethod
    def set_of(boxes: list[list[float]]) -> list[PictureLabels]:
        """Five boxes a picture."""
        return [labels(boxes[start : start + 5], (400, 300)) for start in range(0, len(boxes), 5)]

    def test_are_refused(self) -> None:
        """Half of them begin beyond the middle, so that x1 + x2 is more than the width."""
        rng = np.random.default_rng(0)
        xy, sides = rng.uniform(0, (350, 250), (60, 2)), rng.uniform(10, 50, (60, 2))
        right = np.hstack([xy, sides]).tolist()
        assert len(drop_unusable_boxes(self.set_of(right), "labels.json")) == 12
        with pytest.raises(FacekitError, match=r"labels\.json: .*are they corners\? Write x, y, width, height"):
            drop_unusable_boxes(self.set_of(np.hstack([xy, xy + sides]).tolist()), "labels.json")
        with pytest.raises(FacekitError, match="are they corners"):  # one of sixty is a mistake of another kind
            drop_unusable_boxes(self.set_of([*np.hstack([xy, xy + sides]).tolist(), [5, 5, 3, 3]]), "labels.json")

    def test_large_faces_at_the_edge_are_none(self, caplog: pytest.LogCaptureFixture) -> None:
        assert drop_unusable_boxes(self.set_of([[20, 15, 398, 298]] * 20), "labels.json")
        assert drop_unusable_boxes(self.set_of([[100, 90, 350, 250]] * 9), "labels.json")  # few boxes prove nothing
        assert "20 boxes reach outside" in caplog.text


class TestPercentages:
    BOXES = ([5.5, 8.25, 3, 4], [30, 20.5, 6, 9], [60, 55, 12.5, 20], [80, 70, 20, 30])

    def read(self, boxes: Sequence[list[float]], size_wh: tuple[int, int], count: int = 3) -> list[PictureLabels]:
        return drop_unusable_boxes([labels(list(boxes), size_wh)] * count, "labels.json")

    def test_are_said(self, caplog: pytest.LogCaptureFixture) -> None:
        """A camera that stands still may have all its faces there."""
        assert [len(picture.boxes_xywh) for picture in self.read(self.BOXES, (640, 480))] == [4, 4, 4]
        assert "labels.json: all boxes lie in the first 100 pixels" in caplog.text
        assert "are they in per cent?" in caplog.text

    def test_pixels_are_not(self, caplog: pytest.LogCaptureFixture) -> None:
        assert self.read(self.BOXES, (150, 120))  # small pictures
        assert self.read(self.BOXES, (640, 480), count=2)
        assert self.read([*self.BOXES, [200.5, 50, 40, 40]], (640, 480))
        assert self.read(np.round(self.BOXES).tolist(), (640, 480))  # whole numbers may be anything
        assert self.read([[box[0] / 8, *box[1:]] for box in self.BOXES], (640, 480))  # all at the left edge
        pictures = [labels(list(self.BOXES), (640, 480))] * 3
        assert drop_unusable_boxes(pictures, "data.yaml", were_fractions=True)
        assert not caplog.text


class TestFarLandmarks:
    """In the box 180, 54, 93, 120."""

    POINTS = np.array([[203, 102], [245, 103], [222, 125], [204, 144], [240, 145]], np.float64)

    def read(self, tmp_path: Path, points: NDArray[np.float64]) -> NDArray[np.float64]:
        (tmp_path / "a.png").touch()
        picture = labels([[180, 54, 93, 120]], (512, 512), str(tmp_path / "a.png"))
        picture = dataclasses.replace(picture, landmarks_xy=points[None])
        [read] = finish_reading([picture], tmp_path / "x.json", tmp_path, lambda *_: "line 7", None)
        return read.landmarks_xy

    @pytest.mark.parametrize("points", [POINTS / 512, POINTS - (180, 54), POINTS - (0, -100)])
    def test_are_left_out_and_said(
        self, tmp_path: Path, points: NDArray[np.float64], caplog: pytest.LogCaptureFixture
    ) -> None:
        assert np.isnan(self.read(tmp_path, points)).all()
        assert "x.json: 1 face with landmarks far from the box" in caplog.text and "line 7" in caplog.text

    @pytest.mark.parametrize("points", [POINTS - (45, 0), POINTS - (75, 0)])  # as of a box that the border cuts
    def test_those_somewhat_outside_stay(
        self, tmp_path: Path, points: NDArray[np.float64], caplog: pytest.LogCaptureFixture
    ) -> None:
        assert (self.read(tmp_path, points)[0] == points).all() and not caplog.text


class TestPicturePath:
    @pytest.mark.parametrize("name", ["a.png", "sub/a.png", "./a.png", "..a.png", "sub\\a.png", "a b:c.png"])
    def test_inside(self, tmp_path: Path, name: str) -> None:
        assert picture_path(tmp_path, name, "here").resolve().is_relative_to(tmp_path.resolve())

    @pytest.mark.parametrize("name", ["..", "../a", "a/../../b", "/a", "\\a", "D:/a", "a/..\\..\\b", "//host/a"])
    def test_outside(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(FacekitError, match=r"here: file_name .* leaves the data root"):
            picture_path(tmp_path, name, "here")

    @given(st.lists(st.sampled_from(["..", ".", "a", "/", "\\", "C:", "b.png", "//"]), max_size=6))
    def test_never_leaves(self, parts: list[str]) -> None:
        root = Path("/data/root")
        try:
            path = picture_path(root, "".join(parts), "here")
        except FacekitError:
            return
        assert path.resolve().is_relative_to(root)


def test_few_missing_pictures_are_all_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    pictures = [labels([], name=str(tmp_path / name)) for name in ("a.png", "b.png")]
    with pytest.raises(FacekitError) as caught:
        check_pictures_exist(pictures, "here", lambda picture, face: f"line {picture}", "Bring it.")
    missing = tmp_path / "b.png"
    assert str(caught.value) == f"here: 1 of 2 pictures are not on the disk: {missing} (first: line 1). Bring it."


class TestListedOnce:
    def test_with_other_faces_is_refused(self) -> None:
        two = [labels([[1, 2, 3, 4]]), labels([[5, 6, 7, 8]])]
        with pytest.raises(FacekitError, match=r"a\.png: listed twice, with other faces, .*data check LABELS --fix"):
            check_listed_once(two, "labels.json")

    def test_with_the_same_faces_is_said(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.WARNING, "facekit"):
            check_listed_once([labels([[1, 2, 3, 4]])] * 1, "labels.json")
            assert not caplog.records
            check_listed_once([labels([[1, 2, 3, 4]]), labels([[1, 2, 3, 4]]), labels([], name="b.png")], "labels.json")
        [record] = caplog.records
        assert record.getMessage().startswith("labels.json: 1 pictures are listed again, with the same faces")
