"""Where a file says late, twice or in its own way how it is turned: size and pixels agree, whoever asks."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps, features

from facekit.errors import FacekitError
from facekit.pictures.avif import turned_avif
from facekit.pictures.read import picture_size, read_picture

ORIENTATION = 0x0112
SIZE_WH = (96, 64)  # as it is stored


def stored_rgb() -> NDArray[np.uint8]:
    """Another colour in each quarter, so that each way to turn it shows."""
    image = np.zeros((SIZE_WH[1], SIZE_WH[0], 3), np.uint8)
    image[:32, :48], image[:32, 48:], image[32:, :48] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    return image


def exif_of(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


def upright_rgb(orientation: int) -> NDArray[np.uint8]:
    """By Pillow."""
    image = Image.fromarray(stored_rgb())
    image.getexif()[ORIENTATION] = orientation
    return np.asarray(ImageOps.exif_transpose(image))


def check(path: Path, orientation: int) -> None:
    expected = upright_rgb(orientation)
    image_bgr = read_picture(path)
    assert picture_size(path) == image_bgr.shape[1::-1] == expected.shape[1::-1]
    # In the middle of each quarter, for some kinds lose a little.
    rows, columns = [[side // 4, 3 * side // 4] for side in expected.shape[:2]]
    found = image_bgr[np.ix_(rows, columns)][..., ::-1].astype(int)
    assert np.abs(found - expected[np.ix_(rows, columns)]).max() < 40


def encoded(kind: str, **options: object) -> bytes:
    out = BytesIO()
    Image.fromarray(stored_rgb()).save(out, kind, **options)
    return out.getvalue()


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow writes no AVIF")
@pytest.mark.parametrize("orientation", range(1, 9))
def test_avif(tmp_path: Path, orientation: int) -> None:
    """Pillow writes it as the container's own properties, irot and imir."""
    path = tmp_path / "a.avif"
    path.write_bytes(encoded("AVIF", exif=exif_of(orientation), quality=90))
    check(path, orientation)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow writes no AVIF")
def test_avif_of_which_a_part_is_shown() -> None:
    data = encoded("AVIF", exif=exif_of(6)).replace(b"irot", b"clap")
    with pytest.raises(FacekitError, match=r"a\.avif: an AVIF of which viewers show a part alone \(clap\)"):
        turned_avif("a.avif", data, stored_rgb())


@pytest.mark.parametrize("cut", range(0, 300, 7))
def test_avif_that_is_cut_off_is_let_be_or_turned(cut: int) -> None:
    """Whatever is left of its boxes: what OpenCV could decode of it comes back."""
    data = b"\0\0\0\x2ameta\0\0\0\0\0\0\0\x1eiprp\0\0\0\x16ipco\0\0\0\x09irot\x01"
    assert turned_avif("a.avif", data[:cut], stored_rgb()).size == stored_rgb().size


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("rest", [0, 100_000])  # bytes that keep it out of what is read first
def test_png_with_its_exif_behind_the_pixels(tmp_path: Path, orientation: int, rest: int) -> None:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    data = encoded("PNG")
    end = data.index(b"IEND") - 4
    exif = exif_of(orientation).tobytes().removeprefix(b"Exif\0\0")
    path = tmp_path / "a.png"
    path.write_bytes(data[:end] + chunk(b"tEXt", b"Comment\0" + b"x" * rest) + chunk(b"eXIf", exif) + data[end:])
    check(path, orientation)


@pytest.mark.parametrize(("first", "second"), [(6, 1), (1, 6), (3, 8)])
def test_jpeg_with_two_exif(tmp_path: Path, first: int, second: int) -> None:
    data = encoded("JPEG", quality=95)
    both = b"".join(segment(orientation) for orientation in (first, second))
    path = tmp_path / "a.jpg"
    path.write_bytes(data[:2] + both + data[2:])
    check(path, first)


@pytest.mark.parametrize("orientation", [1, 6])
def test_jpeg_with_its_exif_behind_the_frame_header(tmp_path: Path, orientation: int) -> None:
    data = encoded("JPEG", quality=95)
    start = data.index(b"\xff\xda")  # of the pixels
    path = tmp_path / "a.jpg"
    path.write_bytes(data[:start] + segment(orientation) + data[start:])
    check(path, orientation)


def segment(orientation: int) -> bytes:
    content = b"Exif\0\0" + exif_of(orientation).tobytes().removeprefix(b"Exif\0\0")
    return b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content
