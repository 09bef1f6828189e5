from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

import facekit
from facekit.errors import ArgumentError, FacekitError
from facekit.pictures.write import write_picture


def _draw(path: Path) -> bytes:
    """A small picture that facekit wrote, which it would write over."""
    path.parent.mkdir(exist_ok=True)
    write_picture(path, np.full((40, 40, 3), 90, np.uint8))
    return path.read_bytes()


@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_lists_picture_is_not_drawn_on(is_streamed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = _draw(tmp_path / "covered" / "a.jpg")
    (tmp_path / "list.txt").write_text("covered/a.jpg\n")
    monkeypatch.chdir(tmp_path)
    if is_streamed:
        monkeypatch.setattr("facekit.pictures.inputs.MOST_LOOKED_AT", 0)  # as of one on standard input
    with pytest.raises(FacekitError, match=r"covered/a\.jpg: would be written over, but this command reads it"):
        facekit.detect(from_file="list.txt", draw=".").run()
    assert (tmp_path / "covered" / "a.jpg").read_bytes() == before


def test_a_lists_later_picture_is_not_drawn_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cv2.imwrite(str(tmp_path / "a.jpg"), np.zeros((40, 40, 3), np.uint8))
    before = _draw(tmp_path / "covered" / "a.jpg")
    (tmp_path / "link").symlink_to(tmp_path / "covered")
    (tmp_path / "list.txt").write_text("a.jpg\nlink/a.jpg\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FacekitError, match="would be written over, but this command reads it"):
        facekit.detect(from_file="list.txt", draw="covered").run()
    assert (tmp_path / "covered" / "a.jpg").read_bytes() == before


@pytest.mark.parametrize("names", [("draw", "crops"), ("yolo", "wider")])
def test_folders_of_their_own(tmp_path: Path, names: tuple[str, str]) -> None:
    for folder in ("in", "out"):
        (tmp_path / folder).mkdir()
    cv2.imwrite(str(tmp_path / "in" / "a.jpg"), np.zeros((40, 40, 3), np.uint8))
    (tmp_path / "link").symlink_to(tmp_path / "out")
    for other in ("out", "in/../out", "link"):
        with pytest.raises(
            ArgumentError, match="`{}` and `{}` are both .*Give each a folder of its own".format(*names)
        ):
            facekit.detect(tmp_path / "in", **dict(zip(names, (tmp_path / "out", tmp_path / other), strict=True)))
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("name", ["yolo", "wider", "crops"])
def test_a_files_name_is_no_folders(tmp_path: Path, name: str) -> None:
    cv2.imwrite(str(tmp_path / "a.jpg"), np.zeros((40, 40, 3), np.uint8))
    out = tmp_path / "out.txt"
    with pytest.raises(ArgumentError, match=f"`{name}=.*: a name with a suffix is a file. Give a folder"):
        facekit.detect(tmp_path / "a.jpg", **{name: out})
    assert not out.exists()
