"""Files that hold several pictures: animated GIF, PNG, WebP and AVIF, TIFF of many pages. Of them one alone is read."""

from __future__ import annotations

import tempfile
from pathlib import Path

import cv2

from facekit.base.reading import open_file
from facekit.errors import FacekitError
from facekit.pictures.headers import JPEG_START, PNG_START, read_header

HEAD_BYTES = 1 << 16
MAX_BYTES = 1 << 40  # of a file whose head alone is read


def frames_left_out(picture: Path | bytes) -> str | None:
    """Of a file, or of its bytes: all pictures but the first, which is what is looked at, in words; None for one alone.
    The bytes tell, not the suffix. Raises nothing: a picture that can't be read is told of when it is read."""
    if isinstance(picture, bytes):
        if not _may_hold_many(picture[:HEAD_BYTES]):
            return None
        try:
            with tempfile.NamedTemporaryFile(prefix="facekit-") as file:  # OpenCV counts in files alone
                file.write(picture)
                file.flush()
                return _in_words(_count(file.name))
        except OSError as error:  # such as a full disk
            return f"whether it holds more than one picture can't be told ({error.strerror or error})"
    try:
        with open_file(picture, MAX_BYTES, "Check the path.") as opened:
            head = opened.read(len(JPEG_START)) or b""
            if head != JPEG_START:  # most are, and are not read twice
                head += opened.read(HEAD_BYTES) or b""
    except (FacekitError, OSError):
        return None
    return _in_words(_count(str(picture))) if _may_hold_many(head) else None


def _may_hold_many(head: bytes) -> bool:
    header = read_header(head)
    if header is None:
        return False
    if header.kind == "PNG":  # its control chunk stands before the pixels (APNG, W3C PNG third edition, 11.3.6.1)
        return b"acTL" in head[len(PNG_START) :]
    if header.kind == "WebP":  # RFC 9649, 2.7.1: the extended header's flag
        return head[12:16] == b"VP8X" and bool(int.from_bytes(head[20:21], "big") & 2)
    return header.kind in ("GIF", "TIFF") or b"avis" in head[:64]


def _count(path: str) -> int:
    try:
        return int(cv2.imcount(path))
    except cv2.error:
        return 1


def _in_words(count: int) -> str | None:
    if count < 2:
        return None
    return f"{count - 1} of its {count} frames or pages: the first alone is looked at. Make a video of it, or pictures"
