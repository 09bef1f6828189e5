from __future__ import annotations

import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from facekit.errors import FacekitError
from facekit.labels.formats import read_labels, recognise
from facekit.labels.formats.voc_xml import read_voc_file

FACE = "<object><name>face</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>6</xmax><ymax>8</ymax></bndbox></object>"
POINTS = "".join(f"<{axis}{i}>{i}.5</{axis}{i}>" for i in range(1, 6) for axis in "xy")


def xml(*objects: str, folder: str = "", name: str = "a.jpg") -> str:
    size = "<size><width>40</width><height>30</height></size>"
    head = f"<annotation>\n<folder>{folder}</folder><filename>{name}</filename>{size}\n"
    return head + "\n".join(objects) + "\n</annotation>\n"


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """Ultra-Light's layout with a.jpg in the list train."""
    root = tmp_path / "flat"
    for folder in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (root / folder).mkdir(parents=True)
    cv2.imwrite(str(root / "JPEGImages/a.jpg"), np.zeros((30, 40, 3), np.uint8))
    (root / "Annotations/a.xml").write_text(xml(FACE))
    (root / "ImageSets/Main/train.txt").write_text("a\n")
    return root


@pytest.fixture
def wider(tmp_path: Path) -> Path:
    """The tiny SSD's layout with 0--Parade/a.jpg in the list train."""
    root = tmp_path / "wider"
    (root / "WIDER_train/Annotations").mkdir(parents=True)
    (root / "WIDER_train/0--Parade").mkdir()
    cv2.imwrite(str(root / "WIDER_train/0--Parade/a.jpg"), np.zeros((30, 40, 3), np.uint8))
    (root / "WIDER_train/Annotations/a.xml").write_text(xml(FACE, folder="0--Parade"))
    (root / "train.txt").write_text("a\n")
    return root


def complaint(source: Path) -> str:
    with pytest.raises(FacekitError) as caught:
        read_labels(source)
    return str(caught.value)


@pytest.mark.parametrize("layout", ["flat", "wider"])
def test_lists_that_are_read_together_are_said(
    layout: str, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    folder: Path = request.getfixturevalue(layout)
    lists = folder / "ImageSets/Main" if layout == "flat" else folder
    if layout == "flat":
        (lists / "trainval.txt").write_text("a\n")  # as train's: one set
    read_labels(folder)
    assert "read together" not in caplog.text
    (lists / "val.txt").touch()
    read_labels(folder.with_name(f"{layout}:train"))
    assert "read together" not in caplog.text
    read_labels(folder)
    assert f"{folder}: train, val are read together; {folder}:train names one." in caplog.text


def test_sets_beside_their_pictures_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for part in ("train", "valid"):
        (tmp_path / part).mkdir()
        cv2.imwrite(str(tmp_path / part / "a.jpg"), np.zeros((30, 40, 3), np.uint8))
        (tmp_path / part / "a.xml").write_text(xml(FACE))
    read_labels(tmp_path.with_name(f"{tmp_path.name}:val"))
    assert "read together" not in caplog.text
    assert len(read_labels(tmp_path)) == 2
    assert f"train, val are read together; {tmp_path}:train names one." in caplog.text


def test_beside_their_pictures_with_a_data_root_above(tmp_path: Path) -> None:
    """The picture beside is meant, whatever <filename> still says after both were renamed."""
    folder = tmp_path / "set"
    folder.mkdir()
    for name, said in (("a.JPG", "b.jpg"), ("b.jpg", "old.jpg")):
        cv2.imwrite(str(folder / name), np.zeros((30, 40, 3), np.uint8))
        (folder / name).with_suffix(".xml").write_text(xml(FACE, folder="x", name=said))
    for data_root, below in ((None, ""), (folder, ""), (tmp_path, "set/")):
        pictures = read_labels(folder, data_root)
        assert [each.path for each in pictures] == [folder / "a.JPG", folder / "b.jpg"]
        assert [each.name for each in pictures] == [f"{below}a.JPG", f"{below}b.jpg"]


@pytest.mark.parametrize("layout", ["flat", "wider", "beside"])
def test_names_in_capitals(layout: str, flat: Path, wider: Path) -> None:
    folders = {"flat": flat, "wider": wider, "beside": flat / "JPEGImages"}
    (flat / "JPEGImages/a.xml").write_text(xml(FACE))
    for file in folders[layout].rglob("*.xml"):
        file.rename(file.with_suffix(".XML"))
    assert len(read_labels(folders[layout])[0].boxes_xywh) == 1
    (flat / "ImageSets/Main/train.txt").unlink()
    assert len(read_labels(folders[layout])) == 1


class TestFlat:
    @pytest.mark.parametrize("place", ["", "ImageSets/Main/train.txt"])
    def test_folder_and_list(self, flat: Path, place: str) -> None:
        assert recognise(flat / place) == "voc"
        [a] = read_labels(flat / place)
        assert (a.path, a.size_wh, a.name) == (flat / "JPEGImages/a.jpg", (40, 30), "a.jpg")
        assert a.boxes_xywh.tolist() == [[1, 2, 5, 6]]

    def test_part(self, flat: Path) -> None:
        assert len(read_labels(flat.with_name("flat:train"))) == 1
        assert "got no such file" in complaint(flat.with_name("flat:val"))

    def test_without_lists(self, flat: Path, caplog: pytest.LogCaptureFixture) -> None:
        (flat / "JPEGImages/b.jpg").touch()
        assert len(read_labels(flat)) == 1
        assert not caplog.records  # no list names it
        (flat / "ImageSets/Main/train.txt").unlink()
        assert len(read_labels(flat)) == 1
        assert f"1 pictures without an XML file: not in the set (first: {flat / 'JPEGImages/b.jpg'})" in caplog.text

    @pytest.mark.parametrize(
        ("extra", "labelled"),
        [(f"<has_lm>1</has_lm><lm>{POINTS}</lm>", True), (f"<lm>{POINTS}</lm>", True), ("<has_lm>0</has_lm>", False)],
    )
    def test_landmarks(self, flat: Path, extra: str, labelled: bool) -> None:
        (flat / "Annotations/a.xml").write_text(xml(FACE.replace("</object>", f"{extra}</object>")))
        [a] = read_labels(flat)
        assert np.isfinite(a.landmarks_xy).all() == labelled
        if labelled:
            assert a.landmarks_xy[0].tolist() == [[i + 0.5] * 2 for i in range(1, 6)]

    def test_other_objects(self, flat: Path, caplog: pytest.LogCaptureFixture) -> None:
        (flat / "Annotations/a.xml").write_text(
            xml(FACE.replace("face", "dog"), FACE, FACE.replace("<xmin>1", "<xmin>2"))
        )
        with caplog.at_level(logging.WARNING, "facekit"):
            [a] = read_labels(flat)
        assert a.boxes_xywh[:, 0].tolist() == [1, 2]
        assert "left alone: dog" in caplog.text

    def test_missing_labels_and_picture(self, flat: Path) -> None:
        (flat / "ImageSets/Main/train.txt").write_bytes(b"a\r\nb\r\n")
        assert f"{flat / 'ImageSets/Main/train.txt'}:2: expected the labels of b" in complaint(flat)
        (flat / "ImageSets/Main/train.txt").write_bytes(b"a\r\n")
        (flat / "JPEGImages/a.jpg").unlink()
        assert "1 of 1 pictures are not on the disk" in complaint(flat)

    @pytest.mark.parametrize("name", ["../../a", "/etc/passwd"])
    def test_list_that_leaves_the_folder(self, flat: Path, name: str) -> None:
        (flat / "ImageSets/Main/train.txt").write_text(f"{name}\n")
        assert "leaves the data root" in complaint(flat)

    def test_attributes_of_cvat(self, flat: Path, caplog: pytest.LogCaptureFixture) -> None:
        given = "<attributes><attribute><name>{}</name><value>{}</value></attribute></attributes></object>"
        for name, value, is_crowd in (
            ("ignore", "True", True), ("ignore", "false", False), ("hat", "1", False), ("ignore", "maybe", False)
        ):  # fmt: skip
            (flat / "Annotations/a.xml").write_text(xml(FACE.replace("</object>", given.format(name, value))))
            assert read_labels(flat)[0].is_crowd.tolist() == [is_crowd]
        assert "1 flag is neither 0 nor 1, and counts as not set" in caplog.text and "ignore: 'maybe'" in caplog.text


class TestWider:
    @pytest.mark.parametrize("place", ["", "train.txt"])
    def test_folder_and_list(self, wider: Path, place: str) -> None:
        assert recognise(wider / place) == "voc-wider"
        [a] = read_labels(wider / place)
        assert (a.path, a.name) == (wider / "WIDER_train/0--Parade/a.jpg", "0--Parade/a.jpg")
        assert a.boxes_xywh.tolist() == [[1, 2, 5, 6]]

    @pytest.mark.parametrize("lines", ["a\nb\n", "a\na\n"])
    def test_list(self, wider: Path, lines: str) -> None:
        (wider / "train.txt").write_text(lines)
        assert f"{wider / 'train.txt'}:2: expected a name" in complaint(wider)

    @pytest.mark.parametrize("folder", ["../..", "/etc"])
    def test_folder_that_leaves(self, wider: Path, folder: str) -> None:
        (wider / "WIDER_train/Annotations/a.xml").write_text(xml(FACE, folder=folder, name="../../../x.jpg"))
        assert "leaves the data root" in complaint(wider)


class TestXml:
    @pytest.mark.parametrize(
        ("bad", "reason"),
        [
            (FACE.replace("<xmin>1</xmin>", ""), "finite numbers in <bndbox>"),
            (FACE.replace("<xmin>1<", "<xmin>1e999<"), "finite numbers in <bndbox>"),
            (FACE.replace("bndbox", "box"), "expected <bndbox>"),
            (FACE.replace("</object>", "<has_lm>1</has_lm></object>"), "expected <lm>"),
            (FACE.replace("</object>", "<has_lm>2</has_lm></object>"), "expected <has_lm> 0 or 1"),
            (FACE.replace("</object>", "<lm><x1>3</x1></lm></object>"), "finite numbers in <lm>"),
        ],
    )
    def test_bad_object(self, flat: Path, bad: str, reason: str) -> None:
        path = flat / "Annotations/a.xml"
        path.write_text(xml(FACE, bad))
        text = complaint(flat)
        assert text.startswith(f"{path}:4: expected")
        assert reason in text

    @pytest.mark.parametrize(
        "head",
        ['<!DOCTYPE a [<!ENTITY x "y">]>', '<!DOCTYPE a SYSTEM "file:///etc/passwd">',
         '<?xml version="1.0" encoding="utf-7"?><!DOCTYPE a>'],
    )  # fmt: skip
    def test_document_types_are_refused(self, flat: Path, head: str) -> None:
        (flat / "Annotations/a.xml").write_text(head + xml(FACE))
        assert "document types and entities are refused" in complaint(flat)

    @pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
    def test_other_encodings(self, flat: Path, encoding: str) -> None:
        (flat / "Annotations/a.xml").write_bytes(xml(FACE, name="ä.jpg").encode(encoding))
        assert "expected UTF-8" in complaint(flat)

    @pytest.mark.parametrize("content", ["", "text", "<a/>", "<annotation>", "<annotation><x></annotation>"])
    def test_no_voc(self, flat: Path, content: str) -> None:
        (flat / "Annotations/a.xml").write_text(content)
        assert complaint(flat).startswith(f"{flat / 'Annotations/a.xml'}:1: ")

    def test_size_limit(self, flat: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("facekit.labels.formats.voc_xml.MAX_XML_BYTES", 10)
        assert "more than the limit of 10." in complaint(flat)

    @given(st.integers(0, 200), st.integers(0, 9), st.text(max_size=9))
    @settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
    def test_damage_is_read_or_refused(self, tmp_path: Path, place: int, length: int, noise: str) -> None:
        content = xml(FACE)
        path = tmp_path / "a.xml"
        path.write_text(content[:place] + noise + content[place + length :], encoding="utf-8", errors="replace")
        try:
            file = read_voc_file(path)
        except FacekitError as error:
            assert str(error).startswith(f"{path}:")
        else:
            assert np.isfinite(np.array(file.corners)).all()
