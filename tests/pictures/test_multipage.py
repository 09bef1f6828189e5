"""Of pictures of many frames the others are told, by the bytes."""

from __future__ import annotations

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
