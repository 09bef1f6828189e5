"""Pictures from files that nobody vouches for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from facekit.errors import FacekitError

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
MAX_PICTURE_BYTES = 256 * 1024 * 1024
_JPEG_START, _JPEG_SCAN, _JPEG_END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"


def read_picture(path: Path, size_wh: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """(H, W, 3) BGR uint8, turned as its EXIF says unless only the unturned picture has the labels' size_wh.

    Raises FacekitError for a file that is missing, too large, no picture, cut off, or of another size than size_wh.
    """
    remedy = "Mend the file or take it out of the labels."
    try:
        if path.stat().st_size > MAX_PICTURE_BYTES:
            raise FacekitError(f"{path}: over {MAX_PICTURE_BYTES >> 20} MiB, too large for a picture. {remedy}")
        data = path.read_bytes()
    except OSError as error:
        raise FacekitError(f"{path}: the picture can't be read ({error.strerror}). {remedy}") from error
    # OpenCV before 5.0 fills the missing rest of a cut-off JPEG with grey and says nothing that a program could hear.
    if data.startswith(_JPEG_START) and is_cut_off(data):
        raise FacekitError(f"{path}: the JPEG is cut off (no end marker in {len(data)} bytes). {remedy}")
    image_bgr = _decode(data, cv2.IMREAD_COLOR)
    if image_bgr is not None and size_wh is not None and image_bgr.shape[1::-1] != tuple(size_wh):
        image_bgr = _decode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        if image_bgr is not None and image_bgr.shape[1::-1] != tuple(size_wh):
            width, height = image_bgr.shape[1::-1]
            raise FacekitError(
                f"{path}: the labels say {size_wh[0]}x{size_wh[1]} pixels, the picture has {width}x{height}. "
                f"Label the picture that is on the disk, or bring back the one that was labelled."
            )
    if image_bgr is None:
        raise FacekitError(f"{path}: not a picture that OpenCV can decode ({len(data)} bytes). {remedy}")
    return image_bgr


def is_cut_off(data: bytes) -> bool:
    """Whether the end of a JPEG, PNG, WebP or BMP is missing; False for anything else."""
    if data.startswith(_JPEG_START):
        return _JPEG_END not in data[_first_scan(data) :]
    if data.startswith(b"\x89PNG"):
        return b"IEND" not in data
    if data.startswith(b"RIFF"):
        return len(data) < 8 + int.from_bytes(data[4:8], "little")
    return data.startswith(b"BM") and len(data) < int.from_bytes(data[2:6], "little")


def _first_scan(data: bytes) -> int:
    """Where a JPEG's pixels start: behind its segments, one of which may hold a whole JPEG of its own (a thumbnail)."""
    place = len(_JPEG_START)
    while data[place : place + 1] == b"\xff" and data[place : place + 2] != _JPEG_SCAN:
        place += 2 + max(2, int.from_bytes(data[place + 2 : place + 4], "big"))
    return place


def _decode(data: bytes, flags: int) -> NDArray[np.uint8] | None:
    if not data:
        return None
    try:
        decoded = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), flags)
        return None if decoded is None else as_uint8(decoded)
    except cv2.error:  # such as more pixels than OpenCV's own limit
        return None


def as_uint8(image: Any) -> NDArray[np.uint8]:
    """What OpenCV returns, under the type that it has: no copy."""
    return np.asarray(image, dtype=np.uint8)
