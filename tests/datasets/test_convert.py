from __future__ import annotations

import json
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from facekit.cli import main
from facekit.datasets.convert import convert
from facekit.datasets.convert_options import ConvertOptions
from facekit.errors import ArgumentError, FacekitError
from facekit.labels.formats import FORMATS, WRITTEN, read_labels

POINTS = "7 8 0 9 8 0 8 9 0 7 10 0 9 10 0 0.5"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """images/e/0.jpg ... 9.jpg of 60x60, and wider.txt: a face of 20 pixels in each, three more in the first."""
    lines = []
    for index in range(10):
        path = tmp_path / "images" / "e" / f"{index}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full((60, 60, 3), index, np.uint8))
        more = ["5 5 4 20 0 0 0 1 0 0", "5 5 20 20 0 0 0 1 0 0", "90 90 9 9 0 0 0 0 0 0"] if index == 0 else []
        lines += [f"e/{index}.jpg", str(1 + len(more)), "1 2 20 20 0 0 0 0 0 0", *more]
    (tmp_path / "wider.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, str]:
    with pytest.raises(SystemExit) as caught:
        main([str(arg) for arg in args], prog_name="facekit")
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    assert isinstance(caught.value.code, int)
    return caught.value.code, captured.out + captured.err


def to(root: Path, format_name: str, target: str, **options: Any) -> Any:
    sources = {"train": [(root / "wider.txt", root / "images")]}
    return convert(sources, format_name, root / target, ConvertOptions(**options))


def names(source: Path, data_root: Path | None = None) -> list[str | None]:
    return [picture.name for picture in read_labels(source, data_root)]


def test_pictures_of_a_folder_images_find_their_labels_again(root: Path) -> None:
    """In YOLO's layout a label file is where the last `images` of its picture's path is `labels`."""
    (root / "wider.txt").write_text("images/e/1.jpg\n1\n1 2 20 20 0 0 0 0 0 0\nother/2.jpg\n1\n3 4 20 20 0 0 0 0 0 0\n")
    (root / "other").mkdir()
    shutil.copy(root / "images/e/2.jpg", root / "other")
    convert({"train": [(root / "wider.txt", root)]}, "yolo", root / "out", ConvertOptions())
    found = read_labels(root / "out")
    assert [labels.boxes_xywh.tolist() for labels in found] == [[[1, 2, 20, 20]], [[3, 4, 20, 20]]]


@pytest.mark.parametrize("form", WRITTEN)
def test_blanks_of_other_kinds_in_names(root: Path, form: str) -> None:
    """macOS has U+202F in the names of screenshots, and Japanese ones have U+3000."""
    named = ["e/Shot 3.45.12\u202fPM.jpg", "e/写真\u3000一\xa02.jpg"]
    for number, name in enumerate(named):
        shutil.copy(root / f"images/e/{number}.jpg", root / "images" / name)
    images = [{"id": number, "file_name": name, "width": 60, "height": 60} for number, name in enumerate(named)]
    annotations = [{"id": n, "image_id": n, "category_id": 1, "bbox": [1, 2, 20, 20]} for n in range(2)]
    (root / "labels.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    out = root / f"out{FORMATS[form].suffix}"
    convert({"train": [(root / "labels.json", root / "images")]}, form, out, ConvertOptions())
    found = read_labels(out, root / "images" if FORMATS[form].suffix else None)
    assert [labels.boxes_xywh.tolist() for labels in found] == [[[1, 2, 20, 20]]] * 2
    kept = {Path(labels.name or "").name for labels in found}
    assert form == "voc" or kept == {Path(name).name for name in named}


@pytest.mark.parametrize("form", ["yolo", "yolo-face", "wider", "coco"])
@pytest.mark.parametrize("size_wh", [(60, 40), (40, 60), (30, 20)])
def test_sizes_that_are_not_the_pictures(root: Path, form: str, size_wh: tuple[int, int]) -> None:
    """Readers of a format without sizes would see boxes elsewhere. 60x40 is how a picture turned by its EXIF is stored,
    and what many tools state."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (60, 40)).save(root / "images/turned.jpg", exif=exif)
    image = {"id": 1, "file_name": "turned.jpg", "width": size_wh[0], "height": size_wh[1]}
    boxes = [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 20, 10]}]
    (root / "labels.json").write_text(json.dumps({"images": [image], "annotations": boxes}))
    out = root / f"out{FORMATS[form].suffix}"
    work = partial(convert, {"train": [(root / "labels.json", root / "images")]}, form, out, ConvertOptions())
    if form == "coco" or size_wh == (40, 60):
        work()
        assert read_labels(out, root / "images" if form in ("coco", "wider") else None)[0].boxes_xywh.tolist() == [
            [1, 2, 20, 10]
        ]
    else:
        said = f"the labels say {size_wh[0]}x{size_wh[1]} pixels, the picture has 40x60 as viewers show it, and {form} "
        with pytest.raises(FacekitError, match=said):
            work()
        assert not out.exists()


class TestFilters:
    def test_a_box_over_the_edge_is_said_once(self, root: Path, caplog: pytest.LogCaptureFixture) -> None:
        """Labels that state no size: it is read for the boxes, and again for what is written."""
        (root / "wider.txt").write_text("e/1.jpg\n1\n50 50 20 20 0 0 0 0 0 0\n")
        with caplog.at_level("WARNING", "facekit"):
            to(root, "coco", "out.json")
        assert caplog.text.count("reach outside their picture") == 1

    def test_all_are_counted(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        code, text = run(
            capsys, "data", "convert", root / "wider.txt", root / "out.json", "--to", "coco", "--min-size", 10,
            "--drop-invalid",
        )  # fmt: skip
        assert code == 0
        assert "train        10     10               0              0" in text
        assert "faces left out: 2 (invalid)" in text
        assert "faces left out: 1 (under 10 pixels)" not in text  # the one under 10 is invalid too
        assert "faces left out: 1 (lie wholly outside their picture)" in text
        assert f"data root: {root / 'images'}" in text
        assert sum(len(p.boxes_xywh) for p in read_labels(root / "out.json", root / "images")) == 10

    def test_min_size(self, root: Path) -> None:
        summary = to(root, "wider", "out.txt", min_size=10)
        assert summary.dropped == {"under 10 pixels": 1, "lie wholly outside their picture": 1}

    def test_drop_invalid_without_attributes(self, root: Path, caplog: pytest.LogCaptureFixture) -> None:
        to(root, "labelv2", "lv.txt")
        with pytest.raises(FacekitError, match="none of the labels have attributes"):
            convert({"train": [(root / "lv.txt", root / "images")]}, "coco", root / "a.json",
                    ConvertOptions(drop_invalid=True))  # fmt: skip
        assert "all stay" not in caplog.text

    def test_subset(self, root: Path) -> None:
        (root / "some.txt").write_text("e/3.jpg\r\ne/5\n")
        to(root, "coco", "out.json", subset=root / "some.txt")
        assert names(root / "out.json", root / "images") == ["e/3.jpg", "e/5.jpg"]
        (root / "some.txt").write_text("e/3.jpg\ne/x.jpg\n")
        with pytest.raises(FacekitError, match=r"some\.txt:2: 1 of 2 pictures aren't in the labels"):
            to(root, "coco", "again.json", subset=root / "some.txt")

    @pytest.mark.parametrize("format_name", ["wider", "labelv2", "yolo", "yolo-face"])
    def test_crowds_that_the_format_can_not_mark(
        self, root: Path, capsys: pytest.CaptureFixture[str], format_name: str
    ) -> None:
        to(root, "coco", "a.json")
        labels = json.loads((root / "a.json").read_text())
        labels["annotations"][0]["iscrowd"] = 1
        (root / "a.json").write_text(json.dumps(labels))
        given = ("data", "convert", root / "a.json", "--data-root", root / "images")
        code, text = run(capsys, *given, root / "out", "--to", format_name)
        assert code == 3
        assert "faces left out: 1 (crowds, which the format can't mark)" in text
        assert f"Left out: {root / 'out'}: 1 crowds, which the format can't mark: there they are background." in text
        assert "keep them: coco, voc, voc-wider." in text
        assert run(capsys, *given, root / "out.json", "--to", "coco")[0] == 0

    def test_landmarks_that_the_format_can_not_hold(self, root: Path) -> None:
        (root / "label.txt").write_text(f"# e/1.jpg\n5 6 20 20 {POINTS}\n")
        summary = convert({"train": [(root / "label.txt", None)]}, "yolo", root / "y", ConvertOptions())
        assert summary.not_kept == {"landmarks": 1}
        assert "not in this format: landmarks of 1 faces" in summary.table()
        assert "landmarks of" not in convert(
            {"train": [(root / "label.txt", None)]}, "yolo-face", root / "yf", ConvertOptions()
        ).table()  # fmt: skip


class TestSplit:
    def test_a_seed_of_nothing(self) -> None:
        with pytest.raises(ArgumentError, match=r"`seed` .* add `split`"):
            ConvertOptions(seed=3)

    def test_deterministic_and_whole(self, root: Path) -> None:
        for target in ("a", "b"):
            to(root, "wider", target, split=(0.8, 0.2), seed=3)
        train, val = (names(root / "a" / f"{part}.txt", root / "images") for part in ("train", "val"))
        assert (len(train), len(val)) == (8, 2)
        assert sorted(map(str, train + val)) == [f"e/{i}.jpg" for i in range(10)]
        assert (root / "a/val.txt").read_bytes() == (root / "b/val.txt").read_bytes()
        to(root, "wider", "c", split=(0.8, 0.2), seed=4)
        assert (root / "a/val.txt").read_bytes() != (root / "c/val.txt").read_bytes()

    @pytest.mark.parametrize("format_name", ["yolo", "voc", "voc-wider"])
    def test_layouts(self, root: Path, format_name: str) -> None:
        to(root, format_name, "out", split=(6, 2, 2))
        source = root / "out" / "data.yaml" if format_name == "yolo" else root / "out"
        counts = [len(names(source.with_name(f"{source.name}:{part}"))) for part in ("train", "val", "test")]
        assert counts == [6, 2, 2]

    def test_too_few(self, root: Path) -> None:
        with pytest.raises(FacekitError, match="too few"):
            to(root, "wider", "a", split=(0.99, 0.01))

    @pytest.mark.parametrize("text", ["", "1", "0.9:x", "1:-1", "0:1", "1:1:1:1", "nan:1", "inf:1"])
    def test_bad_shares(self, root: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as caught:
            main(["data", "convert", str(root), str(root / "out"), "--to", "coco", "--split", text])
        assert caught.value.code == 2
        assert "split" in capsys.readouterr().err


class TestDestination:
    def test_source_is_never_written(self, root: Path) -> None:
        before = (root / "wider.txt").read_bytes()
        for format_name, target in (("wider", "wider.txt"), ("yolo", ".")):
            with pytest.raises(FacekitError, match="is or holds the source"):
                to(root, format_name, target, force=True)
        assert (root / "wider.txt").read_bytes() == before

    def test_a_folder_of_labels_gets_no_other_labels(self, root: Path) -> None:
        to(root, "yolo", "set")
        (root / "link").symlink_to(root / "set")
        sources, force = {"train": [(root / "set", None)]}, ConvertOptions(force=True)
        for format_name, target in (("yolo", "set/out"), ("labelv2", "link/out.txt")):
            with pytest.raises(FacekitError, match="lies in the source"):
                convert(sources, format_name, root / target, force)
        assert len(names(root / "set")) == 10 and not (root / "set" / "out").exists()
        for _ in range(2):  # no label file of YOLO's
            convert(sources, "coco", root / "set" / "coco.json", force)

    @pytest.mark.parametrize(("format_name", "target"), [("yolo", "data.yaml"), ("voc", "out.xml")])
    def test_a_files_name_is_no_folders(self, root: Path, format_name: str, target: str) -> None:
        with pytest.raises(ArgumentError, match="a name with a suffix is a file"):
            to(root, format_name, target)
        assert not (root / target).exists()

    def test_file_that_is_there(self, root: Path) -> None:
        (root / "mine.json").write_text("mine")
        with pytest.raises(FacekitError, match="`force=True`"):
            to(root, "coco", "mine.json")
        assert (root / "mine.json").read_text() == "mine"
        to(root, "coco", "mine.json", force=True)
        assert len(json.loads((root / "mine.json").read_text())["images"]) == 10

    @pytest.mark.parametrize("format_name", ["yolo", "voc"])
    def test_foreign_folder(self, root: Path, format_name: str) -> None:
        (root / "mine").mkdir()
        (root / "mine/thesis.doc").touch()
        with pytest.raises(FacekitError, match="`force=True`"):
            to(root, format_name, "mine")
        assert [p.name for p in (root / "mine").iterdir()] == ["thesis.doc"]
        to(root, format_name, "mine", force=True)
        to(root, format_name, "mine")  # ours by now
        with pytest.raises(FacekitError, match="not a voc-wider data set"):
            to(root, "voc-wider", "mine")

    @pytest.mark.parametrize("format_name", WRITTEN)
    def test_a_set_of_other_parts_in_the_folder(self, root: Path, format_name: str) -> None:
        """test.txt of the first would hold pictures that the second trains on."""
        to(root, format_name, "out", split=(6, 2, 2))
        before = {path: path.read_bytes() for path in (root / "out").rglob("*") if path.is_file()}
        # VOC's test is val where there is no other, and written over.
        options: dict[str, Any] = {} if format_name == "voc" else {"split": (0.8, 0.2), "seed": 1}
        for force in (False, True):
            with pytest.raises(FacekitError, match="files of another data set"):
                to(root, format_name, "out", force=force, **options)
        assert {path: path.read_bytes() for path in (root / "out").rglob("*") if path.is_file()} == before

    def test_another_split_in_the_folder(self, root: Path) -> None:
        """Its pictures would stay in images/train, and be in images/val, too."""
        for _ in range(2):
            to(root, "yolo", "out", split=(0.9, 0.1))
        with pytest.raises(FacekitError, match=r"files of another data set.*first: labels/(train|val)/"):
            to(root, "yolo", "out", split=(0.8, 0.2))
        assert len(names(root / "out/data.yaml:train")) == 9

    def test_fewer_pictures_in_the_same_parts(self, root: Path) -> None:
        to(root, "yolo", "out")
        (root / "some.txt").write_text("e/3.jpg\n")
        to(root, "yolo", "out", subset=root / "some.txt")
        assert names(root / "out/data.yaml") == ["e/3.jpg"]

    def test_a_list_that_is_read_is_not_taken_away(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        to(root, "yolo", "out", split=(0.8, 0.2))
        (root / "out/val.txt").write_text("e/3.jpg\ne/5.jpg\n")
        command = ["data", "convert", root / "wider.txt", root / "out", "--to", "yolo", "--split", "0.5:0.5"]
        code, text = run(capsys, *command, "--subset", root / "out/val.txt")
        assert code == 1, text
        assert (root / "out/val.txt").read_text() == "e/3.jpg\ne/5.jpg\n"
        assert (root / "out/train.txt").is_file()

    @pytest.mark.parametrize("format_name", ["voc", "voc-wider"])
    def test_annotations_of_another_set_in_the_folder(self, root: Path, format_name: str) -> None:
        to(root, format_name, "out")
        (root / "some.txt").write_text("e/3.jpg\n")
        with pytest.raises(FacekitError, match=r"holds files of another data set, .* \(9, first: "):
            to(root, format_name, "out", subset=root / "some.txt")

    @pytest.mark.parametrize("format_name", WRITTEN)
    def test_killed_while_a_folder_is_written_again(
        self, root: Path, format_name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """No list of the earlier split may stand beside one of the new."""
        to(root, format_name, "out", split=(0.8, 0.2), pictures="copy")

        def killed(*_: object) -> None:
            raise KeyboardInterrupt

        for module in ("datasets.convert", "labels.formats.voc", "labels.formats.voc_wider", "labels.formats.yolo"):
            monkeypatch.setattr(f"facekit.{module}.bring_picture", killed)
        with pytest.raises(KeyboardInterrupt):
            to(root, format_name, "out", split=(0.8, 0.2), seed=0, pictures="copy")
        assert not [path for path in (root / "out").rglob("*") if path.stem in ("train", "val") and path.is_file()]
        monkeypatch.undo()
        to(root, format_name, "out", split=(0.8, 0.2), pictures="copy")

    @pytest.mark.parametrize("format_name", ["yolo", "voc", "voc-wider"])
    def test_pictures(self, root: Path, format_name: str) -> None:
        original = (root / "images/e/0.jpg").stat()
        for mode in ("copy", "link", "none"):
            to(root, format_name, mode, pictures=mode)
            found = list((root / mode).rglob("*.jpg"))
            assert len(found) == (0 if mode == "none" else 10)
            assert any(p.stat().st_ino == original.st_ino for p in found) == (mode == "link")

    def test_pictures_beside_a_file(self, root: Path) -> None:
        to(root, "coco", "out.json", pictures="copy")
        assert len(read_labels(root / "out.json", root / "out_images")) == 10

    def test_clash(self, root: Path) -> None:
        (root / "images/e_0.jpg").write_bytes((root / "images/e/0.jpg").read_bytes())
        (root / "wider.txt").write_text("e/0.jpg\n0\ne_0.jpg\n0\n")
        with pytest.raises(FacekitError, match=r"e/0\.jpg and e_0\.jpg: the labels of both"):
            to(root, "voc", "out")


class TestMerge:
    def test_two_roots(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        other = root / "other" / "e"
        other.mkdir(parents=True)
        (other / "0.jpg").write_bytes((root / "images/e/0.jpg").read_bytes())
        (root / "other/label.txt").write_text(f"# e/0.jpg\n5 6 20 20 {POINTS}\n")
        code, text = run(
            capsys, "data", "merge", root / "wider.txt", root / "other/label.txt", root / "all.json", "--to", "coco"
        )
        assert code == 0, text
        assert f"data root: {root}" in text
        merged = names(root / "all.json", root)
        assert len(merged) == 11
        assert {"images/e/0.jpg", "other/e/0.jpg"} <= set(merged)

    def test_same_picture_twice(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        to(root, "coco", "a.json")
        code, text = run(
            capsys, "data", "merge", root / "wider.txt", root / "a.json", root / "all.json", "--to", "coco",
            "--data-roots", f"{root / 'images'},{root / 'images'}",
        )  # fmt: skip
        assert code == 1
        assert "is labelled twice" in text

    def test_drop_invalid_where_it_is_known(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        other = root / "other" / "e"
        other.mkdir(parents=True)
        (other / "0.jpg").write_bytes((root / "images/e/0.jpg").read_bytes())
        (root / "other/label.txt").write_text("# e/0.jpg\n5 6 20 20\n8 6 20 20\n")
        (root / "other/none.txt").write_text("# e/1.jpg\n")
        (other / "1.jpg").write_bytes((root / "images/e/1.jpg").read_bytes())
        code, text = run(
            capsys, "data", "merge", root / "wider.txt", root / "other/label.txt", root / "other/none.txt",
            root / "all.json", "--to", "coco", "--drop-invalid",
        )  # fmt: skip
        assert code == 0, text
        assert "faces left out: 2 (invalid)" in text
        assert f"{root / 'other/label.txt'}: 2 faces have no attributes" in text
        assert text.count("have no attributes") == 1
        again = {picture.name: picture for picture in read_labels(root / "all.json", root)}
        assert sum(len(picture.boxes_xywh) for picture in again.values()) == 12
        assert again["other/e/0.jpg"].attributes is None
        found = again["images/e/1.jpg"].attributes
        assert found is not None and found.tolist() == [[0] * 6]

    def test_number_of_roots(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        code, text = run(
            capsys,
            "data",
            "merge",
            root / "wider.txt",
            root / "a.json",
            "--to",
            "coco",
            "--data-roots",
            f"{root},{root}",
        )
        assert code == 2
        assert "one a file" in text


class TestTools:
    def test_wider_to_coco(self, project_dir: Path, root: Path) -> None:
        command = [sys.executable, project_dir / "tools/wider_to_coco.py", root / "wider.txt", root / "images",
                   root / "out.json", "--with_landmarks", "--drop-invalid"]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True)
        assert sum(len(p.boxes_xywh) for p in read_labels(root / "out.json", root / "images")) == 10

    def test_wider_face_2_voc(self, project_dir: Path, root: Path) -> None:
        for part, index in (("train", 1), ("val", 2)):
            (root / f"wider_face/WIDER_{part}").mkdir(parents=True)
            (root / f"wider_face/WIDER_{part}/images").symlink_to(root / "images")
            (root / "retinaface_labels" / part).mkdir(parents=True)
            label = root / "retinaface_labels" / part / "label.txt"
            label.write_text(f"# e/{index}.jpg\n5 6 20 20 {POINTS}\n1 1 8 8 {POINTS}\n")
        command = [sys.executable, project_dir / "tools/wider_face_2_voc_add_landmark.py"]
        subprocess.run(command, check=True, capture_output=True, cwd=root)
        out = root / "wider_face_add_lm_10_10"
        assert (out / "ImageSets/Main/trainval.txt").read_text() == "e_1\n"
        assert (out / "ImageSets/Main/test.txt").read_text() == "e_2\n"
        [picture] = read_labels(out.with_name(f"{out.name}:trainval"))
        assert picture.boxes_xywh.tolist() == [[5, 6, 20, 20]]
        assert np.isfinite(picture.landmarks_xy).all()
