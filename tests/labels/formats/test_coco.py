from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from facekit.errors import FacekitError
from facekit.labels.formats.coco import read_coco, to_coco
from facekit.labels.picture_labels import WIDER_ATTRIBUTES, PictureLabels, are_fractions

WIDTH, HEIGHT = 40, 30


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data root with a.png, b.png and sub/c.png."""
    (tmp_path / "sub").mkdir()
    for name in ("a.png", "b.png", "sub/c.png"):
        cv2.imwrite(str(tmp_path / name), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    return tmp_path


def image(number: Any = 1, name: Any = "a.png", **more: Any) -> dict[str, Any]:
    return {"id": number, "file_name": name, "width": WIDTH, "height": HEIGHT, **more}


def face(bbox: Any = (5, 6, 10, 12), image_id: Any = 1, **more: Any) -> dict[str, Any]:
    return {"id": 1, "image_id": image_id, "category_id": 1, "bbox": list(bbox), **more}


def write(root: Path, images: Any, annotations: Any, **more: Any) -> Path:
    path = root / "labels.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, **more}))
    return path


def read(root: Path, images: Any, annotations: Any, **more: Any) -> list[PictureLabels]:
    return read_coco(write(root, images, annotations, **more), root)


def complaint(root: Path, images: Any, annotations: Any, **more: Any) -> str:
    with pytest.raises(FacekitError) as caught:
        read(root, images, annotations, **more)
    assert str(root / "labels.json") in str(caught.value)
    return str(caught.value)


class TestEmpty:
    def test_no_images(self, root: Path) -> None:
        assert "'images' is empty" in complaint(root, [], [])

    def test_no_annotations(self, root: Path) -> None:
        [picture] = read(root, [image()], [])
        assert picture.path == root / "a.png"
        assert picture.boxes_xywh.shape == (0, 4)
        assert picture.boxes_xyxy.shape == (0, 4)
        assert picture.landmarks_xy.shape == (0, 5, 2)
        assert picture.is_crowd.shape == (0,)

    def test_to_coco(self) -> None:
        content = to_coco([])
        assert (content["images"], content["annotations"]) == ([], [])


class TestGood:
    def test_boxes_reach_their_picture(self, root: Path) -> None:
        images = [image(7, "b.png"), image("x", "a.png"), image(9, "sub/c.png")]
        annotations = [face((1, 2, 3, 4), 9), face((5, 6, 7, 8), 7), face((9, 10, 11, 12), 9, iscrowd=1)]
        b, a, c = read(root, images, annotations)
        assert [p.path for p in (b, a, c)] == [root / "b.png", root / "a.png", root / "sub" / "c.png"]
        assert b.boxes_xywh.tolist() == [[5, 6, 7, 8]]
        assert a.boxes_xywh.shape == (0, 4)
        assert c.boxes_xywh.tolist() == [[1, 2, 3, 4], [9, 10, 11, 12]]
        assert c.boxes_xyxy.tolist() == [[1, 2, 4, 6], [9, 10, 20, 22]]
        assert c.is_crowd.tolist() == [False, True]
        assert a.size_wh == (WIDTH, HEIGHT)

    @pytest.mark.parametrize("size", [{}, {"width": 0, "height": 0}, {"width": "forty", "height": 30}, {"width": 40}])
    def test_size_that_the_file_does_not_say(self, root: Path, size: dict[str, Any]) -> None:
        [picture] = read(root, [{"id": 1, "file_name": "a.png", **size}], [face((900, 900, 5, 5)), face((1, 1, 5, 5))])
        assert picture.size_wh is None
        assert picture.boxes_xywh.tolist() == [[1, 1, 5, 5]]  # the picture itself says that the other lies outside
        (root / "a.png").write_bytes(b"no picture")
        [picture] = read(root, [{"id": 1, "file_name": "a.png", **size}], [face((900, 900, 5, 5))])
        assert len(picture.boxes_xywh) == 1  # nothing says it

    def test_windows_path(self, root: Path) -> None:
        assert read(root, [image(name="sub\\c.png")], [])[0].path == root / "sub" / "c.png"

    def test_byte_order_mark(self, root: Path) -> None:
        path = write(root, [image()], [])
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
        assert len(read_coco(path, root)) == 1

    @given(
        st.lists(
            st.lists(
                st.tuples(
                    st.floats(0, WIDTH - 2),
                    st.floats(0, HEIGHT - 2),
                    st.floats(0.5, WIDTH),
                    st.floats(0.5, HEIGHT),
                    st.booleans(),
                ),
                max_size=4,
            ),
            min_size=1,
            max_size=2,
        )
    )
    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_round_trip(self, root: Path, faces: list[list[tuple[float, float, float, float, bool]]]) -> None:
        pictures = [
            PictureLabels(
                path=root / name,
                size_wh=(WIDTH, HEIGHT),
                boxes_xywh=np.array([row[:4] for row in rows], dtype=np.float64).reshape(-1, 4),
                landmarks_xy=np.full((len(rows), 5, 2), np.nan),
                is_crowd=np.array([row[4] for row in rows], dtype=bool),
            )
            for name, rows in zip(("a.png", "b.png"), faces, strict=False)
        ]
        assume(not are_fractions(pictures))
        content = to_coco(pictures)
        assert len({annotation["id"] for annotation in content["annotations"]}) == sum(map(len, faces))
        again = read(root, content["images"], content["annotations"], categories=content["categories"])
        for before, after in zip(pictures, again, strict=True):
            assert after.path == before.path
            assert after.size_wh == before.size_wh
            np.testing.assert_array_equal(after.boxes_xywh, before.boxes_xywh)
            np.testing.assert_array_equal(after.is_crowd, before.is_crowd)


class TestLandmarks:
    POINTS = ((6, 8), (13, 9), (10, 12), (7, 15), (12, 16))

    def keypoints(self, visibility: tuple[int, ...]) -> list[int]:
        return [n for point, v in zip(self.POINTS, visibility, strict=True) for n in (*point, v)]

    def test_none_is_nan(self, root: Path) -> None:
        [picture] = read(root, [image()], [face()])
        assert np.isnan(picture.landmarks_xy).all()

    @pytest.mark.parametrize("visibility", [(2, 2, 2, 2, 2), (1, 2, 1, 2, 1)])
    def test_all_five_labelled(self, root: Path, visibility: tuple[int, ...]) -> None:
        [picture] = read(root, [image()], [face(keypoints=self.keypoints(visibility))])
        np.testing.assert_array_equal(picture.landmarks_xy, [self.POINTS])

    @pytest.mark.parametrize("visibility", [(0, 0, 0, 0, 0), (2, 2, 0, 2, 2)])
    def test_one_unlabelled_makes_nan(self, root: Path, visibility: tuple[int, ...]) -> None:
        [picture] = read(root, [image()], [face(keypoints=self.keypoints(visibility))])
        assert np.isnan(picture.landmarks_xy).all()

    def test_each_face_keeps_its_own(self, root: Path) -> None:
        [picture] = read(root, [image()], [face(), face(keypoints=self.keypoints((2,) * 5)), face()])
        assert np.isnan(picture.landmarks_xy).all(axis=(1, 2)).tolist() == [True, False, True]


class TestAttributes:
    SIX: ClassVar = dict.fromkeys(WIDER_ATTRIBUTES, 1)

    def test_of_the_pictures_that_have_them(self, root: Path, caplog: pytest.LogCaptureFixture) -> None:
        images = [image(1, "a.png"), image(2, "b.png"), image(3, "sub/c.png")]
        annotations = [face(image_id=1, attributes=self.SIX), face(image_id=2)]
        with caplog.at_level(logging.WARNING, "facekit"):
            a, b, c = read(root, images, annotations)
        assert a.attributes is not None and a.attributes.tolist() == [[1] * 6]
        assert b.attributes is None
        assert c.attributes is not None and c.attributes.shape == (0, 6)
        assert not caplog.records

    def test_of_some_faces_of_a_picture(self, root: Path, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.WARNING, "facekit"):
            [picture] = read(root, [image()], [face(attributes=self.SIX), face(attributes={"blur": 1})])
        assert picture.attributes is None
        assert f"{root / 'labels.json'}: 1 attributes aren't read" in caplog.text

    @pytest.mark.parametrize("attributes", [None, [], "x", {}, SIX | {"pose": 3}, SIX | {"pose": True}])
    def test_others(self, root: Path, attributes: Any) -> None:
        [picture] = read(root, [image()], [face(attributes=attributes)])
        assert picture.attributes is None


class TestFile:
    def test_missing(self, root: Path) -> None:
        with pytest.raises(FacekitError, match=r"none\.json: there is no such file\. Check the path"):
            read_coco(root / "none.json", root)

    def test_folder(self, root: Path) -> None:
        with pytest.raises(FacekitError, match=r"a folder without COCO files; looked for annotations/\*\.json"):
            read_coco(root, root)

    @pytest.mark.parametrize("twice", ["annotations", "width"])
    def test_keys_that_stand_twice(self, root: Path, twice: str) -> None:
        path = write(root, [image()], [face()])
        path.write_text(path.read_text().replace(f'"{twice}"', f'"{twice}": [],\n"{twice}"', 1))
        with pytest.raises(
            FacekitError, match=rf"labels\.json:2: the key '{twice}' has two values in a mapping; keep one"
        ):
            read_coco(path, root)

    def test_keys_that_say_the_same_twice(self, root: Path) -> None:
        path = write(root, [image()], [face()])
        path.write_text(
            path.read_text().replace('"images"', '"info": {"year": 2024},\n"info": {"year": 2024}, "images"')
        )
        assert len(read_coco(path, root)) == 1

    def test_invalid_json_names_the_line(self, root: Path) -> None:
        path = root / "labels.json"
        path.write_text('{"images": [],\n "annotations": [\n  {"id": 1,}\n]}')
        with pytest.raises(FacekitError, match=rf"{path}:3: not valid JSON .*COCO"):
            read_coco(path, root)

    @pytest.mark.parametrize("data", [b"", b"\xff\xd8\xff\xe0", b"[" * 100_000, b"1" * 5000])
    def test_no_json(self, root: Path, data: bytes) -> None:
        path = root / "labels.json"
        path.write_bytes(data)
        with pytest.raises(FacekitError, match=f"{path}.*COCO"):
            read_coco(path, root)

    @pytest.mark.parametrize(
        "content",
        [[], 3, {}, {"images": []}, {"annotations": []}, {"images": {}, "annotations": []}, {"images": 1}],
    )
    def test_lists_missing(self, root: Path, content: Any) -> None:
        path = root / "labels.json"
        path.write_text(json.dumps(content))
        with pytest.raises(FacekitError, match="lists 'images' and 'annotations'"):
            read_coco(path, root)

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
            lambda inner: (
                st.lists(inner, max_size=4)
                | st.dictionaries(st.sampled_from(["id", "file_name", "image_id", "bbox", "name"]), inner, max_size=4)
            ),
            max_leaves=8,
        ),
        st.sampled_from(["images", "annotations", "categories", "image", "annotation", "bbox", "width"]),
    )
    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_whatever_stands_anywhere_is_read_or_refused(self, root: Path, value: Any, place: str) -> None:
        content: dict[str, Any] = {"images": [image()], "annotations": [face()]}
        if place == "image":
            content["images"].append(value)
        elif place == "annotation":
            content["annotations"].append(value)
        elif place == "bbox":
            content["annotations"][0]["bbox"] = value
        elif place == "width":
            content["images"][0]["width"] = value
        else:
            content[place] = value
        try:
            read(root, **content)
        except FacekitError as error:
            assert str(root / "labels.json") in str(error)


class TestImages:
    @pytest.mark.parametrize("bad", [3, {}, {"id": 1}, {"id": 1, "file_name": 5}])
    def test_no_file_name(self, root: Path, bad: Any) -> None:
        assert "images[1]: expected a mapping with id and file_name" in complaint(root, [image(), bad], [])

    @pytest.mark.parametrize("number", [None, 1.5, [1]])
    def test_id(self, root: Path, number: Any) -> None:
        assert "images[0]: id must be a number or text" in complaint(root, [image(number)], [])

    def test_doubled_id(self, root: Path) -> None:
        assert "images[1]: id 1 is given twice" in complaint(root, [image(), image(1, "b.png")], [])

    def test_missing_pictures_are_counted(self, root: Path) -> None:
        images = [image(0)] + [image(i, f"gone{i}.png") for i in range(1, 6)]
        text = complaint(root, images, [])
        assert "5 of 6 pictures are not on the disk" in text
        assert f"{root / 'gone1.png'}, {root / 'gone2.png'}, {root / 'gone3.png'} and 2 more" in text
        assert f"data root (now {root})" in text

    @pytest.mark.parametrize("name", ["../x.png", "sub/../../x.png", "/etc/passwd", "..\\x.png", "C:\\x.png"])
    def test_file_name_that_leaves_the_root(self, root: Path, name: str) -> None:
        text = complaint(root, [image(), image("far", name)], [])
        assert "image 'far'" in text
        assert "leaves the data root" in text
        assert "relative" in text


class TestAnnotations:
    @pytest.mark.parametrize("bad", [3, {}, {"image_id": 1}, {"bbox": [1, 2, 3, 4]}])
    def test_keys(self, root: Path, bad: Any) -> None:
        assert "annotations[1]: expected a mapping with image_id and bbox" in complaint(root, [image()], [face(), bad])

    @pytest.mark.parametrize(
        "bbox",
        ["text", [1, 2, 3], [1, 2, 3, 4, 5], [1, 2, 3, "4x"], [1, 2, 3, math.nan], [math.inf, 1, 2, 3], None, [],
         [1, 2, 3, 10**400], {"x": 1}],
    )  # fmt: skip
    def test_bbox(self, root: Path, bbox: Any) -> None:
        annotation = face()
        annotation["bbox"] = bbox
        text = complaint(root, [image()], [face(), annotation])
        assert "annotations[1].bbox: expected 4 finite numbers, got" in text
        assert len(text) < 400

    @pytest.mark.parametrize("image_id", [2, "2", None, [1], 1.5])
    def test_names_no_picture(self, root: Path, image_id: Any) -> None:
        text = complaint(root, [image()], [face(), face(image_id=image_id), face(image_id=77)])
        assert "2 annotations name no picture of this file" in text
        assert f"annotations[1] with image_id {image_id!r}" in text
        assert "take them out" in text


class TestCategories:
    def test_single_one_is_read_whatever_its_name(self, root: Path) -> None:
        [picture] = read(root, [image()], [face()], categories=[{"id": 3, "name": "head"}])
        assert len(picture.boxes_xywh) == 1

    def test_only_face_of_several(self, root: Path, caplog: pytest.LogCaptureFixture) -> None:
        categories = [{"id": 1, "name": "car"}, {"id": 2, "name": "Face"}]
        annotations = [face((1, 1, 5, 5), category_id=1), face((2, 2, 6, 6), category_id=2)]
        with caplog.at_level(logging.WARNING, "facekit"):
            [picture] = read(root, [image()], annotations, categories=categories)
        assert picture.boxes_xywh.tolist() == [[2, 2, 6, 6]]
        assert str(root / "labels.json") in caplog.text
        assert "left alone: car" in caplog.text

    def test_several_without_face(self, root: Path) -> None:
        categories = [{"id": 1, "name": "car"}, {"id": 2, "name": "dog"}]
        text = complaint(root, [image()], [face()], categories=categories)
        assert "none named 'face': car, dog" in text
        assert "Rename" in text

    @pytest.mark.parametrize("categories", [["face", "car"], [1, 2], "face", {"1": "face", "2": "car"}])
    def test_malformed(self, root: Path, categories: Any) -> None:
        assert "categories" in complaint(root, [image()], [face()], categories=categories)


class TestUnusableBoxes:
    def warned(self, root: Path, caplog: pytest.LogCaptureFixture, *boxes: tuple[float, ...]) -> PictureLabels:
        with caplog.at_level(logging.WARNING, "facekit"):
            [picture] = read(root, [image()], [face(box) for box in boxes])
        return picture

    @pytest.mark.parametrize("box", [(5, 5, 0, 5), (5, 5, 5, 0), (5, 5, -3, 4), (5, 5, 0, 0)])
    def test_no_area(self, root: Path, caplog: pytest.LogCaptureFixture, box: tuple[float, ...]) -> None:
        picture = self.warned(root, caplog, (1, 1, 9, 9), box)
        assert picture.boxes_xywh.tolist() == [[1, 1, 9, 9]]
        assert picture.landmarks_xy.shape == (1, 5, 2)
        assert f"{root / 'labels.json'}: 1 boxes have no area: left out" in caplog.text
        assert "a.png: x, y, w, h = [5.0" in caplog.text

    @pytest.mark.parametrize("box", [(WIDTH, 5, 5, 5), (5, HEIGHT, 5, 5), (-9, 5, 9, 5), (500, 500, 5, 5)])
    def test_wholly_outside(self, root: Path, caplog: pytest.LogCaptureFixture, box: tuple[float, ...]) -> None:
        picture = self.warned(root, caplog, box, (1, 1, 9, 9), box)
        assert picture.boxes_xywh.tolist() == [[1, 1, 9, 9]]
        assert "2 boxes lie wholly outside their picture: left out (first: a.png" in caplog.text

    @pytest.mark.parametrize("box", [(-5, 5, 9, 9), (5, -5, 9, 9), (35, 5, 9, 9), (5, 25, 9, 9)])
    def test_partly_outside_stays(self, root: Path, caplog: pytest.LogCaptureFixture, box: tuple[float, ...]) -> None:
        picture = self.warned(root, caplog, box)
        assert picture.boxes_xywh.tolist() == [list(box)]
        assert "1 boxes reach outside their picture: clipped" in caplog.text

    @pytest.mark.parametrize("box", [(0, 0, WIDTH, HEIGHT), (-1, -1, WIDTH + 2, HEIGHT + 2)])
    def test_a_pixel_over_the_edge_is_nothing(
        self, root: Path, caplog: pytest.LogCaptureFixture, box: tuple[float, ...]
    ) -> None:
        assert len(self.warned(root, caplog, box).boxes_xywh) == 1
        assert not caplog.records
