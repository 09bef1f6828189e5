"""Pictures from files that nobody vouches for."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from facekit.base.reading import open_file, read_bytes, stand_in_of_picture
from facekit.errors import FacekitError
from facekit.pictures.avif import turned_avif
from facekit.pictures.headers import JPEG_START, MAX_PIXELS, Header, has_exif_behind, read_header
from facekit.pictures.heif import decode_heif

PICTURE_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".avif", ".heic", ".heif",
)  # fmt: skip
KINDS = "JPEG, PNG, WebP, BMP, TIFF, GIF, AVIF, HEIC"  # of read_header
MAY_BE_TRANSPARENT = ("PNG", "WebP", "BMP", "TIFF", "GIF", "AVIF")
STRIP_ROWS = 256
MAX_PICTURE_BYTES = 256 * 1024 * 1024
MAX_JPEG_SCANS = 200  # a progressive JPEG has about ten; each takes a pass over all pixels
HEAD_BYTES = 1 << 16  # of a file, where its size almost always stands
PLAIN_CORNER = 4  # pixels a side
REMEDY = "Mend the file or leave it out."
_REDUCED = {2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}
_JPEG_SCAN, _JPEG_END = b"\xff\xda", b"\xff\xd9"
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # in pixels: 0 is stuffed, the others restart
_MORE_BYTES = b"\x55" * 64  # more than what a decoder looks ahead, and less than a picture
_JPEG_BETWEEN_SCANS = [bytes([code]) for code in (0xC4, 0xDA, 0xDB, 0xDC, 0xDD, *range(0xE0, 0xF0), 0xFE)]


def read_picture(
    path: Path, size_wh: tuple[int, int] | None = None, shrink: int = 1, max_pixels: int = MAX_PIXELS
) -> NDArray[np.uint8]:
    """(H, W, 3) BGR uint8, turned as its EXIF says unless only the unturned picture has the labels' size_wh.

    shrink: 2, 4 or 8 decode a JPEG of size_wh to that part of its sides, rounded up, in less time; any other picture
    comes whole. Raises FacekitError for a file that is missing, no regular one, too large, no picture, cut off, or of
    another size than size_wh, and, by its header, before it is decoded, for one of more than max_pixels.
    """
    data = read_bytes(path, MAX_PICTURE_BYTES, "Check the path, or leave it out.")
    return decode_picture(path, data, size_wh, shrink, max_pixels)


def decode_picture(
    path: Path | str,
    data: bytes,
    size_wh: tuple[int, int] | None = None,
    shrink: int = 1,
    max_pixels: int = MAX_PIXELS,
    on_white: bool = False,
) -> NDArray[np.uint8]:
    """read_picture() of a file's bytes, wherever they come from; `path` is what messages call them.

    on_white: transparent pictures as they look on white; else what is hidden under their transparent pixels comes to
    light.
    """
    header = _checked_header(path, data, max_pixels)
    if shrink != 1 and size_wh is not None and header.kind == "JPEG" and _final_size(header) == tuple(size_wh):
        image_bgr = _decode(data, _REDUCED[shrink])
        if image_bgr is not None:
            return image_bgr
    image_bgr = _decode_as(path, header, data, cv2.IMREAD_COLOR)
    if image_bgr is not None and size_wh is not None and image_bgr.shape[1::-1] != tuple(size_wh):
        image_bgr = _decode_as(path, header, data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        if image_bgr is not None and image_bgr.shape[1::-1] != tuple(size_wh):
            width, height = image_bgr.shape[1::-1]
            raise FacekitError(
                f"{path}: the labels say {size_wh[0]}x{size_wh[1]} pixels, the picture has {width}x{height}. "
                f"Label the picture that is on the disk, or bring back the one that was labelled."
            )
    if image_bgr is None:
        raise FacekitError(f"{path}: {_why_not_decoded(header, data)}")
    if header.kind == "JPEG" and _has_plain_corner(image_bgr) and lacks_pixels(data):
        raise FacekitError(f"{path}: a damaged JPEG: its data end before its pixels do. {REMEDY}")
    if on_white and header.kind in MAY_BE_TRANSPARENT:
        return _laid_on_white(path, header, data, image_bgr)
    return image_bgr


def _why_not_decoded(header: Header, data: bytes) -> str:
    if header.kind == "TIFF":
        with suppress(cv2.error):
            stored = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
            if stored is not None:
                return f"a TIFF of {stored.dtype} pixels, of no known range. Save it with 8 or 16 bits a channel."
    return f"a damaged {header.kind}: OpenCV can't decode its {len(data)} bytes. {REMEDY}"


def _laid_on_white(path: Path | str, header: Header, data: bytes, image_bgr: NDArray[np.uint8]) -> NDArray[np.uint8]:
    try:
        whole = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        whole = None
    if whole is None or whole.ndim != 3 or whole.shape[2] != 4:
        if header.has_more_than_colours:  # OpenCV drops the transparency of grey ones
            raise FacekitError(
                f"{path}: a TIFF whose transparency can't be read. Save it as PNG, or without transparency."
            )
        return image_bgr
    alpha = whole[..., 3:]
    most = {"uint8": 255, "uint16": 65535}.get(alpha.dtype.name, 1)
    if alpha.min() >= most or (header.kind == "BMP" and not (_has_alpha_mask(data) and alpha.any())):
        return image_bgr
    # OpenCV turns colours alone: transparency stays as it is stored.
    stored_bgr = _decode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if stored_bgr is None or not np.array_equal(image_bgr, stored_bgr):
        raise FacekitError(f"{path}: is transparent, and turned by its EXIF. Save it upright, or without transparency.")
    return lay_on_white(image_bgr, alpha, most)


def _has_alpha_mask(bmp: bytes) -> bool:
    """Whether its header says which bits are alpha; without, or where all of these are 0, they only fill the pixel up
    (BITMAPV3INFOHEADER and later)."""
    return int.from_bytes(bmp[14:18], "little") >= 56 and any(bmp[66:70])


def lay_on_white(image_bgr: NDArray[np.uint8], alpha: NDArray[Any], most: float = 255) -> NDArray[np.uint8]:
    """(H, W, 3) as it looks on white under (H, W, 1), `most` of which covers all."""
    laid = np.empty_like(image_bgr)
    for top in range(0, len(laid), STRIP_ROWS):  # whole, its numbers would take four times the picture's memory
        rows = slice(top, top + STRIP_ROWS)
        share = alpha[rows].astype(np.float32) / most
        laid[rows] = np.rint(image_bgr[rows] * share + 255 * (1 - share))
    return laid


def _checked_header(path: Path | str, data: bytes, max_pixels: int) -> Header:
    """What the file says of itself, which is all that is asked before it is decoded."""
    if not data:
        raise FacekitError(f"{path}: not a picture: the file is empty. {REMEDY}")
    header = read_header(data)
    if header is None:
        what = stand_in_of_picture(data[:HEAD_BYTES])
        if what is not None and not what.endswith("picture"):  # one with a damaged signature is none that is read
            raise FacekitError(f"{path}: not a picture: {what}.")
        raise FacekitError(f"{path}: not a picture of a kind that is read ({KINDS}). {REMEDY}")
    # OpenCV before 5.0 fills the missing rest of a cut-off JPEG with grey and says nothing that a program could hear.
    if header.kind in ("JPEG", "PNG", "WebP") and is_cut_off(data):  # sizes in BMP's headers are often wrong
        raise FacekitError(f"{path}: the {header.kind} is cut off (no end marker in {len(data)} bytes). {REMEDY}")
    if header.pixels is None or header.size_wh is None or min(header.size_wh) < 1:
        raise FacekitError(f"{path}: a damaged {header.kind}: its header says no size. {REMEDY}")
    if header.pixels > max_pixels:
        width, height = header.size_wh
        raise FacekitError(
            f"{path}: {width}x{height} pixels, over the limit of {max_pixels}: not decoded. Scale it down, or raise "
            f"`max_pixels`, where the command has it, if you trust the file and have the memory."
        )
    if header.kind == "JPEG" and data.count(_JPEG_SCAN) > MAX_JPEG_SCANS:
        raise FacekitError(f"{path}: a JPEG of over {MAX_JPEG_SCANS} scans, made to keep decoders busy. {REMEDY}")
    return header


def _final_size(header: Header) -> tuple[int, int] | None:
    """Width and height after turning; None where only decoding tells."""
    if header.size_wh is None or header.is_turned is None:
        return None
    width, height = header.size_wh
    return (height, width) if header.is_turned else (width, height)


def is_cut_off(data: bytes) -> bool:
    """Whether the end of a JPEG, PNG, WebP or BMP is missing; False for anything else."""
    if data.startswith(JPEG_START):
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
    return data.startswith(JPEG_START) and _end_of_scans(data)[0] < 0


def lacks_pixels(data: bytes) -> bool:
    """Whether the data of a JPEG of one scan end before its pixels do, though its end marker is there: decoders fill
    the rest with one colour. OpenCV from 5.0 on, given other bytes for the marker, has enough or wants more. False for
    several scans, as progressive ones have, whose end it looks for."""
    end, scans = _end_of_scans(data)
    return end > 0 and scans == 1 and _decode(data[:end] + _MORE_BYTES, cv2.IMREAD_REDUCED_GRAYSCALE_8) is None


def _has_plain_corner(image_bgr: NDArray[np.uint8]) -> bool:
    """Of one colour: it may be turned, so which corner was the last is not known."""
    sides = (slice(None, PLAIN_CORNER), slice(-PLAIN_CORNER, None))
    corners = [image_bgr[rows, columns] for rows in sides for columns in sides]
    return any((corner == corner[0, 0]).all() for corner in corners)


def _end_of_scans(data: bytes) -> tuple[int, int]:
    """Where a JPEG's end marker is, -1 where another one stands that can't be there; and how many scans are before."""
    place, scans = _first_scan(data), 0
    while data[place : place + 2] != _JPEG_END:
        if data[place : place + 1] != b"\xff" or data[place + 1 : place + 2] not in _JPEG_BETWEEN_SCANS:
            return -1, scans
        marker, place = data[place : place + 2], _behind_segment(data, place)
        if marker == _JPEG_SCAN:
            scans += 1
            found = _JPEG_MARKER.search(data, place)
            place = found.start() if found else len(data)
    return place, scans


def picture_size(path: Path, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Width and height of what read_picture(path) gives, from the header where that says it.

    Raises FacekitError as read_picture does; a file that breaks off behind its header goes unnoticed.
    """
    with open_file(path, MAX_PICTURE_BYTES, "Check the path, or leave it out.") as file:
        header = read_header(file.read(HEAD_BYTES) or b"")
        if header is not None and header.kind == "PNG" and header.is_turned is False and has_exif_behind(file):
            header = None
    size_wh = _final_size(header) if header is not None else None
    if size_wh is None or min(size_wh) < 1 or size_wh[0] * size_wh[1] > max_pixels:
        height, width = read_picture(path, max_pixels=max_pixels).shape[:2]
        return width, height
    return size_wh


def _first_scan(data: bytes) -> int:
    """Where a JPEG's pixels start: behind its segments, one of which may hold a whole JPEG of its own (a thumbnail)."""
    place = len(JPEG_START)
    while data[place : place + 1] == b"\xff" and data[place : place + 2] != _JPEG_SCAN:
        place = _behind_segment(data, place)
    return place


def _behind_segment(data: bytes, place: int) -> int:
    """Where the marker behind the one at place is."""
    place += 2 + max(2, int.from_bytes(data[place + 2 : place + 4], "big"))
    while data[place : place + 2] == b"\xff\xff":  # markers may begin with several
        place += 1
    return place


def _decode_as(path: Path | str, header: Header, data: bytes, flags: int) -> NDArray[np.uint8] | None:
    if header.kind == "HEIC":
        return decode_heif(path, data)
    decoded = _decode(data, flags)
    if header.kind == "AVIF" and decoded is not None and not flags & cv2.IMREAD_IGNORE_ORIENTATION:
        return turned_avif(path, data, decoded)
    return decoded


def _decode(data: bytes, flags: int) -> NDArray[np.uint8] | None:
    try:
        decoded = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), flags)
        return None if decoded is None else as_uint8(decoded)
    except cv2.error:  # such as more pixels than OpenCV's own limit
        return None


def as_uint8(image: Any) -> NDArray[np.uint8]:
    """What OpenCV returns, under the type that it has: no copy."""
    return np.asarray(image, dtype=np.uint8)
