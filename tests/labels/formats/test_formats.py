"""Text formats, and how each format is recognised."""

from __future__ import annotations

import typing
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from facekit.base.options import types_of
from facekit.commands.convert_data import ConvertDataOptions
from facekit.errors import FacekitError
from facekit.labels.formats import WRITTEN, read_labels, recognise, split_part

WIDTH, HEIGHT = 40, 30
NAMES = ("0--Parade/a.jpg", "0--Parade/b c.png", "1--Riot/d.jpg")
POINTS = "2 4 0 5 4 0 3 5 0 2 7 0 5 7 0"
UPRIGHT = "1.5707963267948966"  # radians
QUICK = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with three pictures of 40x30."""
    root = tmp_path_factory.mktemp("set") / "pictures"
    for name in NAMES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / name), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    return root


def complaint(source: Path, root: Path | None = None) -> str:
    with pytest.raises(FacekitError) as caught:
        read_labels(source, root)
    assert len(str(caught.value)) < 1500
    return str(caught.value)


def test_the_command_line_knows_the_formats() -> None:
    assert typing.get_args(types_of(ConvertDataOptions)["to"]) == WRITTEN


# A good file of each text format about the pictures of `images`; the second picture has no face.
GOOD = {
    "wider": f"{NAMES[0]}\n2\n1 2 5 6 0 1 0 1 2 0 \n3 4 5 6 0 0 0 0 0 0\n{NAMES[1]}\n0\n0 0 0 0 0 0 0 0 0 0\n",
    "labelv2": f"# {NAMES[0]} 40 30\n1 2 6 8 {POINTS}\n3 4 8 10\n# {NAMES[1]} 40 30\n",
    "retinaface": f"# {NAMES[0]}\n1 2 5 6 {POINTS} 0.5\n3 4 5 6 {'-1.0 ' * 15}0.1\n# {NAMES[1]}\n",
    "fddb": f"{NAMES[0][:-4]}\n2\n3 2.5 {UPRIGHT} 3.5 5  1\n3 2.5 {UPRIGHT} 5.5 7  1\n{NAMES[1][:-4]}\n0\n",
}
SECOND_FACE = {"wider": 4, "labelv2": 3, "retinaface": 3, "fddb": 4}  # its line


class TestText:
    @pytest.fixture(params=GOOD)
    def name(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    def file(self, folder: Path, content: str | bytes) -> Path:
        path = folder / "labels.txt"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def test_good(self, images: Path, tmp_path: Path, name: str) -> None:
        path = self.file(tmp_path, GOOD[name])
        assert recognise(path) == name
        a, b = read_labels(path, images)
        np.testing.assert_allclose(a.boxes_xywh, [[1, 2, 5, 6], [3, 4, 5, 6]])
        assert (a.name, b.name) == NAMES[:2]
        assert b.boxes_xywh.shape == (0, 4)
        assert a.size_wh == ((WIDTH, HEIGHT) if name == "labelv2" else None)
        has_landmarks = np.isfinite(a.landmarks_xy).all(axis=(1, 2)).tolist()
        assert has_landmarks == ([True, False] if name in ("labelv2", "retinaface") else [False, False])
        if name == "wider":
            assert a.attributes is not None and a.attributes.tolist() == [[0, 1, 0, 1, 2, 0], [0] * 6]
            assert not a.is_crowd.any()

    @pytest.mark.parametrize("how", ["nan", "1_0", "arabic"])
    def test_bad_line_is_named(self, images: Path, tmp_path: Path, name: str, how: str) -> None:
        lines = GOOD[name].split("\n")
        index = SECOND_FACE[name] - 1
        fields = lines[index].split()
        fields[0] = {"nan": "nan", "1_0": "1_0", "arabic": "٣"}[how]
        lines[index] = " ".join(fields)
        path = self.file(tmp_path, "\n".join(lines))
        text = complaint(path, images)
        assert text.startswith(f"{path}:{SECOND_FACE[name]}: expected")
        assert "got" in text

    def test_cut_off_anywhere_is_read_or_refused(self, images: Path, tmp_path: Path, name: str) -> None:
        for length in range(len(GOOD[name])):
            path = self.file(tmp_path, GOOD[name][:length])
            try:
                read_labels(path, images)
            except FacekitError as error:
                assert str(error).startswith(str(path))

    def test_doubled_picture(self, images: Path, tmp_path: Path, name: str) -> None:
        path = self.file(tmp_path, GOOD[name] + GOOD[name])
        assert "expected a picture that line 1 hasn't listed yet" in complaint(path, images)

    @pytest.mark.parametrize("bad", ["../a", "/etc/x", "C:\\x"])
    def test_leaves_the_root(self, images: Path, tmp_path: Path, name: str, bad: str) -> None:
        path = self.file(tmp_path, GOOD[name].replace("0--Parade/a", bad))
        assert "leaves the data root" in complaint(path, images)

    def test_finds_the_pictures_itself(self, images: Path, name: str) -> None:
        path = self.file(images.parent, GOOD[name])
        path = path.rename(images / f"{name}.txt")
        try:
            assert read_labels(path)[0].path == images / NAMES[0]
        finally:
            path.unlink()


class TestRecognise:
    def test_missing(self, tmp_path: Path) -> None:
        assert "No such file" in complaint(tmp_path / "none.txt")

    @pytest.mark.parametrize("content", ["", "hello\nworld\n", "\x00\x01\x02", "1 2 3\n"])
    def test_says_what_it_looked_for(self, tmp_path: Path, content: str) -> None:
        path = tmp_path / "labels.json"
        path.write_text(content)
        text = complaint(path)
        assert "no label format is recognised" in text
        for sign in ("COCO json", "labelv2", "RetinaFace", "WIDER", "VOC", "YOLO", "FDDB"):
            assert sign in text

    def test_empty_folder(self, tmp_path: Path) -> None:
        assert "it is a folder" in complaint(tmp_path)

    @pytest.mark.parametrize("suffix", [".txt", ".json", ""])
    def test_the_files_name_is_not_asked(self, images: Path, tmp_path: Path, suffix: str) -> None:
        for name, content in GOOD.items():
            path = tmp_path / f"labels{suffix}"
            path.write_text(content)
            assert recognise(path) == name

    def test_parts(self, tmp_path: Path) -> None:
        for part in ("val", "valid", "validation"):
            assert split_part(tmp_path / f"data.yaml:{part}") == (tmp_path / "data.yaml", "val")
        assert split_part(tmp_path / "data.yaml:other") == (tmp_path / "data.yaml:other", None)
        (tmp_path / "a:val").touch()
        assert split_part(tmp_path / "a:val") == (tmp_path / "a:val", None)

    def test_part_of_a_format_without_parts(self, images: Path, tmp_path: Path) -> None:
        (tmp_path / "labels.txt").write_text(GOOD["wider"])
        assert "has no lists to choose from" in complaint(tmp_path / "labels.txt:train", images)


@pytest.mark.parametrize(("part", "json"), [("val", "validation.json"), ("train", "train.json")])
def test_wider_text_is_the_json(shared_dir: Path, part: str, json: str) -> None:
    folder = shared_dir / "data" / "widerface"
    root = folder / f"WIDER_{part}" / "images"
    text = {p.path: p for p in read_labels(folder / "wider_face_split" / f"wider_face_{part}_bbx_gt.txt")}
    wanted = read_labels(folder / json, root)
    assert len(text) == len(wanted) == {"val": 566, "train": 1300}[part]
    faces = 0
    for picture in wanted:
        found = text[picture.path]
        assert found.attributes is not None
        if part == "train":  # the json leaves the invalid ones out
            found = found.take(found.attributes[:, 3] == 0)
        np.testing.assert_array_equal(found.boxes_xywh, picture.boxes_xywh)
        faces += len(found.boxes_xywh)
    assert faces == {"val": 6443, "train": 12260}[part]
