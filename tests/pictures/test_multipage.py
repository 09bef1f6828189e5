"""Of pictures of many frames the others are told, by the bytes."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from facekit.pictures.multipage import frames_left_out


def animated(path: Path, count: int) -> bytes:
    image_bgr = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    if path.suffix == ".tiff":
        cv2.imwritemulti(str(path), [image_bgr] * count)
    else:
        frames = cv2.Animation()
        frames.frames, frames.durations = [image_bgr, image_bgr[::-1], image_bgr][:count], [100] * count
        cv2.imwriteanimation(str(path), frames)
    return path.read_bytes()


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp", ".tiff"])
def test_files_and_bytes_whatever_their_suffix(tmp_path: Path, suffix: str) -> None:
    data = animated(tmp_path / f"a{suffix}", 3)
    other = tmp_path / "a.jpg"
    other.write_bytes(data)
    for picture in (data, tmp_path / f"a{suffix}", other):
        assert (frames_left_out(picture) or "").startswith("2 of its 3 frames or pages: the first alone is looked at")
    for cut in range(0, 64):  # of a head nobody knows more than it says
        assert frames_left_out(data[:cut]) is None or cut > 20


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".tiff"])
def test_a_single_picture(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    cv2.imwrite(str(path), np.zeros((40, 60, 3), np.uint8))
    assert frames_left_out(path) is None and frames_left_out(path.read_bytes()) is None


def test_what_is_no_picture(tmp_path: Path) -> None:
    (tmp_path / "a.gif").write_bytes(b"text")
    for picture in (b"", b"GIF89a", tmp_path / "none.gif", tmp_path / "a.gif", tmp_path):
        assert frames_left_out(picture) is None


def test_an_animated_png_whose_profile_is_long(tmp_path: Path) -> None:
    data = animated(tmp_path / "a.png", 3)
    profile = b"iCCP" + b"ICC Profile\0\0" + zlib.compress(np.random.default_rng(0).bytes(200_000))
    chunk = struct.pack(">I", len(profile) - 4) + profile + struct.pack(">I", zlib.crc32(profile))
    long = data[:33] + chunk + data[33:]  # behind IHDR
    (tmp_path / "b.png").write_bytes(long)
    for picture in (long, tmp_path / "b.png"):
        assert (frames_left_out(picture) or "").startswith("2 of its 3 frames")


PANORAMA, EYE, THUMBNAIL, UNNAMED = 0x020001, 0x020002, 0x010002, 0


def mpo(*others: tuple[int, bytes]) -> bytes:
    """A JPEG with others behind it, each of an MP type of CIPA DC-007, 5.2.3.3."""
    first = jpeg()
    size = 8 + 2 + 12 + 4 + 16 * (1 + len(others))
    place = len(first) + 8 + size - 28  # of the next picture, counted from the data behind MPF
    entries, behind = struct.pack(">IIIHH", 0x030000, len(first), 0, 0, 0), b""
    for kind, data in others:
        entries += struct.pack(">IIIHH", kind, len(data), place + len(behind), 0, 0)
        behind += data
    head = b"MM\0*" + struct.pack(">IHHHIII", 8, 1, 0xB002, 7, len(entries), 26, 0)
    segment = b"\xff\xe2" + struct.pack(">H", 6 + len(head + entries)) + b"MPF\0" + head + entries
    assert len(head + entries) == size
    return first[:20] + segment + first[20:] + behind  # behind APP0


def jpeg(height: int = 40, text: bytes = b"") -> bytes:
    data = cv2.imencode(".jpg", np.zeros((height, 60, 3), np.uint8))[1].tobytes()
    return data[:20] + (b"\xff\xe1" + struct.pack(">H", 2 + len(text)) + text if text else b"") + data[20:]


@pytest.mark.parametrize(
    ("others", "left_out"),
    [
        ([(EYE, jpeg())], 1),
        ([(UNNAMED, jpeg())], 1),
        ([(PANORAMA, jpeg(56)), (EYE, jpeg(16))], 2),
        ([(THUMBNAIL, jpeg()), (UNNAMED, jpeg(16))], 0),  # the first picture itself, once more
        ([(UNNAMED, jpeg(text=b"http://ns.adobe.com/xap/1.0/\0 http://ns.adobe.com/hdr-gain-map/1.0/"))], 0),
    ],
)
def test_a_jpeg_of_several(tmp_path: Path, others: list[tuple[int, bytes]], left_out: int) -> None:
    data = mpo(*others)
    (tmp_path / "a.jpg").write_bytes(data)
    said = f"{left_out} of its {left_out + 1} frames or pages: the first alone is looked at" if left_out else None
    for picture in (data, tmp_path / "a.jpg"):
        assert (frames_left_out(picture) or "").partition(".")[0] == (said or "")
    for cut in range(200):
        assert frames_left_out(data[:cut]) is None or cut > 60
