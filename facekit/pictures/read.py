"""Pictures from files that nobody vouches for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from facekit.errors import FacekitError

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
MAX_PICTURE_BYTES = 256 * 1024 * 1024
HEAD_BYTES = 1 << 16  # of a file, where its size almost always stands
_REDUCED = {2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}
_PNG_START = b"\x89PNG\r\n\x1a\n"
_JPEG_START, _JPEG_SCAN, _JPEG_END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # in pixels: 0 is stuffed, the others restart
_JPEG_BETWEEN_SCANS = [bytes([code]) for code in (0xC4, 0xDA, 0xDB, 0xDC, 0xDD, *range(0xE0, 0xF0), 0xFE)]


def read_picture(path: Path, size_wh: tuple[int, int] | None = None, shrink: int = 1) -> NDArray[np.uint8]:
    """(H, W, 3) BGR uint8, turned as its EXIF says unless only the unturned picture has the labels' size_wh.

    shrink: 2, 4 or 8 decode a JPEG of size_wh to that part of its sides, rounded up, in less time; any other picture
    comes whole. Raises FacekitError for a file that is missing, too large, no picture, cut off, or of another size
    than size_wh.
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
    if shrink != 1 and size_wh is not None and data.startswith(_JPEG_START) and _jpeg_size(data) == tuple(size_wh):
        image_bgr = _decode(data, _REDUCED[shrink])
        if image_bgr is not None:
            return image_bgr
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
        return data.rfind(_JPEG_END, _first_scan(data)) < 0
    if data.startswith(b"\x89PNG"):
        return b"IEND" not in data
    if data.startswith(b"RIFF"):
        return len(data) < 8 + int.from_bytes(data[4:8], "little")
    return data.startswith(b"BM") and len(data) < int.from_bytes(data[2:6], "little")


def is_damaged(data: bytes) -> bool:
    """Whether among a JPEG's pixels stands a marker that can't be there, as foreign bytes over the file's own leave.

    OpenCV decodes such a file, with other pixels from there on. In pixels 0xFF is followed by 0 or a restart marker
    (T.81, B.1.1.5), so N arbitrary bytes go unnoticed with a chance of about (1 - 1/256)^N, and zeros always.
    False for anything but a JPEG.
    """
    if not data.startswith(_JPEG_START):
        return False
    place = _first_scan(data)
    while data[place : place + 2] != _JPEG_END:
        if data[place : place + 1] != b"\xff" or data[place + 1 : place + 2] not in _JPEG_BETWEEN_SCANS:
            return True
        marker, place = data[place : place + 2], _behind_segment(data, place)
        if marker == _JPEG_SCAN:
            found = _JPEG_MARKER.search(data, place)
            place = found.start() if found else len(data)
    return False


def picture_size(path: Path) -> tuple[int, int]:
    """Width and height of what read_picture(path) gives, from the header where that says it (JPEG, PNG).

    Raises FacekitError as read_picture does; a file that breaks off behind its header goes unnoticed.
    """
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise FacekitError(f"{path}: the picture can't be read ({error.strerror}). Check the path.") from error
    size_wh = _jpeg_size(head) if head.startswith(_JPEG_START) else _png_size(head)
    if size_wh is None or min(size_wh) < 1:
        height, width = read_picture(path).shape[:2]
        return width, height
    return size_wh


def _png_size(head: bytes) -> tuple[int, int] | None:
    if not head.startswith(_PNG_START) or head[12:16] != b"IHDR" or len(head) < 33 or b"eXIf" in head:
        return None
    return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")


def _jpeg_size(head: bytes) -> tuple[int, int] | None:
    """None where the head is too short or unusual: the caller decodes."""
    place, turned = len(_JPEG_START), False
    while place + 9 <= len(head) and head[place] == 0xFF:
        marker, length = head[place + 1], int.from_bytes(head[place + 2 : place + 4], "big")
        if marker in (0xC0, 0xC1, 0xC2):  # start of frame: baseline, extended, progressive
            height, width = (int.from_bytes(head[i : i + 2], "big") for i in (place + 5, place + 7))
            return (height, width) if turned else (width, height)
        if (0xC3 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)) or length < 2:
            return None
        segment = head[place + 4 : place + 2 + length]
        if marker == 0xE1 and segment.startswith(b"Exif\0\0"):
            orientation = _orientation(segment[6:])
            if orientation is None:
                return None
            turned = 5 <= orientation <= 8
        place += 2 + length
    return None


def _orientation(tiff: bytes) -> int | None:
    """EXIF's orientation 1..8, 1 where there is none; None where this isn't as it should be."""
    order: Literal["little", "big"]
    if tiff.startswith(b"II*\0"):
        order = "little"
    elif tiff.startswith(b"MM\0*"):
        order = "big"
    else:
        return None

    def number(place: int, count: int) -> int:
        return int.from_bytes(tiff[place : place + count], order)

    start = number(4, 4)
    entries = range(start + 2, start + 2 + 12 * number(start, 2), 12)
    if start < 8 or entries.stop > len(tiff):
        return None
    for entry in entries:
        if number(entry, 2) == 0x0112:
            return number(entry + 8, 2) if number(entry + 2, 2) == 3 else None
    return 1


def _first_scan(data: bytes) -> int:
    """Where a JPEG's pixels start: behind its segments, one of which may hold a whole JPEG of its own (a thumbnail)."""
    place = len(_JPEG_START)
    while data[place : place + 1] == b"\xff" and data[place : place + 2] != _JPEG_SCAN:
        place = _behind_segment(data, place)
    return place


def _behind_segment(data: bytes, place: int) -> int:
    """Where the marker behind the one at place is."""
    place += 2 + max(2, int.from_bytes(data[place + 2 : place + 4], "big"))
    while data[place : place + 2] == b"\xff\xff":  # markers may begin with several
        place += 1
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
