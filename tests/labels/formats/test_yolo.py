from __future__ import annotations

import logging
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from facekit.errors import FacekitError
from facekit.labels.formats import read_labels
from facekit.labels.formats.yolo import label_file


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """images/{train/a,train/b,val/c}.png of 40x30; labels of a and c; data.yaml."""
    for name in ("train/a", "train/b", "val/c"):
        path = tmp_path / "images" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.zeros((30, 40, 3), np.uint8))
    label(tmp_path, "train/a", "0 0.5 0.5 0.25 0.2\n")
    label(tmp_path, "train/b", "")
    label(tmp_path, "val/c", f"0 0.25 0.5 0.25 0.2 {'-1 ' * 10}\n0 0.5 0.5 0.25 0.2 {'0.5 0.4 ' * 5}\n")
    (tmp_path / "data.yaml").write_text("# ours\ntrain: images/train\nval: images/val\nnames: [face]\n")
    return tmp_path


def label(root: Path, name: str, content: str) -> Path:
    path = root / "labels" / f"{name}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def complaint(source: Path, data_root: Path | None = None) -> str:
    with pytest.raises(FacekitError) as caught:
        read_labels(source, data_root)
    return str(caught.value)


class TestGood:
    def test_sets(self, root: Path) -> None:
        a, b = read_labels(root / "data.yaml:train")
        assert (a.name, b.name) == ("a.png", "b.png")
        assert a.boxes_xywh.tolist() == [[15, 12, 10, 6]]
        assert a.size_wh == (40, 30)
        assert not len(b.boxes_xywh)
        [c] = read_labels(root / "data.yaml:val")
        assert np.isnan(c.landmarks_xy[0]).all()
        assert c.landmarks_xy[1].tolist() == [[20, 12]] * 5

    def test_all_sets_with_a_warning(self, root: Path, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.WARNING, "facekit"):
            assert len(read_labels(root / "data.yaml")) == len(read_labels(root)) == 3
        assert "train, val are read together" in caplog.text

    def test_one_label_file_of_two_pictures(self, root: Path, caplog: pytest.LogCaptureFixture) -> None:
        """It can be that of one of them alone."""
        cv2.imwrite(str(root / "images/train/b.jpg"), np.zeros((30, 40, 3), np.uint8))
        cv2.imwrite(str(root / "images/train/a.jpg"), np.full((60, 50, 3), 99, np.uint8))
        read_labels(root / "data.yaml:train")
        assert "2 pictures have no label file of their own" in caplog.text
        assert f"first: a.jpg and a.png share {root / 'labels/train/a.txt'}" in caplog.text

    def test_folder_without_yaml(self, root: Path) -> None:
        (root / "data.yaml").unlink()
        assert [p.name for p in read_labels(root)] == ["train/a.png", "train/b.png", "val/c.png"]

    def test_folder_with_a_data_root_above(self, root: Path) -> None:
        """Its own pictures, whatever else the root holds."""
        for part in ("train", "valid", "val"):
            shutil.copytree(root / "images/val", root / f"rf/{part}/images")
            shutil.copytree(root / "labels/val", root / f"rf/{part}/labels")
        for data_root, name in ((root / "rf", "valid/images/c.png"), (root / "rf/valid", "c.png")):
            [c] = read_labels(root / "rf/valid", data_root)
            assert (c.path, c.name) == (root / "rf/valid/images/c.png", name)
        for source in ("rf/val", "rf/val/images"):
            assert [p.name for p in read_labels(root / source, root / "rf")] == ["val/images/c.png"]
        text = complaint(root / "rf/valid", root / "rf/train")
        assert f"outside the data root {root / 'rf/train'}" in text and str(root / "rf/valid/images/c.png") in text

    def test_as_label_img_writes_it(self, root: Path) -> None:
        folder = (root / "images/train").rename(root / "faces")
        (folder / "a.txt").write_text("1 0.5 0.5 0.25 0.2\n0 0.5 0.5 0.5 0.5\n")
        (folder / "b.txt").touch()
        assert "none named 'face'" in complaint(folder)
        (folder / "classes.txt").write_text("dog\nFace\n")
        for data_root in (None, folder, root):
            a, b = read_labels(folder, data_root)
            assert a.boxes_xywh.tolist() == [[15, 12, 10, 6]] and not len(b.boxes_xywh)
        (folder / "a.txt").write_text("a photo of 2 faces\n")
        assert "no label format is recognised" in complaint(folder)

    @pytest.mark.parametrize("names", [b"head\nbody\n", b"dog\nface\n", "t\xeate\n".encode("latin-1")])
    def test_listed_classes_beside_labels_of_one(self, root: Path, names: bytes) -> None:
        """A classes.txt chooses among several classes, and nothing else."""
        (root / "data.yaml").unlink()
        label(root, "val/c", "0 0.25 0.5 0.25 0.2\n")
        (root / "classes.txt").write_bytes(names)
        assert [len(picture.boxes_xywh) for picture in read_labels(root)] == [1, 0, 1]
        label(root, "val/c", "1 0.25 0.5 0.25 0.2\n")
        if b"face" in names:
            assert [len(picture.boxes_xywh) for picture in read_labels(root)] == [0, 0, 1]
        else:
            assert str(root) in complaint(root)

    @pytest.mark.parametrize("place", ["labels/train/a.TXT", "images/train/a.TXT"])
    def test_label_file_in_capitals(self, root: Path, place: str) -> None:
        (root / "labels/train/a.txt").rename(root / place)
        a, _ = read_labels(root / "data.yaml:train")
        assert a.boxes_xywh.tolist() == [[15, 12, 10, 6]]

    @pytest.mark.parametrize("ends", ["\n", "\r\n"])
    def test_list(self, root: Path, ends: str) -> None:
        absolute = (root / "images/val/c.png").absolute()
        (root / "some.txt").write_text(ends.join(["./images/train/a.png", str(absolute), ""]))
        assert [p.path.name for p in read_labels(root / "some.txt")] == ["a.png", "c.png"]

    @pytest.mark.parametrize(
        "names",
        [
            ["C:\\set\\images\\train\\a.png", "C:\\set\\images\\train\\b.png"],
            ["/content/gdrive/set/images/train/a.png", "/content/gdrive/set/images/train/b.png"],
            ["data/images/train/a.png", "data/images/train/b.png"],  # as darknet's trainer is started
        ],
    )
    def test_list_of_another_machine(self, root: Path, names: list[str], caplog: pytest.LogCaptureFixture) -> None:
        (root / "lists").mkdir()
        for place, data_root in (("some.txt", None), ("lists/some.txt", root)):
            (root / place).write_text("\n".join(names))
            a, b = read_labels(root / place, data_root)
            assert (a.path, b.name) == (root / "images/train/a.png", "b.png")
            assert a.boxes_xywh.tolist() == [[15, 12, 10, 6]]
            assert f"2 of 2 pictures are named otherwise than they lie below {root}" in caplog.text
            caplog.clear()

    def test_yaml_of_another_machine(self, root: Path, caplog: pytest.LogCaptureFixture) -> None:
        content = {"path": "C:\\me\\set", "train": "C:\\me\\set\\images\\train", "val": "/me/set/images/val"}
        (root / "data.yaml").write_text(yaml.safe_dump(content))
        assert "leaves the data root" in complaint(root / "data.yaml")
        assert [picture.path.name for picture in read_labels(root / "data.yaml", root)] == ["a.png", "b.png", "c.png"]
        assert f"is no path of this machine: by its end it is {root / 'images/train'}." in caplog.text
        content["path"] = f"D:\\{root.name}"
        (root / "data.yaml").write_text(yaml.safe_dump(content))
        assert len(read_labels(root / "data.yaml")) == 3
        content |= {"train": "C:\\one\\images", "val": "C:\\two\\images"}
        (root / "data.yaml").write_text(yaml.safe_dump(content))
        assert "would both be" in complaint(root / "data.yaml:val", root)

    def test_several_classes(self, root: Path) -> None:
        label(root, "train/a", "0 0.5 0.5 0.25 0.2\n1 0.5 0.5 0.5 0.5\n")
        (root / "data.yaml").write_text("train: images/train\nnames: {0: person, 1: Face}\n")
        a, _ = read_labels(root / "data.yaml")
        assert a.boxes_xywh.tolist() == [[10, 7.5, 20, 15]]

    def test_classes_numbered_by_texts(self, root: Path) -> None:
        label(root, "train/a", "0 0.5 0.5 0.25 0.2\n1 0.5 0.5 0.5 0.5\n")
        (root / "data.yaml").write_text("train: images/train\nnames: {'0': person, '1': Face}\n")
        a, _ = read_labels(root / "data.yaml")
        assert a.boxes_xywh.tolist() == [[10, 7.5, 20, 15]]

    @pytest.mark.parametrize("lines", [1, 2, 3])
    @pytest.mark.parametrize("yaml", ["", "kpt_shape: [5, 2]\n"])
    def test_landmarks_that_are_none_written_as_zeros(self, root: Path, lines: int, yaml: str) -> None:
        """Five points in one corner of the picture are no polygon's, and no face's."""
        none = "0 0.25 0.3 0.2 0.4" + 10 * " 0"
        some = "0 0.25 0.3 0.2 0.4 0.2 0.25 0.3 0.25 0.25 0.32 0.21 0.4 0.29 0.4"
        label(root, "train/a", "\n".join([some, *[none] * lines, ""]))
        (root / "data.yaml").write_text(f"train: images/train\nnames: [face]\n{yaml}")
        a, _ = read_labels(root / "data.yaml")
        np.testing.assert_allclose(a.boxes_xywh, [[6, 3, 8, 12]] * (1 + lines))
        assert np.isfinite(a.landmarks_xy).all(axis=(1, 2)).tolist() == [True] + [False] * lines

    @pytest.mark.parametrize("form", ["[{}]", "{{0: [{}]}}"])
    def test_names_of_landmarks(self, root: Path, form: str, caplog: pytest.LogCaptureFixture) -> None:
        marks = [(0.5, 0.5), (0.45, 0.45), (0.55, 0.45), (0.46, 0.56), (0.54, 0.56)]  # the nose first
        label(root, "train/a", f"0 0.5 0.5 0.25 0.2 {' '.join(f'{x} {y} 2' for x, y in marks)}\n")
        names = "nose, left_eye, right_eye, left_mouth, right_mouth"
        for said in (names, names.replace("nose", "chin")):
            shape = f"train: images/train\nkpt_shape: [5, 3]\nkpt_names: {form.format(said)}\n"
            (root / "data.yaml").write_text(shape)
            points = read_labels(root / "data.yaml")[0].landmarks_xy[0]
            expected = [marks[i] for i in (1, 2, 0, 3, 4)] if said == names else np.full((5, 2), np.nan)
            np.testing.assert_allclose(points, np.multiply(expected, (40, 30)))
        assert "1 face read without landmarks: kpt_names" in caplog.text
        (root / "data.yaml").write_text("train: images/train\nkpt_shape: [5, 3]\nkpt_names: [a, b, c, d, e]\n")
        points = read_labels(root / "data.yaml")[0].landmarks_xy[0]
        np.testing.assert_allclose(points, np.multiply(marks, (40, 30)))
        assert "the names in kpt_names aren't known: the points are read as left_eye, right_eye" in caplog.text

    def test_two_classes_of_one_name(self, root: Path) -> None:
        label(root, "train/a", "0 0.5 0.5 0.25 0.2\n1 0.2 0.2 0.1 0.1\n")
        (root / "data.yaml").write_text("train: images/train\nnames: [face, Face]\n")
        assert len(read_labels(root / "data.yaml")[0].boxes_xywh) == 2

    @pytest.mark.parametrize("visible", [("2", True), ("1", True), ("0", False)])
    def test_landmarks_with_visibility(self, root: Path, visible: tuple[str, bool]) -> None:
        points = " ".join(f"0.{47 + i} 0.5 {visible[0]}" for i in range(1, 6))
        label(root, "train/a", f"0 0.5 0.5 0.25 0.2 {points}\n")
        [points_xy] = read_labels(root / "data.yaml:train")[0].landmarks_xy
        expected = [[0.4 * (47 + i), 15] for i in range(1, 6)] if visible[1] else [[np.nan] * 2] * 5
        np.testing.assert_allclose(points_xy, expected)

    @pytest.mark.parametrize(
        ("place", "content"),
        [
            ("set/data.yaml", "path: .\ntrain: images/train"),
            ("set/data.yaml", "path: set\ntrain: images/train"),  # from the folder of all sets
            ("set/data.yaml", "path: ../datasets/set\ntrain: images/train"),  # from a folder beside it
            ("set/data.yaml", "train: ../set/images/train"),
            ("set/data.yaml", "train: ../images/train"),  # as Roboflow writes it
            ("set/data.yaml", "train: images/train\ntest:\nval:"),
            ("code/data.yaml", "path: ../set\ntrain: images/train"),
            ("code/data.yaml", "train: [../set/images/train]"),
            ("set/images/data.yaml", "train: ../images/train"),
            ("set/images/data.yaml", "path: ..\ntrain: images/train"),
            ("set/data.yaml", "path: {absolute}/set\ntrain: images/train"),
        ],
    )
    def test_as_ultralytics_users_write_it(
        self, root: Path, tmp_path_factory: pytest.TempPathFactory, place: str, content: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        datasets = tmp_path_factory.mktemp("w") / "datasets"
        datasets.mkdir()
        shutil.copytree(root, datasets / "set")
        file = datasets / place
        file.parent.mkdir(exist_ok=True)
        file.write_text(content.replace("{absolute}", str(datasets)))
        monkeypatch.chdir(file.parent)
        for source in (file, Path(file.name)):
            a, b = read_labels(source)
            assert a.path.samefile(datasets / "set/images/train/a.png")
            assert a.boxes_xywh.tolist() == [[15, 12, 10, 6]]
            assert (a.name, b.name) in (("a.png", "b.png"), ("set/images/train/a.png", "set/images/train/b.png"))

    def test_no_test_set_below_a_data_root(self, root: Path, caplog: pytest.LogCaptureFixture) -> None:
        below = root / "below"
        below.mkdir()
        for name in ("images", "labels"):
            (root / name).rename(below / name)
        (below / "data.yaml").write_text("train: ../images/train\nval: ../images/val\ntest: ../test/images\n")
        assert len(read_labels(below / "data.yaml", below)) == 3
        assert f"test is not there ({below / 'test/images'}): left out" in caplog.text
        (root / "test/images").mkdir(parents=True)
        assert "'../test/images' leaves the data root" in complaint(below / "data.yaml", below)

    def test_sets_beside_the_folder_of_the_yaml(self, root: Path) -> None:
        (root / "code").mkdir()
        (root / "code/data.yaml").write_text("train: ../images/train\nval: ../images/val\n")
        assert [p.name for p in read_labels(root / "code/data.yaml")] == ["train/a.png", "train/b.png", "val/c.png"]

    def test_half_written_files_are_no_pictures(self, root: Path) -> None:
        (root / "images/train/.b.123.part.png").write_bytes(b"\0")
        assert len(read_labels(root / "data.yaml:train")) == 2

    @pytest.mark.parametrize(
        ("picture", "labels"),
        [("images/a.jpg", "labels/a.txt"), ("images/x/images/y/a.jpg", "images/x/labels/y/a.txt"), ("a.jpg", "a.txt")],
    )
    def test_label_file(self, picture: str, labels: str) -> None:
        assert label_file(Path(picture)) == Path(labels)


class TestBad:
    @pytest.mark.parametrize(
        "line", ["0 20 15 10 6", "0 nan 0.5 0.2 0.2", "0.5 0.5 0.5 0.2 0.2",
                 "-1 0.5 0.5 0.2 0.2", "0 0.5 0.5 0.2",
             "0 0.5 0.5 0.2 0.2 0.1 0.1 1.5"],
    )  # fmt: skip
    def test_line_is_named(self, root: Path, line: str) -> None:
        path = label(root, "train/a", f"0 0.5 0.5 0.25 0.2\n{line}\n")
        assert complaint(root / "data.yaml:train").startswith(f"{path}:2: expected class cx cy w h")

    def test_confidence_and_track(self, root: Path) -> None:
        label(root, "train/a", "0 0.5 0.5 0.25 0.2 0.9 3\n")
        text = complaint(root / "data.yaml:train")
        assert "7 columns are class and three corners: behind a box only one of confidence and track's number" in text

    @pytest.mark.parametrize(
        "twice", ["train: a\ntrain: images/train\n", "train: images/train\nnames: {0: face, 0: car}\n"]
    )
    def test_keys_that_stand_twice(self, root: Path, twice: str) -> None:
        (root / "data.yaml").write_text(twice)
        assert complaint(root / "data.yaml").endswith("given twice; keep one.")
        assert "data.yaml:2: " in complaint(root / "data.yaml")

    def test_keys_that_nobody_reads_may_stand_twice(self, root: Path) -> None:
        (root / "data.yaml").write_text("a: &a {x: 1}\ntrain: images/train\nnc: 1\nnc: 2\n<<: *a\n<<: *a\n")
        assert read_labels(root / "data.yaml:train")

    def test_confidence_before_the_box(self, root: Path, caplog: pytest.LogCaptureFixture) -> None:
        label(root, "train/a", "0 0.91 0.44 0.22 0.18 0.23\n" * 12)
        assert "Write it behind: class cx cy w h confidence." in complaint(root / "data.yaml:train")
        assert read_labels(root / "data.yaml:train", as_written=True)  # for `data check`, which goes on
        assert "Write it behind: class cx cy w h confidence." in caplog.text

    def test_corners(self, root: Path, caplog: pytest.LogCaptureFixture) -> None:
        corners = [(x, y, x + 0.06, y + 0.08) for x in (0.1, 0.3, 0.5, 0.85) for y in (0.2, 0.3, 0.6)]
        label(root, "train/a", "".join(f"0 {a} {b} {c} {d}\n" for a, b, c, d in corners))
        assert "are they corners?" in complaint(root / "data.yaml:train")
        read_labels(root / "data.yaml:train", as_written=True)  # for data check
        assert "are they corners?" in caplog.text

    def test_missing_labels(self, root: Path, caplog: pytest.LogCaptureFixture) -> None:
        (root / "labels/train/b.txt").unlink()
        with caplog.at_level(logging.WARNING, "facekit"):
            read_labels(root / "data.yaml:train")
        assert "1 pictures without a label file" in caplog.text
        (root / "labels/train/a.txt").unlink()
        assert "none of 2 pictures has a label file" in complaint(root / "data.yaml:train")

    def test_several_classes_without_face(self, root: Path) -> None:
        label(root, "train/a", "0 0.5 0.5 0.25 0.2\n1 0.5 0.5 0.5 0.5\n")
        assert "several classes and none named 'face'" in complaint(root / "images")

    def test_one_of_several_named_classes_that_is_no_face(self, root: Path) -> None:
        (root / "data.yaml").write_text("train: images/train\nnames: [car, person]\n")
        assert "several classes and none named 'face': 0 (car)" in complaint(root / "data.yaml")

    def test_pictures_that_are_not_there(self, root: Path) -> None:
        (root / "some.txt").write_text("set/x.png\nset/y.png\n")
        text = complaint(root / "some.txt")
        assert "none of 2 pictures is on the disk" in text and str(root / "set/x.png") in text
        assert "as data root" in text

    @pytest.mark.parametrize("path", ["../elsewhere", "/etc", "C:/x"])
    def test_leaves_the_root(self, root: Path, path: str) -> None:
        (root / "data.yaml").write_text(f"train: {path}\n")
        assert str(root / "data.yaml") in complaint(root / "data.yaml")
        (root / "some.txt").write_text(f"{path}/a.png\n")
        assert "leaves the data root" in complaint(root / "some.txt")

    @pytest.mark.parametrize(
        "path", ["../../elsewhere", "../..", "/etc", "C:/x", "C:/../x", "images/../../../x", "..\\\\..\\\\x"]
    )
    @pytest.mark.parametrize("key", ["path", "train"])
    def test_yaml_leaves_the_folder_above(self, root: Path, key: str, path: str) -> None:
        content = {"train": "images/train"} | {key: path}
        (root / "data.yaml").write_text(yaml.safe_dump(content))
        text = complaint(root / "data.yaml")
        assert "leaves the data root" in text
        assert "as data root" in text

    @pytest.mark.parametrize("path", ["9" * 300, "abcd/" * 1000])
    @pytest.mark.parametrize("key", ["path", "train"])
    def test_longer_than_disks_hold(self, root: Path, key: str, path: str) -> None:
        (root / "data.yaml").write_text(yaml.safe_dump({"train": "images/train"} | {key: path}))
        assert "is longer than a disk holds" in complaint(root / "data.yaml")

    def test_yaml_leaves_the_given_root(self, root: Path) -> None:
        (root / "data.yaml").write_text("train: ../labels\n")
        assert "leaves the data root" in complaint(root / "data.yaml", root / "images")

    @pytest.mark.parametrize(
        "content", ["train: [1, 2]\n", "train: {a: b}\n", "train: a\npath: 3\n", "train: [\n", "train: nowhere\n",
                    "- train: 3\ntrain: x\n", "train: !!timestamp x\n", "train: a\nday: 2026-99-99\n",
                    "train: a\nb: !!bool x\n", "train: a\n? [b]\n: c\n", "train: a\nb: !!int x\n"],
    )  # fmt: skip
    def test_yaml(self, root: Path, content: str) -> None:
        (root / "data.yaml").write_text(content)
        assert str(root / "data.yaml") in complaint(root / "data.yaml")

    def test_unknown_set(self, root: Path) -> None:
        assert "no 'test'" in complaint(root / "data.yaml:test")

    @given(st.text(alphabet="trainvl:[]{}&*!- \n.3'\"#", max_size=40))
    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    def test_any_yaml_is_read_or_refused(self, root: Path, content: str) -> None:
        (root / "data.yaml").write_text(f"train: images/train\n{content}")
        try:
            read_labels(root / "data.yaml")
        except FacekitError as error:
            assert str(root) in str(error)
