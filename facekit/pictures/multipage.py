"""Files that hold several pictures: animated GIF, PNG, WebP and AVIF, TIFF of many pages, JPEG of many pictures (MPO).
Of them one alone is read."""

from __future__ import annotations

import io
import struct
import tempfile
from pathlib import Path
from typing import BinaryIO

import cv2

from facekit.base.reading import open_file
from facekit.errors import FacekitError
from facekit.pictures.headers import JPEG_START, png_chunks, read_header

HEAD_BYTES = 1 << 16
MAX_BYTES = 1 << 40  # of a file whose head alone is read
MOST_SEGMENTS = MOST_PICTURES = 1000  # of a JPEG, that are looked at
# Of a JPEG's further pictures, which phones use for how bright the first can be shown: Ultra HDR, Apple, ISO 21496-1.
BRIGHTNESS = (b"ns.adobe.com/hdr-gain-map", b"hdrgainmap", b"HDRGainMap", b"urn:iso:std:iso:ts:21496")


def frames_left_out(picture: Path | bytes) -> str | None:
    """Of a file, or of its bytes: all pictures but the first, which is what is looked at, in words; None for one alone.
    The bytes tell, not the suffix. Raises nothing: a picture that can't be read is told of when it is read."""
    if isinstance(picture, bytes):
        if (count := _count(io.BytesIO(picture))) is not None:
            return _in_words(count)
        try:
            with tempfile.NamedTemporaryFile(prefix="facekit-") as file:  # OpenCV counts in files alone
                file.write(picture)
                file.flush()
                return _in_words(_count_by_opencv(file.name))
        except OSError as error:  # such as a full disk
            return f"whether it holds more than one picture can't be told ({error.strerror or error})"
    try:
        with open_file(picture, MAX_BYTES, "Check the path.") as opened:
            count = _count(opened)
    except (FacekitError, OSError):
        return None
    return _in_words(_count_by_opencv(str(picture)) if count is None else count)


def _count(file: BinaryIO) -> int | None:
    """How many pictures the file holds; None where OpenCV has to count them."""
    head = file.read(len(JPEG_START)) or b""
    if head == JPEG_START:  # most are, and are not read twice
        return _count_in_jpeg(file)
    head += file.read(HEAD_BYTES) or b""
    header = read_header(head)
    if header is None:
        return 1
    if header.kind == "PNG":  # its control chunk stands before the pixels (APNG, W3C PNG third edition, 11.3.6.1)
        is_animated = next((name for name in png_chunks(file) if name in (b"acTL", b"IDAT")), b"") == b"acTL"
    elif header.kind == "WebP":  # RFC 9649, 2.7.1: the extended header's flag
        is_animated = head[12:16] == b"VP8X" and bool(int.from_bytes(head[20:21], "big") & 2)
    else:
        is_animated = header.kind in ("GIF", "TIFF") or b"avis" in head[:64]
    return None if is_animated else 1


def _count_in_jpeg(file: BinaryIO) -> int:
    """Looks for the segment of the Multi-Picture Format (CIPA DC-007), APP2, which stands before the frame."""
    place = len(JPEG_START)
    for _ in range(MOST_SEGMENTS):
        file.seek(place)
        head = file.read(8)
        length = int.from_bytes(head[2:4], "big")
        is_extra = head[1:2] in (b"\xc4", b"\xdb", b"\xdd", b"\xfe") or 0xE0 <= int.from_bytes(head[1:2], "big") < 0xF0
        if len(head) < 8 or head[0] != 0xFF or not is_extra or length < 2:
            return 1
        if head[1] == 0xE2 and head[4:] == b"MPF\0":
            try:
                return _count_in_mpf(file, place + 8, file.read(length - 6))
            except (struct.error, KeyError):  # cut off or damaged
                return 1
        place += 2 + length
    return 1


def _count_in_mpf(file: BinaryIO, base: int, data: bytes) -> int:
    """Without what belongs to the first picture: larger thumbnails, and how bright it can be shown. base: the place in
    the file that the segment's data, and the places in it, count from."""
    order = "<" if data.startswith(b"II") else ">"
    (start,) = struct.unpack_from(order + "I", data, 4)
    (number,) = struct.unpack_from(order + "H", data, start)
    tags = {}
    for entry in range(start + 2, start + 2 + 12 * number, 12):
        tag, _, length, value = struct.unpack_from(order + "HHII", data, entry)
        tags[tag] = length, value
    length, entries = tags[0xB002]
    size_wh, count = None, 1
    for entry in range(entries + 16, entries + length, 16)[:MOST_PICTURES]:
        kind, _, offset = struct.unpack_from(order + "III", data, entry)
        if kind & 0xFF0000 == 0 and offset:  # of no kind that the standard names: pages, or what phones add
            size_wh = size_wh or _size_wh(file, 0)
            file.seek(base + offset)
            other = file.read(HEAD_BYTES)
            is_brightness = any(word in other for word in BRIGHTNESS)
            count += not is_brightness and _size_wh(file, base + offset) == size_wh
        elif kind & 0xFF0000 == 0x020000:  # panoramas, pictures for both eyes, from several angles
            count += 1
    return count


def _size_wh(file: BinaryIO, place: int) -> tuple[int, int] | None:
    file.seek(place)
    header = read_header(file.read(4 * HEAD_BYTES))
    return None if header is None else header.size_wh


def _count_by_opencv(path: str) -> int:
    try:
        return int(cv2.imcount(path))
    except cv2.error:
        return 1


def _in_words(count: int) -> str | None:
    if count < 2:
        return None
    return f"{count - 1} of its {count} frames or pages: the first alone is looked at. Make a video of it, or pictures"
