"""Sizes from headers against Pillow's own encoders, and pictures whose headers lie or that would fill the memory."""

from __future__ import annotations

import os
import struct
import sys
import time
import zlib
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image

from facekit.errors import FacekitError
from facekit.pictures.headers import read_header
from facekit.pictures.read import MAX_JPEG_SCANS, picture_size, read_picture

SIZE_WH = (47, 31)


def encoded(kind: str, mode: str = "RGB", **options: object) -> bytes:
    buffer = BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (SIZE_WH[1], SIZE_WH[0], 3), np.uint8)
    Image.fromarray(noise).convert(mode).save(buffer, kind, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


@pytest.mark.parametrize(("kind", "options"), [
    ("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {}), ("GIF", {}), ("BMP", {}), ("WebP", {}),
    ("WebP", {"lossless": True}), ("WebP", {"exact": True, "icc_profile": b"x" * 10}), ("TIFF", {}),
    ("TIFF", {"compression": "tiff_lzw"}), ("TIFF", {"big_tiff": True}), ("AVIF", {}),
])  # fmt: skip
def test_size(tmp_path: Path, kind: str, options: dict[str, object]) -> None:
    data = encoded(kind, **options)
    header = read_header(data)
    assert header is not None
    assert (header.kind, header.size_wh, header.pixels) == (kind, SIZE_WH, SIZE_WH[0] * SIZE_WH[1])
    (tmp_path / "a").write_bytes(data)
    assert picture_size(tmp_path / "a") == SIZE_WH
    assert read_picture(tmp_path / "a").shape == (SIZE_WH[1], SIZE_WH[0], 3)


def test_every_start_of_a_file_is_harmless() -> None:
    for kind in ("JPEG", "PNG", "GIF", "BMP", "WebP", "TIFF", "AVIF"):
        data = encoded(kind)
        for length in range(min(len(data), 600)):
            header = read_header(data[:length])
            assert header is None or header.size_wh in (None, SIZE_WH)


def test_garbage_between_segments() -> None:
    """libjpeg skips it, so the size behind it counts."""
    data = encoded("JPEG")
    header = read_header(data[:2] + b"garbage\xff\xff" + data[2:])
    assert header is not None and header.size_wh == SIZE_WH


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_bomb(width: int, height: int) -> bytes:
    rows = zlib.compress(bytes((width + 7) // 8 + 1) * min(height, 8), 9)
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n"
    return start + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def with_size(kind: str, width: int, height: int) -> bytes:
    """A small picture whose header claims another size."""
    if kind == "PNG":
        return png_bomb(width, height)
    data = bytearray(encoded(kind))
    if kind == "JPEG":
        place = data.index(b"\xff\xc0")
        data[place + 5 : place + 9] = struct.pack(">HH", height, width)
    elif kind == "BMP":
        data[18:26] = struct.pack("<ii", width, -height)
    elif kind == "GIF":
        data[6:10] = struct.pack("<HH", width, height)
    else:
        for tag, value in ((256, width), (257, height)):
            place = data.index(struct.pack("<HH", tag, 4))
            data[place + 8 : place + 12] = struct.pack("<I", value)
    return bytes(data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "GIF", "TIFF"])
def test_bombs_are_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """H11: JPEG 20,000 x 20,000 took 2.8 GB, PNG 32,000 x 32,000 90 s."""
    path = tmp_path / "bomb.jpg"
    path.write_bytes(with_size(kind, 32_000, 32_000))
    monkeypatch.setattr(cv2, "imdecode", None)
    started = time.perf_counter()
    for read in (read_picture, picture_size):
        with pytest.raises(FacekitError, match=r"bomb\.jpg: 32000x32000 pixels, over the limit of 178956970"):
            read(path)
    assert time.perf_counter() - started < 1


def test_a_tile_larger_than_the_picture(tmp_path: Path) -> None:
    entries = [(256, 64), (257, 64), (258, 8), (259, 1), (262, 1), (277, 1), (322, 65_536), (323, 65_536), (324, 8)]
    body = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    (tmp_path / "a.tif").write_bytes(b"II*\0" + struct.pack("<I", 8) + body + bytes(4))
    with pytest.raises(FacekitError, match="over the limit"):
        read_picture(tmp_path / "a.tif")


def test_the_limit_can_be_moved(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded("PNG"))
    pixels = SIZE_WH[0] * SIZE_WH[1]
    assert read_picture(tmp_path / "a.png", max_pixels=pixels).size == 3 * pixels
    with pytest.raises(FacekitError, match="`max_pixels`"):
        read_picture(tmp_path / "a.png", max_pixels=pixels - 1)


def test_a_jpeg_of_endless_scans(tmp_path: Path) -> None:
    data = encoded("JPEG", progressive=True)
    place = data.rindex(b"\xff\xda")
    (tmp_path / "a.jpg").write_bytes(data[:place] + data[place:-2] * MAX_JPEG_SCANS + data[-2:])
    with pytest.raises(FacekitError, match="made to keep decoders busy"):
        read_picture(tmp_path / "a.jpg")


@pytest.mark.parametrize("name", ["/dev/urandom", "/dev/zero", "pipe"])
def test_only_regular_files(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "pipe":
        os.mkfifo(path)
    for read in (read_picture, picture_size):
        with pytest.raises(FacekitError, match="not a file"):
            read(path)


def test_kinds_that_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(encoded("JPEG2000"))
    with pytest.raises(FacekitError, match="not a picture of a kind that is read"):
        read_picture(tmp_path / "a.jpg")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer, .*`git lfs pull`"),
        (b"PK\x03\x04" + bytes(40), "a zip archive: unpack it first"),
        (b"\x1f\x8b" + bytes(40), "a gzip archive: unpack it first"),
        (b"<!DOCTYPE html><html>", "a web page"),
    ],
)
def test_what_stands_in_a_pictures_place(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(FacekitError, match=rf"a\.jpg: not a picture: {words}"):
        read_picture(tmp_path / "a.jpg")


class TestHeic:
    def heic(self, folder: Path) -> Path:
        boxes = b"\0\0\0\x18ftypheic\0\0\0\0heicmif1" + b"\0\0\0\x14ispe\0\0\0\0" + struct.pack(">II", *SIZE_WH)
        (folder / "a.heic").write_bytes(boxes)
        return folder / "a.heic"

    def test_without_the_plugin_it_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "pillow_heif", None)
        with pytest.raises(FacekitError, match="a HEIC picture, which needs pillow-heif: pip install pillow-heif"):
            read_picture(self.heic(tmp_path))

    def test_with_it_is_read(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        red = Image.new("RGB", SIZE_WH, (255, 0, 0))
        opened = SimpleNamespace(to_pillow=lambda: red)
        plugin = SimpleNamespace(open_heif=lambda file, convert_hdr_to_8bit: opened)
        monkeypatch.setitem(sys.modules, "pillow_heif", plugin)
        assert read_picture(self.heic(tmp_path))[0, 0].tolist() == [0, 0, 255]

    def test_damaged(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise ValueError("Invalid input")

        monkeypatch.setitem(sys.modules, "pillow_heif", SimpleNamespace(open_heif=refuse))
        with pytest.raises(FacekitError, match="a damaged HEIC"):
            read_picture(self.heic(tmp_path))
