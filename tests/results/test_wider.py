from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from facekit.errors import FacekitError
from facekit.results.wider import read_predictions, write_predictions


def save_text(folder: Path, text: str, name: str = "0--e/p") -> Path:
    file = folder / f"{name}.txt"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text.encode())
    return file


def save_npz(folder: Path, **changes: Any) -> Path:
    content: dict[str, Any] = {
        "names": np.array(["e/q", "e/p"]),
        "offsets": np.array([0, 0, 2]),
        "xywhs": np.array([[1, 2, 3, 4, 0.5], [5, 6, 7, 8, 0.25]], dtype=np.float32),
        **changes,
    }
    path = folder / "run.npz"
    np.savez(path, **{name: array for name, array in content.items() if array is not None})
    return path


class TestEmpty:
    def test_no_pictures_write_nothing(self, tmp_path: Path) -> None:
        write_predictions(tmp_path, {})
        assert list(tmp_path.iterdir()) == []

    def test_picture_without_boxes(self, tmp_path: Path) -> None:
        write_predictions(tmp_path, {"0--e/p": np.zeros((0, 5))})
        assert (tmp_path / "0--e" / "p.txt").read_bytes() == b"p\n0\n"
        assert read_predictions(tmp_path)["0--e/p"].shape == (0, 5)

    def test_npz_without_pictures(self, tmp_path: Path) -> None:
        path = save_npz(tmp_path, names=np.zeros(0, dtype="U1"), offsets=np.array([0]), xywhs=np.zeros((0, 5)))
        assert read_predictions(path) == {}


class TestText:
    def test_official_format(self, tmp_path: Path) -> None:
        write_predictions(tmp_path, {"0--e/p": [[1, 2.5, 3, 4, 0.75], [5, 6, 7, 8, 0.5]]})
        expected = b"p\n2\n1.0 2.5 3.0 4.0 0.75\n5.0 6.0 7.0 8.0 0.5\n"
        assert (tmp_path / "0--e" / "p.txt").read_bytes() == expected

    @pytest.mark.parametrize("first", ["p", "p.jpg", "0--e/p.jpg", "0--e\\p", "\ufeffp"])
    @pytest.mark.parametrize("end", ["\n", "\r\n"])
    @pytest.mark.parametrize("tail", ["", "\n", "\n\n"])
    def test_what_other_tools_write(self, tmp_path: Path, first: str, end: str, tail: str) -> None:
        text = f"{first}\n2\n1 2 3 4 0.75\n5  6 7\t8 5e-1 {tail}"
        save_text(tmp_path, text.replace("\n", end))
        predictions = read_predictions(tmp_path)
        assert list(predictions) == ["0--e/p"]
        assert predictions["0--e/p"].dtype == np.float64
        assert predictions["0--e/p"].tolist() == [[1, 2, 3, 4, 0.75], [5, 6, 7, 8, 0.5]]

    def test_sorted_by_name(self, tmp_path: Path) -> None:
        for name in ("b/p", "a/q", "a-/r"):
            save_text(tmp_path, f"{name}\n0\n", name)
        assert list(read_predictions(tmp_path)) == ["a-/r", "a/q", "b/p"]

    @pytest.mark.parametrize(
        ("text", "line", "got"),
        [
            ("", 2, "the end of the file"),
            ("p\n", 2, "the end of the file"),
            ("other.jpg\n0\n", 1, "'other.jpg'"),
            ("p\nmany\n", 2, "'many'"),
            ("p\n-1\n", 2, "'-1'"),
            ("p\n1\n", 2, "1"),
            ("p\n1\n1 2 3 4 0.5\n1 2 3 4 0.5\n", 2, "1"),
            ("p\n2\n1 2 3 4 0.5\n1 2 3 4\n", 4, "'1 2 3 4'"),
            ("p\n1\n1 2 3 4 0.5 6\n", 3, "'1 2 3 4 0.5 6'"),
            ("p\n5\n" + "1 2 3\n" * 5, 3, "'1 2 3'"),
            ("p\n2\n\n1 2 3 4 0.5\n", 3, "''"),
            ("p\n2\n1 2 3 4 0.5\n1 2 x 4 0.5\n", 4, "'1 2 x 4 0.5'"),
            ("p\n2\n1 2 3 4 0.5\n1 2 3 4 nan\n", 4, "'1 2 3 4 nan'"),
            ("p\n1\n1 2 -3 4 0.5\n", 3, "'1 2 -3 4 0.5'"),
        ],
    )
    def test_malformed_line_is_named(self, tmp_path: Path, text: str, line: int, got: str) -> None:
        file = save_text(tmp_path, text)
        with pytest.raises(FacekitError) as caught:
            read_predictions(tmp_path)
        assert str(caught.value).startswith(f"{file}:{line}: expected ")
        assert f"but got {got}. " in str(caught.value)

    def test_not_text(self, tmp_path: Path) -> None:
        file = save_text(tmp_path, "")
        file.write_bytes(b"p\n0\n\xff\xfe")
        with pytest.raises(FacekitError, match=r"p\.txt: not UTF-8 text \(byte 4\)"):
            read_predictions(tmp_path)

    def test_folder_without_result_files(self, tmp_path: Path) -> None:
        (tmp_path / "p.txt").write_text("p\n0\n")
        with pytest.raises(FacekitError, match=r"expected EVENT/NAME\.txt"):
            read_predictions(tmp_path)

    @pytest.mark.parametrize("name", ["nothing", "nothing.npz"])
    def test_no_such_path(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(FacekitError, match=f"{name}: expected a folder"):
            read_predictions(tmp_path / name)


class TestWriting:
    @pytest.mark.parametrize(
        "name",
        [
            *("p", "", "/", "e/", "/p", "../p", "e/..", "./p", "/etc/p", "e/f/p", "e/../p"),
            *("..\\e/p", "e/C:p", "e/p\n", "e/p\0", " e/p"),
        ],
    )
    def test_name_that_is_not_event_and_name(self, tmp_path: Path, name: str) -> None:
        folder = tmp_path / "results"
        with pytest.raises(FacekitError, match=r"isn't EVENT/NAME"):
            write_predictions(folder, {"e/fine": np.zeros((0, 5)), name: np.zeros((0, 5))})
        assert list(tmp_path.rglob("*")) == []  # nothing is written before all names are checked

    def test_bad_rows_write_nothing(self, tmp_path: Path) -> None:
        with pytest.raises(FacekitError, match="e/q: row 0"):
            write_predictions(tmp_path, {"e/p": np.zeros((0, 5)), "e/q": [[0, 0, 1, 1, np.nan]]})
        with pytest.raises(ValueError, match=r"e/p: must be of shape \(_, 5\)"):
            write_predictions(tmp_path, {"e/p": [[0, 0, 1, 1]]})
        assert list(tmp_path.iterdir()) == []

    def test_interrupted_write_leaves_the_old_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write_predictions(tmp_path, {"e/p": [[0, 0, 1, 1, 0.5]]})
        before = (tmp_path / "e" / "p.txt").read_bytes()

        def full(source: Path, target: Path) -> None:
            assert source.parent == target.parent
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "replace", full)
        with pytest.raises(FacekitError, match=r"p\.txt: can't be written \(No space left"):
            write_predictions(tmp_path, {"e/p": np.zeros((0, 5))})
        assert (tmp_path / "e" / "p.txt").read_bytes() == before
        assert [file.name for file in (tmp_path / "e").iterdir()] == ["p.txt"]

    def test_event_that_is_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "e").write_text("")
        with pytest.raises(FacekitError, match=r"e/p\.txt: can't be written"):
            write_predictions(tmp_path, {"e/p": np.zeros((0, 5))})


class TestNpz:
    def test_read(self, tmp_path: Path) -> None:
        predictions = read_predictions(save_npz(tmp_path))
        assert list(predictions) == ["e/p", "e/q"]
        assert predictions["e/p"].tolist() == [[1, 2, 3, 4, 0.5], [5, 6, 7, 8, 0.25]]
        assert predictions["e/q"].shape == (0, 5)
        assert predictions["e/p"].dtype == np.float64

    def test_suffixes_and_backslashes(self, tmp_path: Path) -> None:
        path = save_npz(tmp_path, names=np.array(["e\\q.jpg", "e/p.jpg"]))
        assert {name: len(rows) for name, rows in read_predictions(path).items()} == {"e/p": 2, "e/q": 0}
        with pytest.raises(FacekitError, match="names: e/p stands there twice"):
            read_predictions(save_npz(tmp_path, names=np.array(["e/p", "e/p.jpg"])))

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"offsets": None}, "offsets.*; expected the arrays names, offsets and xywhs"),
            ({"names": np.array([1, 2])}, "names: expected strings"),
            ({"names": np.array([["e/q", "e/p"]])}, "names: expected strings"),
            ({"names": np.array(["e/p", "e/p"])}, "names: e/p stands there twice"),
            ({"names": np.array(["e/p", None], dtype=object)}, "can't be read"),
            ({"offsets": np.array([0, 2])}, r"offsets: expected integers \(3,\) for 2 names, but got int64 \(2,\)"),
            ({"offsets": np.array([0.0, 0.0, 2.0])}, "offsets: expected integers"),
            ({"offsets": np.array([0, 3, 2])}, "offsets: expected to rise from 0 to the 2 rows"),
            ({"offsets": np.array([0, 1, 1])}, "offsets: expected to rise"),
            ({"offsets": np.array([1, 1, 2])}, "offsets: expected to rise"),
            ({"offsets": np.array([0, 3, 2], dtype=np.uint64)}, "offsets: expected to rise"),
            ({"xywhs": np.zeros((2, 4))}, r"xywhs: expected numbers \(_, 5\)"),
            ({"xywhs": np.full((2, 5), "1")}, "xywhs: expected numbers"),
            ({"xywhs": np.full((2, 5), np.nan)}, "e/p: row 0"),
        ],
    )
    def test_malformed_array_is_named(self, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
        path = save_npz(tmp_path, **changes)
        with pytest.raises(FacekitError, match=message) as caught:
            read_predictions(path)
        assert str(caught.value).startswith(f"{path}: ")

    @pytest.mark.parametrize("length", [0, 10, 300])
    def test_damaged_file(self, tmp_path: Path, length: int) -> None:
        path = save_npz(tmp_path)
        path.write_bytes(path.read_bytes()[:length])
        with pytest.raises(FacekitError, match=r"run\.npz: can't be read as \.npz"):
            read_predictions(path)

    def test_damaged_array(self, tmp_path: Path) -> None:
        path = save_npz(tmp_path, names=np.array(["e/first", "e/second"]))
        content = path.read_bytes()
        path.write_bytes(content.replace("first".encode("utf-32-le"), "frist".encode("utf-32-le")))
        assert path.read_bytes() != content
        with pytest.raises(FacekitError, match=r"run\.npz: can't be read as \.npz \(Bad CRC"):
            read_predictions(path)

    def test_npy_under_the_wrong_name(self, tmp_path: Path) -> None:
        path = tmp_path / "run.npz"
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
        with pytest.raises(FacekitError, match=r"run\.npz: can't be read as \.npz"):
            read_predictions(path)


def test_half_written_files_are_passed_over(tmp_path: Path) -> None:
    write_predictions(tmp_path, {"e/p": [[1, 2, 3, 4, 0.5]]})
    (tmp_path / "e" / ".p.123.part.txt").write_text("p\n3\n1 2")
    assert list(read_predictions(tmp_path)) == ["e/p"]


PART = (
    st.text(st.characters(exclude_characters="/\\:", exclude_categories=["C"]), min_size=1, max_size=12)
    .filter(str.isprintable)
    .filter(lambda part: part == part.strip() and part not in (".", ".."))
)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
ROWS = st.integers(0, 4).flatmap(lambda count: arrays(np.float64, (count, 5), elements=FINITE))


def with_sizes(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.column_stack([rows[:, :2], np.abs(rows[:, 2:4]), rows[:, 4]])


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.tuples(PART, PART).map("/".join), ROWS.map(with_sizes), min_size=1, max_size=4))
def test_reading_gives_what_was_written(predictions: dict[str, NDArray[np.float64]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_predictions(Path(folder), predictions)
        read = read_predictions(Path(folder))
    assert list(read) == sorted(predictions)
    for name, rows in predictions.items():
        np.testing.assert_array_equal(read[name], rows)
