"""Prediction sets that claim more than they hold."""

from __future__ import annotations

import io
import os
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facekit.errors import FacekitError
from facekit.results.wider import read_predictions


def npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


GOOD = {
    "names": npy(np.array(["a/b"])),
    "offsets": npy(np.array([0, 1])),
    "xywhs": npy(np.array([[1.0, 2.0, 3.0, 4.0, 0.5]])),
}


def header(dtype: str, shape: str, version: bytes = b"\x01\x00") -> bytes:
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}"
    text += " " * (-(len(text) + 11) % 64) + "\n"
    return b"\x93NUMPY" + version + len(text).to_bytes(2, "little") + text.encode()


def complaint(path: Path) -> str:
    start = time.monotonic()
    with pytest.raises(FacekitError) as caught:
        read_predictions(path)
    assert time.monotonic() - start < 5
    text = str(caught.value)
    assert text.startswith(str(path)) and "\n" not in text and len(text) < 600
    return text


def written(folder: Path, compression: int = zipfile.ZIP_STORED, **parts: bytes) -> Path:
    with zipfile.ZipFile(folder / "a.npz", "w", compression) as archive:
        for name, data in (GOOD | parts).items():
            archive.writestr(f"{name}.npy", data)
    return folder / "a.npz"


class TestNpz:
    @pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
    def test_good(self, tmp_path: Path, compression: int) -> None:
        read = read_predictions(written(tmp_path, compression))
        assert {name: rows.tolist() for name, rows in read.items()} == {"a/b": [[1, 2, 3, 4, 0.5]]}

    @pytest.mark.parametrize(
        ("xywhs", "expected"),
        [
            (header("<f8", "(1099511627776, 5)"), "xywhs: 43980465111040 bytes by its header, 0 in the archive"),
            (header("<f8", "(1, 5)"), "xywhs: 40 bytes by its header, 0 in the archive"),
            (header("<f8", "(-1, 5)") + bytes(40), "expected texts or numbers"),
            (header("|O", "(1, 5)") + bytes(40), "expected texts or numbers"),
            (header("|S40", "(1,)") + bytes(40), "expected texts or numbers"),
            (header("<f8", "(" + "9" * 5000 + ", 5)"), "can't be read as .npz"),
            (header("<f8", "(1, 5"), "can't be read as .npz"),
            (header("<f8", "(1, 5)", b"\x07\x00") + bytes(40), "can't be read as .npz"),
            (b"\x93NUM", "can't be read as .npz"),
            (b"", "can't be read as .npz"),
            (b"bytes for an array", "can't be read as .npz"),
        ],
    )
    def test_damaged_header(self, tmp_path: Path, xywhs: bytes, expected: str) -> None:
        assert expected in complaint(written(tmp_path, xywhs=xywhs))

    def test_unpacks_to_far_more(self, tmp_path: Path) -> None:
        rows = 5_000_000
        path = written(tmp_path, zipfile.ZIP_DEFLATED, xywhs=header("|u1", f"({rows}, 5)") + bytes(5 * rows))
        assert path.stat().st_size < 100_000
        assert "bytes unpacked, of an archive of" in complaint(path)

    def test_flipped_bytes(self, tmp_path: Path) -> None:
        data = written(tmp_path).read_bytes()
        for at in range(0, len(data), 5):
            (tmp_path / "a.npz").write_bytes(data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :])
            try:
                read_predictions(tmp_path / "a.npz")
            except FacekitError as error:
                assert str(error).startswith(str(tmp_path / "a.npz"))

    @pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
    def test_no_file(self, tmp_path: Path, kind: str) -> None:
        path = tmp_path / "a.npz"
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "device":
            path.symlink_to("/dev/zero")
        else:
            path.mkdir()
        complaint(path)


class TestFolder:
    def one(self, folder: Path, text: bytes) -> Path:
        (folder / "e").mkdir()
        (folder / "e" / "a.txt").write_bytes(text)
        return folder

    @pytest.mark.parametrize(
        "text",
        [b"a\n" + b"9" * 5000 + b"\n", b"a\n1\n" + b"9" * 100_000 + b" 1 1 1 1\n", b"a\n1\n1e999 1 1 1 1\n",
         b"x" * 100_000,
         b"a\n\xd9\xa1\n", b"a\n1\n" + b"1 " * 100_000],
        ids=["count", "number", "infinite", "name", "foreign digit", "columns"],
    )  # fmt: skip
    def test_absurd_numbers(self, tmp_path: Path, text: bytes) -> None:
        assert "e/a.txt" in complaint(self.one(tmp_path, text))

    @pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
    def test_no_file(self, tmp_path: Path, kind: str) -> None:
        (tmp_path / "e").mkdir()
        path = tmp_path / "e" / "a.txt"
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "device":
            path.symlink_to("/dev/zero")
        else:
            path.mkdir()
        assert f"is a {kind}, not a file" in complaint(tmp_path)
