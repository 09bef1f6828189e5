"""Files of annotation tools: labelme, CVAT; and what they leave in other formats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facekit.labels.formats import read_labels, recognise
from facekit.labels.picture_labels import PictureLabels
from tests.labels.formats.support import coco, complaint, picture, write

SIDE = 512
BOX = [180, 54, 93, 120]
POINTS = [[207, 95], [246, 95], [227, 118], [211, 142], [242, 142]]


def shape(label: str, points: Any, kind: str = "rectangle", **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "group_id": None, "shape_type": kind, "flags": {}} | more


class TestLabelme:
    RECTANGLE = ((273, 174), (180, 54))  # corners in any order

    def read(self, root: Path, *shapes: dict[str, Any], **changed: Any) -> PictureLabels:
        content = {"version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": "a.jpg", "imageData": "iVBO" * 9,
                   "imageHeight": SIDE, "imageWidth": SIDE} | changed  # fmt: skip
        write(root / "a.json", json.dumps(content))
        assert recognise(root) == recognise(root / "a.json") == "labelme"
        [labels] = read_labels(root)
        return labels

    @pytest.mark.parametrize(
        ("kind", "points"),
        [("rectangle", RECTANGLE), ("polygon", [[180, 60], [200, 54], [273, 100], [250, 174]]),
         ("rectangle", [[180, 54], [273, 54], [273, 174], [180, 174]]), ("mask", RECTANGLE),
         (None, [*RECTANGLE, [190, 60]]),
         ("rotation", [[180, 100], [220, 54], [273, 120], [230, 174]])],
    )  # fmt: skip
    def test_shapes(self, root: Path, kind: Any, points: Any) -> None:
        assert self.read(root, shape("face", points, kind)).boxes_xywh.tolist() == [BOX]

    def test_names_in_capitals(self, root: Path) -> None:
        self.read(root, shape("face", self.RECTANGLE))
        (root / "a.json").rename(root / "a.JSON")
        assert recognise(root) == "labelme" and len(read_labels(root)) == 1

    def test_circle(self, root: Path) -> None:
        assert self.read(root, shape("face", [[100, 100], [103, 104]], "circle")).boxes_xywh.tolist() == [
            [95, 95, 10, 10]
        ]

    def test_points_by_name_and_group(self, root: Path, said: pytest.LogCaptureFixture) -> None:
        names = ["left_eye", "right_eye", "nose", "left_mouth", "right_mouth"]
        marks = [shape(name, [point], "point", group_id=1) for name, point in zip(names, POINTS, strict=True)]
        far = shape("face", [[400, 400], [450, 450]], group_id=2)
        labels = self.read(root, far, shape("face", self.RECTANGLE, group_id=1), *marks)
        assert np.isnan(labels.landmarks_xy[0]).all()
        assert labels.landmarks_xy[1].tolist() == POINTS
        ungrouped = [mark | {"group_id": None} for mark in marks]
        assert self.read(root, far, shape("face", self.RECTANGLE), *ungrouped).landmarks_xy[1].tolist() == POINTS
        assert not said.records
        lost = [
            shape("ear", [[1, 1]], "point"),
            shape("nose", [[1, 1]], "point"),
            shape("face", [[1, 1], [2, 2]], "line"),
        ]
        self.read(root, shape("face", self.RECTANGLE), *lost)
        assert "1 'line' of 2 points, 1 points with another name, 1 points in no box" in said.text

    @pytest.mark.parametrize("more", [{"difficult": True}, {"flags": {"difficult": True}}, {"flags": {"ignore": "1"}},
                                      {"attributes": {"ignore": True}}])  # fmt: skip
    def test_difficult(self, root: Path, more: dict[str, Any]) -> None:
        assert self.read(root, shape("face", self.RECTANGLE, **more)).is_crowd.tolist() == [True]

    def test_of_several_labels_face(self, root: Path, said: pytest.LogCaptureFixture) -> None:
        labels = self.read(root, shape("Face", self.RECTANGLE), shape("car", [[1, 1], [5, 5]]))
        assert labels.boxes_xywh.tolist() == [BOX]
        assert "left alone: car" in said.text

    @pytest.mark.parametrize("name", ["..\\pictures\\a.jpg", "/home/me/a.jpg", "C:\\x\\a.jpg", "other.jpg"])
    def test_where_the_picture_is(self, root: Path, name: str) -> None:
        assert self.read(root, shape("face", self.RECTANGLE), imagePath=name).path == root / "a.jpg"

    def test_pictures_elsewhere(self, root: Path) -> None:
        (root / "json").mkdir()
        picture(root / "images/b.jpg")
        content = {"shapes": [], "imagePath": "..\\images\\b.jpg", "imageHeight": SIDE, "imageWidth": SIDE}
        write(root / "json/b.json", json.dumps(content))
        for data_root in (None, root / "images"):
            assert read_labels(root / "json", data_root)[0].path == root / "images/b.jpg"


class TestCvatXml:
    def read(self, root: Path, shapes: str, name: str = "a.jpg") -> PictureLabels:
        image = f'<image id="0" name="{name}" width="{SIDE}" height="{SIDE}">{shapes}</image>'
        source = write(root / "annotations.xml", f"<annotations><version>1.1</version><meta/>{image}</annotations>")
        assert recognise(source) == "cvat"
        [labels] = read_labels(source, root)
        return labels

    @pytest.mark.parametrize(
        "drawn",
        ['<box label="face" xtl="180.0" ytl="54" xbr="273" ybr="174" occluded="0"/>',
         '<polygon label="face" points="180.0,60;200,54;273,100;250,174"/>',
         '<mask label="face" rle="3,5" left="180" top="54" width="93" height="120"/>',
         '<ellipse label="face" cx="226.5" cy="114" rx="46.5" ry="60"/>',
         '<box label="face" xtl="166.5" ytl="67.5" xbr="286.5" ybr="160.5" rotation="90"/>'],
    )  # fmt: skip
    def test_shapes(self, root: Path, drawn: str) -> None:
        assert self.read(root, drawn).boxes_xywh.round(3).tolist() == [BOX]

    def test_skeleton(self, root: Path, said: pytest.LogCaptureFixture) -> None:
        names = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
        parts = "".join(
            f'<points label="{name}" outside="0" points="{x},{y}"/>' for name, (x, y) in zip(names, POINTS, strict=True)
        )
        box = '<box label="face" xtl="180" ytl="54" xbr="273" ybr="174"/>'
        labels = self.read(root, f'{box}<skeleton label="marks">{parts}</skeleton><tag label="x"/>')
        assert labels.landmarks_xy.tolist() == [POINTS]
        assert "not read: 1 <tag>" in said.text
        hidden = parts.replace('outside="0"', 'outside="1"', 1)
        assert np.isnan(self.read(root, f'{box}<skeleton label="marks">{hidden}</skeleton>').landmarks_xy).all()

    def test_difficult(self, root: Path) -> None:
        box = '<box label="face" xtl="180" ytl="54" xbr="273" ybr="174"><attribute name="{}">{}</attribute></box>'
        for name, value, is_crowd in (
            ("difficult", "true", True),
            ("Iscrowd", "1", True),
            ("difficult", "false", False),
        ):
            assert self.read(root, box.format(name, value)).is_crowd.tolist() == [is_crowd]

    def test_flags_that_are_none(self, root: Path, said: pytest.LogCaptureFixture) -> None:
        """The attributes of other objects say nothing of faces."""
        box = '<box label="{}" xtl="180" ytl="54" xbr="273" ybr="174"><attribute name="ignore">{}</attribute></box>'
        labels = self.read(root, box.format("car", "a lot") + box.format("face", "__undefined__"))
        assert labels.is_crowd.tolist() == [False]
        assert "1 flag is neither 0 nor 1, and counts as not set" in said.text
        assert "<image> 0, shape 1.ignore: '__undefined__'" in said.text

    def test_name_of_another_machine(self, root: Path) -> None:
        assert self.read(root, "", name="D:\\task 5\\a.jpg").path == root / "a.jpg"

    def test_video(self, root: Path) -> None:
        source = write(root / "v.xml", "<annotations><track id='0' label='face'><box frame='0'/></track></annotations>")
        assert "holds 1 tracks of a video and no <image>" in complaint(source)

    def test_entities(self, root: Path) -> None:
        source = write(root / "v.xml", '<annotations><!DOCTYPE a [<!ENTITY b "c">]></annotations>')
        assert "document types and entities are refused" in complaint(source)


def test_attributes_that_are_no_flags_in_coco(root: Path, said: pytest.LogCaptureFixture) -> None:
    faces = [{"attributes": {"ignored": value}} for value in ("__undefined__", "off", 3, "on")]
    assert read_labels(coco(root, *faces))[0].is_crowd.tolist() == [False, False, False, True]
    assert "2 flags are neither 0 nor 1, and count as not set (first: " in said.text
    assert "annotations[0].ignored: '__undefined__'" in said.text
