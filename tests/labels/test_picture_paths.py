"""Pictures by the end of names that other programs and machines gave them."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from facekit.errors import FacekitError
from facekit.labels.picture_paths import PictureFinder, guesses_beside


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("data/upload/4/x.jpg", "data/y z.jpg", "data/train/1.jpg", "data/val/1.jpg", "secret.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path / "data"


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("upload/4/x.jpg", "upload/4/x.jpg"),
        ("./upload//4/x.jpg", "upload/4/x.jpg"),
        ("upload\\4\\x.jpg", "upload/4/x.jpg"),
        ("..\\..\\media\\upload\\4\\x.jpg", "upload/4/x.jpg"),
        ("/data/local-files/?d=upload/4/x.jpg", "upload/4/x.jpg"),
        ("http://localhost:8080/data/local-files/?d=media%2Fupload/4/x.jpg", "upload/4/x.jpg"),
        ("/data/local-files/?d=y%20z.jpg", "y z.jpg"),
        ("/data/upload/4/x.jpg", "upload/4/x.jpg"),
        ("C:\\Users\\me\\train\\1.jpg", "train/1.jpg"),
        ("D:/val/1.jpg", "val/1.jpg"),
        ("/home/other/set/train/1.jpg", "train/1.jpg"),
        ("file:///home/me/val/1.jpg", "val/1.jpg"),
        ("s3://bucket/a/b/val/1.jpg", "val/1.jpg"),
        ("https://host/val/1.jpg?token=1#x", "val/1.jpg"),
        ("images/train/1.jpg", "train/1.jpg"),
        ("nowhere/2.jpg", "nowhere/2.jpg"),  # not there: missing, under the name that the file gives
    ],
)
def test_longest_tail(root: Path, name: str, found: str) -> None:
    assert PictureFinder(root / "labels.json", root).find(name, "here") == (root / found, found)


def test_beside_the_labels_below_the_root(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    finder = PictureFinder(root / "train/labels.json", root)
    assert finder.find("y z.jpg", "here")[1] == "y z.jpg"  # as named before that
    assert finder.find("1.jpg", "here") == (root / "train/1.jpg", "train/1.jpg")
    finder.finish()
    assert f"1 of 2 pictures are named otherwise than they lie below {root}" in caplog.text
    for source, data_root in ((root / "train/labels.json", root / "upload"), (root.parent / "labels.json", root)):
        assert PictureFinder(source, data_root).find("1.jpg", "here")[1] == "1.jpg"


def test_said_once(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    finder = PictureFinder(root / "a.json", root)
    for name in ("/x/train/1.jpg", "/x/val/1.jpg", "y z.jpg"):
        finder.find(name, "here")
    with caplog.at_level(logging.WARNING, "facekit"):
        finder.finish()
    [record] = caplog.records
    assert "2 of 3 pictures are named otherwise than they lie" in record.message
    assert f"/x/train/1.jpg is {root / 'train/1.jpg'}" in record.message


@pytest.mark.parametrize("names", [("/a/upload/4/x.jpg", "/b/upload/4/x.jpg"), ("y z.jpg", "/a/y z.jpg"),
                                   ("/a/y z.jpg", "y z.jpg")])  # fmt: skip
def test_two_names_are_not_one_picture(root: Path, names: tuple[str, str]) -> None:
    finder = PictureFinder(root / "a.json", root)
    finder.find(names[0], "first")
    with pytest.raises(FacekitError, match=r"second: .* would both be .*--data-root"):
        finder.find(names[1], "second")


@pytest.mark.parametrize("name", ["../secret.jpg", "/secret.jpg", "..\\secret.jpg", "x/../../secret.jpg", "C:\\q.jpg"])
def test_nothing_outside_is_found(root: Path, name: str) -> None:
    with pytest.raises(FacekitError, match=r"here: file_name .* leaves the data root.*looked in .*--data-root"):
        PictureFinder(root / "a.json", root).find(name, "here")


@pytest.mark.parametrize(
    ("labels", "picture", "name"),
    [
        ("annotations/instances_default.json", "images/default/a.jpg", "a.jpg"),  # CVAT
        ("annotations/instances_default.json", "images/default/a.jpg", "default/a.jpg"),
        ("annotations/instances_train2017.json", "train2017/a.jpg", "a.jpg"),  # COCO
        ("annotations/instances_train2017.json", "images/train2017/a.jpg", "a.jpg"),
        ("train/_annotations.coco.json", "train/a.jpg", "a.jpg"),  # Roboflow
        ("labels.json", "images/a.jpg", "a.jpg"),
        ("labels.json", "images/a.jpg", "/elsewhere/a.jpg"),
        ("wider_face_split/x.txt", "WIDER_val/images/e/a.jpg", "e/a.jpg"),
    ],
)
def test_published_layouts_need_no_root(tmp_path: Path, labels: str, picture: str, name: str) -> None:
    (tmp_path / picture).parent.mkdir(parents=True)
    (tmp_path / picture).touch()
    label_file = tmp_path / labels
    finder = PictureFinder(label_file, None, guesses_beside(label_file))
    assert finder.find(name, "here")[0] == tmp_path / picture
