"""Files as CVAT, labelme, Label Studio, Roboflow, labelImg and Ultralytics write them, read as they were meant."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facekit.errors import FacekitError
from facekit.labels.formats import json_file, read_labels, recognise, text_lines
from facekit.labels.picture_labels import PictureLabels
from tests.labels.formats.support import boxes, coco, complaint, keypoints, picture, write

SIDE = 512
BOX = [180, 54, 93, 120]
POINTS = [[207, 95], [246, 95], [227, 118], [211, 142], [242, 142]]


class TestCocoByValue:
    def test_crowds_of_cvat_masks(self, root: Path) -> None:
        mask = {"segmentation": {"counts": [5, 9], "size": [SIDE, SIDE]}, "iscrowd": 1}
        [labels] = read_labels(coco(root, mask, mask | {"iscrowd": "1"}, mask | {"iscrowd": "0"}, {"iscrowd": True}))
        assert labels.is_crowd.tolist() == [True, True, False, True]

    @pytest.mark.parametrize(
        "face",
        [
            {"ignore": 1},
            {"attributes": {"difficult": True}},
            {"attributes": {"Is_Crowd": "true", "blur": 0}},
            {"isCrowd": 1},
            {"attributes": [{"name": "ignore", "value": "true"}]},
        ],
    )
    def test_other_flags_of_faces_to_ignore(self, root: Path, face: dict[str, Any]) -> None:
        assert read_labels(coco(root, face))[0].is_crowd.tolist() == [True]

    @pytest.mark.parametrize("flag", ["maybe", 7, [1], {}])
    def test_flags_that_are_none(self, root: Path, flag: Any) -> None:
        assert "annotations[0].iscrowd: expected 0 or 1, got" in complaint(coco(root, {"iscrowd": flag}))
        assert "annotations[0].ignore: expected 0" in complaint(coco(root, {"ignore": flag}))

    @pytest.mark.parametrize(("category", "image"), [("0", 0), (0.0, "0"), ("0.0", 0.0), (False, False)])
    def test_ids(self, root: Path, category: Any, image: Any, said: pytest.LogCaptureFixture) -> None:
        two = [{"id": 0, "name": "face"}, {"id": 1, "name": "car"}]
        source = coco(root, {"category_id": category, "image_id": image}, {"category_id": 1}, categories=two)
        assert boxes(read_labels(source)) == [BOX]
        assert ("read by value" in said.text) == (isinstance(category, str) or isinstance(image, str))

    def test_several_categories_that_are_faces(self, root: Path) -> None:
        three = [{"id": 3, "name": "face"}, {"id": 4, "name": "Face"}, {"id": 5, "name": "faces"}]
        source = coco(root, *({"category_id": n} for n in (3, 4, 5)), categories=three)
        assert len(boxes(read_labels(source))) == 2

    def test_no_annotation_of_the_category_is_said(self, root: Path, said: pytest.LogCaptureFixture) -> None:
        two = [{"id": 1, "name": "face"}, {"id": 2, "name": "car"}]
        assert boxes(read_labels(coco(root, {"category_id": 0}, {"category_id": 9}, categories=two))) == []
        assert "no annotation is of the category 'face'" in said.text and "0 (1), 9 (1)" in said.text

    def test_annotations_of_unlisted_categories_are_counted(self, root: Path, said: pytest.LogCaptureFixture) -> None:
        two = [{"id": 1, "name": "face"}, {"id": 2, "name": "car"}]
        source = coco(root, {"category_id": 1}, {"category_id": 5}, {"category_id": 2}, categories=two)
        assert boxes(read_labels(source)) == [BOX]
        assert "1 annotations are left out: 'categories' doesn't list their category_id: 5 (1)." in said.text

    def test_numbers_that_are_texts(self, root: Path, said: pytest.LogCaptureFixture) -> None:
        images = [{"id": "7", "file_name": "a.jpg", "width": "512", "height": 512.0}]
        [labels] = read_labels(coco(root, {"image_id": 7, "bbox": ["180", "54", 93, "120.0"]}, images=images))
        assert (labels.size_wh, labels.boxes_xywh.tolist()) == ((512, 512), [BOX])
        assert "1 bboxes hold texts for numbers" in said.text

    def test_a_polygon_without_a_bbox(self, root: Path) -> None:
        corners = [180, 54, 273, 100, 250, 174, 190, 160]
        source = coco(root, {"bbox": [], "segmentation": [corners]})
        assert boxes(read_labels(source)) == [BOX]


class TestCocoPoints:
    ORDER = ("nose", "left_eye", "right_eye", "left_mouth", "right_mouth")

    def read(self, root: Path, points: Any, names: Any = None, count: int = 1) -> np.ndarray[Any, Any]:
        category = {"id": 0, "name": "face"} | ({} if names is None else {"keypoints": names})
        [labels] = read_labels(coco(root, *[{"keypoints": points}] * count, categories=[category]))
        assert labels.boxes_xywh.tolist() == [BOX] * count
        return labels.landmarks_xy

    def test_mapped_by_name(self, root: Path, said: pytest.LogCaptureFixture) -> None:
        nose_first = [POINTS[i] for i in (2, 0, 1, 3, 4)]
        assert self.read(root, keypoints(nose_first), list(self.ORDER)).tolist() == [POINTS]
        spelt = ["Nose Tip", "leftEye", "rightEye", "mouth_left", "mouth_right"]
        assert self.read(root, keypoints(nose_first), spelt).tolist() == [POINTS]
        assert not said.records

    def test_five_among_more(self, root: Path) -> None:
        names = ["chin", *self.ORDER]
        points = [[227, 170], *(POINTS[i] for i in (2, 0, 1, 3, 4))]
        assert self.read(root, keypoints(points), names).tolist() == [POINTS]

    def test_the_persons_own_left(self, root: Path, said: pytest.LogCaptureFixture) -> None:
        names = ["left_eye", "right_eye", "nose", "left_mouth", "right_mouth"]
        own = [POINTS[i] for i in (1, 0, 2, 4, 3)]
        assert self.read(root, keypoints(own), names).tolist() == [POINTS]
        assert "person's own, and exchanged" in said.text

    def test_what_we_wrote_stays(self, root: Path) -> None:
        own = [POINTS[i] for i in (1, 0, 2, 4, 3)]
        names = ["left_eye", "right_eye", "nose", "left_mouth", "right_mouth"]
        source = coco(
            root, {"keypoints": keypoints(own)}, categories=[{"id": 0, "keypoints": names}],
            info={"left_and_right": "as seen in the picture"},
        )  # fmt: skip
        assert read_labels(source)[0].landmarks_xy.tolist() == [own]

    @pytest.mark.parametrize(
        "names", [["eye1", "eye2", "nose", "m1", "ear1"], ["nose", "left_eye", "right_eye", "a", "b"]]
    )
    def test_names_of_other_points(self, root: Path, names: list[str], said: pytest.LogCaptureFixture) -> None:
        assert np.isnan(self.read(root, keypoints(POINTS), names, count=3)).all()
        assert "3 faces are read without landmarks: with names other than" in said.text

    @pytest.mark.parametrize(
        ("names", "why"),
        [
            (["1", "2", "3", "4", "5"], ""), (5, ""), ("eyes, nose, mouth", "are no list of names"),
            ({"0": "nose"}, "are no list of names"), (["eye1", "eye2", "nose", "m1", "m2"], "aren't known"),
        ],
    )  # fmt: skip
    def test_names_that_say_nothing(self, root: Path, names: Any, why: str, said: pytest.LogCaptureFixture) -> None:
        assert self.read(root, keypoints(POINTS), names).tolist() == [POINTS]
        assert ("the points are read as left_eye, right_eye, nose" in said.text) == bool(why) and why in said.text

    @pytest.mark.parametrize(
        ("points", "reason"),
        [([1, 2, 2] * 17, "17 points a face, not 5"), ([1, 2, 2] * 68, "68 points a face, not 5"),
         ("five", "keypoints that are no x, y, v of 5"), ([1] * 14, "keypoints that are no x, y, v of 5"),
         ([float("nan")] * 15, "no finite numbers"), ([1e300] * 15, "no finite numbers"),
         ({"x": 1}, "keypoints that are no x, y, v"),
         ([None] * 15, "no finite numbers")],
    )  # fmt: skip
    def test_left_out_and_counted(self, root: Path, points: Any, reason: str, said: pytest.LogCaptureFixture) -> None:
        assert np.isnan(self.read(root, points, count=2)).all()
        [record] = said.records
        assert f"2 faces are read without landmarks: {reason}" in record.message

    @pytest.mark.parametrize("points", [[], None])
    def test_none_at_all_is_nothing_to_say(self, root: Path, points: Any, said: pytest.LogCaptureFixture) -> None:
        assert np.isnan(self.read(root, points)).all()
        assert not said.records

    def test_pairs_without_visibility(self, root: Path) -> None:
        assert self.read(root, [value for point in POINTS for value in point]).tolist() == [POINTS]
        assert np.isnan(self.read(root, [0] * 10)).all()

    def test_an_order_that_nobody_names(self, root: Path, said: pytest.LogCaptureFixture) -> None:
        self.read(root, keypoints([POINTS[i] for i in (2, 0, 1, 3, 4)]))
        assert "contradict each other: is their order left_eye, right_eye, nose" in said.text


class TestCocoLayouts:
    def test_cvat(self, root: Path) -> None:
        picture(root / "images/default/a.jpg")
        file = coco(root, {}, name="annotations/instances_default.json")
        for source in (root, file):
            assert recognise(source) == "coco"
            [labels] = read_labels(source)
            assert labels.path == root / "images/default/a.jpg"

    def test_roboflow(self, tmp_path: Path) -> None:
        for part in ("train", "valid"):
            picture(tmp_path / part / "a.jpg")
            coco(tmp_path, {}, name=f"{part}/_annotations.coco.json")
        assert len(read_labels(tmp_path)) == 2
        assert read_labels(tmp_path / "train")[0].path == tmp_path / "train/a.jpg"
        assert read_labels(Path(f"{tmp_path}:val"))[0].path == tmp_path / "valid/a.jpg"
        assert [each.name for each in read_labels(tmp_path, tmp_path)] == ["train/a.jpg", "valid/a.jpg"]
        assert "a folder without COCO files of 'test'" in complaint(Path(f"{tmp_path}:test"))

    def test_yolo_beside_annotations_stays_yolo(self, root: Path) -> None:
        picture(root / "images/a.jpg")
        write(root / "labels/a.txt", "0 0.5 0.5 0.2 0.2\n")
        coco(root, {}, name="annotations/instances_default.json")
        assert recognise(root) == "yolo"

    def test_pictures_are_nowhere(self, tmp_path: Path) -> None:
        text = complaint(coco(tmp_path, {}, name="annotations/instances_default.json"))
        assert "1 of 1 pictures are not on the disk" in text
        assert "--data-root" in text and f"looked in {tmp_path / 'annotations'}, {tmp_path}" in text


POLYGON = (
    "0 0.442383 0.105469 0.513389 0.149591 0.530926 0.248733 0.481788 0.328239 0.402977 0.328239 0.353840 0.248733 "
    "0.371377 0.149591"
)
FACE = [0.4424, 0.2227, 0.1816, 0.2344]
MARKS = [0.404, 0.186, 0.48, 0.186, 0.443, 0.23, 0.412, 0.277, 0.473, 0.277]


class TestYolo:
    def read(self, root: Path, *lines: Any, yaml: str = "train: images\n") -> PictureLabels:
        picture(root / "images/a.jpg")
        rows = [line if isinstance(line, str) else " ".join(map(str, (0, *line))) for line in lines]
        write(root / "labels/a.txt", "\n".join(rows))
        [labels] = read_labels(write(root / "data.yaml", yaml))
        return labels

    def test_a_polygon_of_seven_points_is_no_face_with_landmarks(
        self, tmp_path: Path, said: pytest.LogCaptureFixture
    ) -> None:
        labels = self.read(tmp_path, POLYGON, POLYGON)
        assert np.allclose(labels.boxes_xywh, [[181.17, 54, 90.67, 114.06]] * 2, atol=0.01)
        assert np.isnan(labels.landmarks_xy).all()
        [record] = said.records
        assert "2 lines are polygons, of which the boxes around them are read" in record.message

    @pytest.mark.parametrize("shift", [(0.0, 0.0), (-0.35, -0.1), (0.3, 0.5)])
    @pytest.mark.parametrize("scale", [1.0, 0.2])
    @pytest.mark.parametrize("corners", [3, 4, 7, 8, 10, 15, 40])
    def test_polygons_anywhere(self, tmp_path: Path, corners: int, shift: Any, scale: float) -> None:
        angles = np.linspace(0, 2 * np.pi, corners, endpoint=False)
        xy = np.stack([0.44 + scale * 0.09 * np.sin(angles), 0.22 - scale * 0.11 * np.cos(angles)], axis=1) + shift
        low, high = xy.min(axis=0), xy.max(axis=0)
        [box] = self.read(tmp_path, xy.ravel().round(6).tolist()).boxes_xywh
        assert np.allclose(box, SIDE * np.concatenate([low, high - low]), atol=0.01)

    @pytest.mark.parametrize("more", [[], [0.87]])
    def test_landmarks_stay_landmarks(self, tmp_path: Path, more: list[float]) -> None:
        labels = self.read(tmp_path, [*FACE, *MARKS, *more], [*FACE, *[-1] * 10, *more])
        assert np.allclose(labels.landmarks_xy[0].ravel(), np.array(MARKS) * SIDE)
        assert np.isnan(labels.landmarks_xy[1]).all()
        posed = [value for x, y in zip(MARKS[::2], MARKS[1::2], strict=True) for value in (x, y, 2)]
        labels = self.read(tmp_path, [*FACE, *posed, *more])
        assert np.allclose(labels.landmarks_xy[0].ravel(), np.array(MARKS) * SIDE)

    @pytest.mark.parametrize("side", [0.01, 0.03, 0.06, 0.1, 0.15, 0.2, 0.3, 0.45])
    @pytest.mark.parametrize("centre", [(0.5, 0.5), (0.77, 0.6), (0.25, 0.8), (0.25, 0.3), (0.9, 0.12)])
    def test_landmarks_of_any_size_anywhere(self, tmp_path: Path, side: float, centre: tuple[float, float]) -> None:
        """Ten numbers behind a box could be the corners of a polygon that begins with the box."""
        at = np.array(centre)
        points = (np.array(MARKS).reshape(5, 2) - FACE[:2]) * side / FACE[3] + at
        labels = self.read(tmp_path, [*at, 0.8 * side, side, *points.ravel().round(6)])
        assert np.allclose(labels.boxes_xywh[0], SIDE * np.array([*(at - [0.4 * side, side / 2]), 0.8 * side, side]))
        assert np.allclose(labels.landmarks_xy[0], SIDE * points, atol=0.01)

    def test_a_large_profile_is_no_polygon(self, tmp_path: Path) -> None:
        profile = [0.617, 0.424, 0.46, 0.69, 0.537, 0.317, 0.613, 0.307, 0.461, 0.458, 0.535, 0.608, 0.583, 0.615]
        labels = self.read(tmp_path, profile)
        assert np.allclose(labels.landmarks_xy[0].ravel(), np.array(profile[4:]) * SIDE)

    def test_contours_of_many_lengths(self, tmp_path: Path, said: pytest.LogCaptureFixture) -> None:
        """Such as findContours gives: wavy, and some with as many corners as a face has points and two."""
        rng = np.random.default_rng(3)
        lines = []
        for corners in (7, 9, 12, 19, 23, 31, 33, 40, 70, 7, 19, 8):
            angles = np.linspace(0, 2 * np.pi, corners, endpoint=False)
            radius = 0.06 * (1 + 0.1 * rng.standard_normal(corners))
            middle = rng.uniform(0.1, 0.9, 2)
            lines.append((middle + radius[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)).round(5))
        labels = self.read(tmp_path, *(line.ravel().tolist() for line in lines))
        expected = [[*line.min(axis=0), *np.ptp(line, axis=0)] for line in lines]
        assert np.allclose(labels.boxes_xywh, SIDE * np.array(expected), atol=0.01)
        [record] = said.records
        assert "12 lines are polygons" in record.message

    def test_landmarks_in_another_order_are_no_polygon(self, tmp_path: Path, said: pytest.LogCaptureFixture) -> None:
        nose_first = [MARKS[i] for i in (4, 5, 0, 1, 2, 3, 6, 7, 8, 9)]
        labels = self.read(tmp_path, [*FACE, *nose_first])
        assert np.allclose(labels.boxes_xywh[0], [180, 54, 93, 120], atol=0.5)
        assert "contradict each other" in said.text

    def test_one_face_whose_landmarks_lie_elsewhere(self, tmp_path: Path, said: pytest.LogCaptureFixture) -> None:
        labels = self.read(tmp_path, [*FACE, *MARKS], [*FACE, *MARKS], [0.9, 0.9, 0.1, 0.1, *MARKS])
        assert np.allclose(labels.boxes_xywh[2], [435.2, 435.2, 51.2, 51.2])
        assert np.isnan(labels.landmarks_xy[2]).all() and np.isfinite(labels.landmarks_xy[:2]).all()
        assert "1 lines have landmarks far from their box" in said.text

    @pytest.mark.parametrize("sixth", ["0.93", "1", "0", "17"])
    def test_a_sixth_column_is_read_over(self, tmp_path: Path, sixth: str, said: pytest.LogCaptureFixture) -> None:
        labels = self.read(tmp_path, f"0 {' '.join(map(str, FACE))} {sixth}")
        assert np.allclose(labels.boxes_xywh[0], [180, 54, 93, 120], atol=0.5)
        assert "1 lines end with a confidence or a track's number" in said.text

    @pytest.mark.parametrize(("count", "each"), [(17, 3), (17, 2), (68, 2), (68, 3)])
    @pytest.mark.parametrize("yaml", ["train: images\n", "train: images\nkpt_shape: [{}, {}]\n"])
    def test_other_points(
        self, tmp_path: Path, count: int, each: int, yaml: str, said: pytest.LogCaptureFixture
    ) -> None:
        rng = np.random.default_rng(0)
        points = np.array(FACE[:2]) + (rng.random((count, 2)) - 0.5) * FACE[2:]
        values = np.concatenate([points, np.full((count, each - 2), 2)], axis=1).round(4).ravel().tolist()
        labels = self.read(tmp_path, [*FACE, *values], yaml=yaml.format(count, each))
        assert np.allclose(labels.boxes_xywh[0], [180, 54, 93, 120], atol=0.5)
        assert np.isnan(labels.landmarks_xy).all()
        assert f"1 lines have {count} points, not the five landmarks" in said.text

    def test_kpt_shape_decides(self, tmp_path: Path) -> None:
        """A box, whose landmarks then lie far from it."""
        labels = self.read(tmp_path, POLYGON, yaml="train: images\nkpt_shape: [5, 2]\n")
        assert np.allclose(labels.boxes_xywh[0, 2:], np.multiply(SIDE, (0.513389, 0.149591)), atol=1e-3)

    @pytest.mark.parametrize("shape", ["[5, 3]", "[17, 2]"])
    def test_other_columns_than_kpt_shape_says(self, tmp_path: Path, shape: str) -> None:
        with pytest.raises(FacekitError, match=r"a\.txt:1: expected .*kpt_shape: (5|17) points of [32]"):
            self.read(tmp_path, [*FACE, *MARKS], yaml=f"train: images\nkpt_shape: {shape}\n")

    @pytest.mark.parametrize("line", ["0 0.1 0.2 0.3", "0 0.1 0.2 0.3 0.4 0.5 0.6 7", "0 0.1 0.2 0.3 0.4 -1 0.5",
                                      "0 " + "0.1 " * 4000])  # fmt: skip
    def test_what_nothing_explains(self, tmp_path: Path, line: str) -> None:
        with pytest.raises(FacekitError, match=r"a\.txt:1: expected class cx cy w h"):
            self.read(tmp_path, line)

    def test_a_split_that_nobody_asked_for(self, tmp_path: Path, said: pytest.LogCaptureFixture) -> None:
        picture(tmp_path / "train/images/a.jpg")
        write(tmp_path / "train/labels/a.txt", "0 0.5 0.5 0.2 0.2\n")
        yaml = write(
            tmp_path / "data.yaml",
            "train: ../train/images\nval: ../valid/images\ntest: ../test/images\nnc: 1\nnames: ['face']\n",
        )
        assert len(read_labels(yaml)) == len(read_labels(tmp_path)) == 1
        assert said.text.count("test is not there") == 2
        assert "test/images" in complaint(Path(f"{yaml}:test"))
        yaml.write_text("train: ../nowhere/images\nval: ../train/images\n")
        assert "nowhere" in complaint(yaml)


OBJECT = (
    "<object><name>face</name><difficult>{}</difficult><bndbox><xmin>180</xmin><ymin>54</ymin><xmax>273</xmax>"
    "<ymax>174</ymax></bndbox></object>"
)


def voc(path: Path, name: str, difficult: str = "0", folder: str = "") -> Path:
    size = f"<size><width>{SIDE}</width><height>{SIDE}</height><depth>3</depth></size>"
    head = f"<folder>{folder}</folder><filename>{name}</filename><path>/home/me/{name}</path>"
    return write(path, f"<annotation>{head}{size}{OBJECT.format(difficult)}</annotation>")


class TestVoc:
    def test_roboflow(self, tmp_path: Path) -> None:
        for part in ("train", "valid", "test"):
            picture(tmp_path / part / "a_jpg.rf.1.jpg")
            voc(tmp_path / part / "a_jpg.rf.1.xml", "a_jpg.rf.1.jpg")
        assert recognise(tmp_path) == "voc-beside"
        assert [labels.name for labels in read_labels(tmp_path)] == [
            f"{part}/a_jpg.rf.1.jpg" for part in ("test", "train", "valid")
        ]
        assert boxes(read_labels(Path(f"{tmp_path}:val"))) == [BOX]
        assert boxes(read_labels(tmp_path / "train")) == [BOX]

    def test_label_img(self, root: Path, said: pytest.LogCaptureFixture) -> None:
        picture(root / "b.PNG")
        xml = voc(root / "a.xml", "renamed.jpg", folder="pictures")
        for source in (root, xml):
            [labels] = read_labels(source)
            assert labels.path == root / "a.jpg"
        assert said.text.count("1 pictures without an XML file: not in the set") == 1

    def test_a_folder_of_xmls_beside_one_of_pictures(self, tmp_path: Path) -> None:
        picture(tmp_path / "images/sub/a.jpg")
        voc(tmp_path / "annotations/x.xml", "a.jpg", folder="sub")
        for source in (tmp_path, tmp_path / "annotations"):
            assert read_labels(source)[0].path == tmp_path / "images/sub/a.jpg"
        assert read_labels(tmp_path / "annotations", tmp_path / "images")[0].name == "sub/a.jpg"

    def test_cvat_with_folders(self, tmp_path: Path) -> None:
        for name in ("s/a b", "t/c"):
            picture(tmp_path / f"JPEGImages/{name}.jpg")
            voc(tmp_path / f"Annotations/{name}.xml", f"{name}.jpg")
        names = write(tmp_path / "ImageSets/Main/default.txt", '"s/a b"\nt/c\n')
        for source in (tmp_path, names):
            assert recognise(source) == "voc"
            assert [labels.name for labels in read_labels(source)] == ["s/a b.jpg", "t/c.jpg"]

    @pytest.mark.parametrize(("flag", "is_crowd"), [
        ("1", True), ("true", True), (" 1 ", True), ("0", False), ("", False), ("False", False),
    ])  # fmt: skip
    def test_difficult(self, root: Path, flag: str, is_crowd: bool) -> None:
        voc(root / "a.xml", "a.jpg", flag)
        assert read_labels(root)[0].is_crowd.tolist() == [is_crowd]

    def test_difficult_that_is_no_flag(self, root: Path) -> None:
        xml = voc(root / "a.xml", "a.jpg", "perhaps")
        assert complaint(root).startswith(f"{xml}:1: expected <difficult> 0 or 1, got 'perhaps'")


class TestWhatIsNoLabelFile:
    @pytest.mark.parametrize(
        ("encoding", "mark", "name"),
        [("utf-16", "", "UTF-16"), ("utf-16-le", "", "UTF-16"), ("utf-16-be", "", "UTF-16"), ("utf-32", "", "UTF-32"),
         ("utf-32-be", "\ufeff", "UTF-32"), ("utf-32-le", "", "UTF-32")],
    )  # fmt: skip
    @pytest.mark.parametrize("text", ['{"images": [], "annotations": []}', "a.jpg\n1\n1 2 3 4 0 0 0 0 0 0\n",
                                      "<annotation/>", "# a.jpg 9 9\n"])  # fmt: skip
    def test_wide_characters_are_named(self, tmp_path: Path, encoding: str, mark: str, name: str, text: str) -> None:
        path = tmp_path / "labels.txt"
        path.write_bytes((mark + text).encode(encoding))
        assert complaint(path) == f"{path}: expected UTF-8 text, got {name} text. Save it as UTF-8."

    @pytest.mark.parametrize("place", ["labels/a.txt", "data.yaml", "train.txt"])
    def test_wide_characters_within_a_set(self, tmp_path: Path, place: str) -> None:
        picture(tmp_path / "images/a.jpg")
        write(tmp_path / "labels/a.txt", "0 0.5 0.5 0.2 0.2\n")
        write(tmp_path / "train.txt", "./images/a.jpg\n")
        write(tmp_path / "data.yaml", "train: train.txt\n")
        path = tmp_path / place
        path.write_bytes(path.read_text().encode("utf-16"))
        assert complaint(tmp_path / "data.yaml") == f"{path}: expected UTF-8 text, got UTF-16 text. Save it as UTF-8."

    @pytest.mark.parametrize(
        ("data", "name"),
        [(b"PK\x03\x04rest", "a ZIP archive"), (b"\x1f\x8bx", "a gzip archive"),
         (b"\xff\xd8\xff\xe0", "a JPEG picture"),
         (b"version https://git-lfs.github.com/spec/v1\noid", "a pointer of Git LFS")],
    )  # fmt: skip
    def test_other_content_is_named(self, tmp_path: Path, data: bytes, name: str) -> None:
        (tmp_path / "a.json").write_bytes(data)
        assert f"got {name}" in complaint(tmp_path / "a.json")

    def test_pipes_devices_and_loops(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        (tmp_path / "loop").symlink_to("loop")
        assert "not a file" in complaint(tmp_path / "pipe")
        assert "not a file" in complaint(Path("/dev/zero"))
        assert "Too many levels of symbolic links" in complaint(tmp_path / "loop")
        picture(tmp_path / "images/a.jpg")
        (tmp_path / "labels").mkdir()
        os.mkfifo(tmp_path / "labels/a.txt")
        assert "not a file" in complaint(tmp_path / "images")
        (tmp_path / "labels/a.txt").unlink()
        (tmp_path / "labels/a.txt").symlink_to("a.txt")
        assert "symbolic links" in complaint(tmp_path / "images") or "none of 1 pictures" in complaint(
            tmp_path / "images"
        )

    def test_a_million_keypoints_in_one_annotation(self, root: Path, said: pytest.LogCaptureFixture) -> None:
        source = coco(root, {"keypoints": [1] * 3_000_000})
        assert boxes(read_labels(source)) == [BOX]
        assert "1 faces are read without landmarks: keypoints that are no x, y, v of 5" in said.text
        assert len(said.text) < 1000

    def test_lines_without_end(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(text_lines, "MAX_LINE_BYTES", 100)
        path = write(tmp_path / "a.txt", "# a.jpg 9 9\n" + "1 " * 1000)
        assert complaint(path).startswith(f"{path}:2: expected a line of up to")

    def test_json_of_more_values_than_memory_takes(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(json_file, "MAX_JSON_MEMORY", 1000)
        assert "would take about" in complaint(coco(root, {}, {}))
