"""What a picture's first bytes say, before anything is decoded: its kind, its size, whether it is to be turned.

JPEG: ITU T.81, B.2.2; PNG: the W3C's specification, 11.2.2; WebP: RFC 9649; GIF89a, 18; BMP: the DIB headers; TIFF 6.0,
and BigTIFF; AVIF and HEIC: ISO/IEC 23008-12, 6.5.3.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

MAX_PIXELS = 178_956_970  # of a picture that is decoded: half a gigabyte as BGR; Pillow's own limit
JPEG_START, PNG_START = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_TIFF_SIZES = {1: 1, 3: 2, 4: 4, 16: 8}  # bytes of a value, by its type: BYTE, SHORT, LONG, LONG8


@dataclass(frozen=True)
class Header:
    """What the bytes at hand say of a picture."""

    kind: str  # as people call it: JPEG, PNG, ...
    size_wh: tuple[int, int] | None = None  # as it is stored, before turning; None: they don't say it
    is_turned: bool | None = None  # whether width and height change places in the end; None: only decoding tells
    has_more_than_colours: bool = False  # of a TIFF: a sample beside them that isn't unspecified, so its transparency
    tile_wh: tuple[int, int] = (0, 0)  # decoders make room for a tile even where the picture is smaller

    @property
    def pixels(self) -> int | None:
        """For which a decoder makes room."""
        if self.size_wh is None:
            return None
        return max(self.size_wh[0], self.tile_wh[0]) * max(self.size_wh[1], self.tile_wh[1])


def read_header(data: bytes) -> Header | None:
    """Of a picture's bytes or the first of them; None for a kind that isn't read."""
    if data.startswith(JPEG_START):
        return _jpeg(data)
    if data.startswith(PNG_START):
        return _png(data)
    if data.startswith(b"BM"):
        return _bmp(data)
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return _sized("GIF", "<HH", data, 6, is_turned=False)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return _webp(data)
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return _tiff(data)
    return _heif(data) if data[4:8] == b"ftyp" else None


def _sized(kind: str, layout: str, data: bytes, place: int, is_turned: bool | None = None) -> Header:
    """Width and height as two numbers in the layout of struct."""
    if len(data) < place + struct.calcsize(layout):
        return Header(kind)
    width, height = struct.unpack_from(layout, data, place)
    return Header(kind, (abs(width), abs(height)), is_turned)  # BMP's height is negative where rows run downward


def _jpeg(data: bytes) -> Header:
    """Walks the segments as libjpeg does: bytes between two of them are skipped. Of several EXIF the first counts; it
    may stand behind the frame's header."""
    place = len(JPEG_START)
    size_wh: tuple[int, int] | None = None
    orientation: int | None = 1
    has_exif = is_whole = False
    while (place := data.find(b"\xff", place)) >= 0 and place + 9 <= len(data):
        marker, length = data[place + 1], int.from_bytes(data[place + 2 : place + 4], "big")
        if marker in (0x00, 0x01, 0xFF) or 0xD0 <= marker <= 0xD7:  # stuffed, alone, fill
            place += 1
        elif marker in (0xD8, 0xD9, 0xDA) or length < 2:  # start, end, pixels
            is_whole = True
            break
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # start of frame
            height, width = struct.unpack_from(">HH", data, place + 5)
            size_wh = size_wh or (width, height)
            place += 2 + length
        else:
            if marker == 0xE1 and data[place + 4 : place + 10] == b"Exif\0\0" and not has_exif:
                has_exif = True
                orientation = tiff_orientation(data[place + 10 : place + 2 + length])
            place += 2 + length
    if size_wh is None:
        return Header("JPEG")
    is_known = orientation is not None and (has_exif or is_whole)
    return Header("JPEG", size_wh, 5 <= (orientation or 1) <= 8 if is_known else None)


def _png(data: bytes) -> Header:
    if data[12:16] != b"IHDR":
        return Header("PNG")
    return _sized("PNG", ">II", data, 16, is_turned=None if b"eXIf" in data else False)


def has_exif_behind(file: BinaryIO) -> bool:
    """Whether one of a PNG's chunks is its EXIF, wherever it stands: it may stand behind the pixels."""
    return b"eXIf" in png_chunks(file)


def png_chunks(file: BinaryIO) -> Iterator[bytes]:
    """The names of a PNG's chunks, in their order."""
    place, name = len(PNG_START), b""
    while name != b"IEND" and file.seek(place) == place and len(head := file.read(8)) == 8:
        name = head[4:]
        yield name
        place += 12 + int.from_bytes(head[:4], "big")


def _bmp(data: bytes) -> Header:
    is_old = data[14:18] == b"\x0c\0\0\0"  # OS/2's
    return _sized("BMP", "<HH" if is_old else "<ii", data, 18, is_turned=False)


def _webp(data: bytes) -> Header:
    part = data[12:16]
    if part == b"VP8 " and data[23:26] == b"\x9d\x01\x2a" and len(data) >= 30:
        width, height = struct.unpack_from("<HH", data, 26)
        return Header("WebP", (width & 0x3FFF, height & 0x3FFF), is_turned=False)
    if part == b"VP8L" and len(data) >= 25:
        bits = int.from_bytes(data[21:25], "little")
        return Header("WebP", ((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1), is_turned=False)
    if part == b"VP8X" and len(data) >= 30:
        width, height = (int.from_bytes(data[place : place + 3], "little") + 1 for place in (24, 27))
        has_exif = bool(data[20] & 0x08)
        return Header("WebP", (width, height), is_turned=None if has_exif else False)
    return Header("WebP")


def _tiff(data: bytes) -> Header:
    """Of the first picture in the file."""
    sizes: dict[int, int] = {}
    orientation = 1
    for tag, value in _tiff_values(data):
        if tag == 0x0112:
            orientation = value
        else:
            sizes[tag] = max(value, sizes.get(tag, 0))
    if not {256, 257} <= sizes.keys():
        return Header("TIFF")
    tile_wh = sizes.get(322, 0), sizes.get(323, 0)
    has_more = sizes.get(338, 0) != 0  # 999 of some writers is transparency, too
    return Header("TIFF", (sizes[256], sizes[257]), False if orientation == 1 else None, has_more, tile_wh)


def _tiff_values(data: bytes) -> Iterator[tuple[int, int]]:
    """Tag and value of the first directory's width, height, orientation, tile width and height, and of the first of its
    samples beside colours (ExtraSamples)."""
    order = "<" if data.startswith(b"II") else ">"
    is_big = 43 in data[2:4]
    offset, count, entry, room = ("Q", "Q", "HHQ", 8) if is_big else ("I", "H", "HHI", 4)
    try:
        (start,) = struct.unpack_from(order + offset, data, 8 if is_big else 4)
        (number,) = struct.unpack_from(order + count, data, start)
        place = start + struct.calcsize(order + count)
        for _ in range(min(number, 4096)):
            tag, type_, values = struct.unpack_from(order + entry, data, place)
            place += struct.calcsize(order + entry)
            if ((tag in (256, 257, 274, 322, 323) and values == 1) or tag == 338) and type_ in _TIFF_SIZES:
                raw = data[place : place + _TIFF_SIZES[type_]]
                if len(raw) < _TIFF_SIZES[type_]:
                    return
                yield tag, int.from_bytes(raw, "little" if order == "<" else "big")
            place += room
    except struct.error:  # beyond the bytes at hand
        return


def tiff_orientation(data: bytes) -> int | None:
    """EXIF's orientation 1..8 of a TIFF, 1 where there is none; None where this isn't as it should be."""
    if data[:4] not in (b"II*\0", b"MM\0*"):
        return None
    order = "<" if data.startswith(b"II") else ">"
    try:
        (start,) = struct.unpack_from(order + "I", data, 4)
        (number,) = struct.unpack_from(order + "H", data, start)
        if start < 8:
            return None
        for entry in range(start + 2, start + 2 + 12 * number, 12):
            tag, type_, _, value = struct.unpack_from(order + "HHIH", data, entry)
            if tag == 0x0112:
                return int(value) if type_ == 3 else None
    except struct.error:
        return None
    return 1


def _heif(data: bytes) -> Header | None:
    """The largest size of any item: a picture in tiles has one of its own, and one for each tile."""
    length = int.from_bytes(data[:4], "big")
    brands = {data[place : place + 4] for place in (8, *range(16, min(length, 256), 4))}
    if brands & {b"avif", b"avis"}:
        kind = "AVIF"
    elif brands.intersection(_HEIF_BRANDS):
        kind = "HEIC"
    else:
        return None
    sizes = []
    place = data.find(b"ispe")
    while place >= 0 and place + 16 <= len(data):
        width, height = struct.unpack_from(">II", data, place + 8)
        sizes.append((width, height))
        place = data.find(b"ispe", place + 4)
    return Header(kind, max(sizes, key=lambda size_wh: size_wh[0] * size_wh[1]) if sizes else None)
