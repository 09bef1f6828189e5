"""EXIF that may stay with a picture whose faces were covered: written anew, of known tags in which no picture has
room. A list of what goes would never end: previews lie in makers' notes, Photoshop's and XMP's blocks, further
directories, comments, and behind the last directory."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

MAX_ENTRIES = 1000  # of a directory that is read
MAX_TEXT_BYTES, MAX_NUMBERS, MAX_PLAIN_BYTES = 1024, 6, 4  # of a value
MAX_BYTES = 32 << 10  # of all that is written; JPEG has room for 64 KiB
_BYTE, _ASCII, _SHORT, _LONG, _UNDEFINED, _UTF8 = 1, 2, 3, 4, 7, 129
_NUMBER_BYTES = {_SHORT: 2, _LONG: 4, 5: 8, 9: 4, 10: 8}  # 5, 10: RATIONAL, SRATIONAL; 9: SLONG
_TEXT_SIGNS = b"\0\t\n\r"  # beside what is printable; NUL ends a text, and stands between two in Copyright
_ORIENTATION = 0x0112


@dataclass(frozen=True)
class _Kept:
    """What stays of a directory (tags: Exif 3.0, 4.6), and the directories that it leads to."""

    tags: frozenset[int]
    inner: dict[int, _Kept] = field(default_factory=dict)


@dataclass(frozen=True)
class _Value:
    kind: int
    count: int
    data: bytes


_Directory = dict[int, "_Value | _Directory"]

_INTEROPERABILITY = _Kept(frozenset({0x0001, 0x0002}))
_GPS = _Kept(frozenset(range(0x20)) - {0x1B, 0x1C})  # but for comments of any kind
_EXIF = _Kept(
    frozenset({
        0x829A, 0x829D, 0x8822, 0x8824, 0x8827, 0x8830, 0x8831, 0x8832, 0x8833, 0x8834, 0x8835,  # exposure
        0x9000, 0x9003, 0x9004, 0x9010, 0x9011, 0x9012, 0x9290, 0x9291, 0x9292,  # version, times
        0x9101, 0xA000, 0xA001, 0xA300, 0xA301, 0xA500,  # colours, source
        *range(0x9201, 0x920B), *range(0x9400, 0x9406),  # shutter to focal length; temperature to the camera's angle
        0xA20B, 0xA20E, 0xA20F, 0xA210, 0xA215, 0xA217, *range(0xA401, 0xA40B), 0xA40C,  # sensor, scene
        0xA420, *range(0xA430, 0xA436),  # the picture's id; owner, body, lens
    }),
    {0xA005: _INTEROPERABILITY},
)  # fmt: skip
_FIRST = _Kept(
    frozenset({
        0x010E, 0x010F, 0x0110, 0x0112, 0x011A, 0x011B, 0x0128,  # description, make, model, orientation, resolution
        0x0131, 0x0132, 0x013B, 0x013C, 0x013E, 0x013F, 0x8298,  # software, time, artist, computer, white, copyright
    }),
    {0x8769: _EXIF, 0x8825: _GPS},
)  # fmt: skip


def without_pictures(exif: bytes) -> bytes | None:
    """What describes the picture in the EXIF (a TIFF), upright, in the same byte order. None for what can't be read so
    far, or holds nothing of that: it is better left out."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return None
    try:
        (start,) = struct.unpack_from(order + "I", exif, 4)
        kept = _read(exif, start, order, _FIRST)
    except (struct.error, ValueError):
        return None
    if _ORIENTATION in kept:
        kept[_ORIENTATION] = _Value(_SHORT, 1, struct.pack(order + "H", 1))
    written = exif[:4] + struct.pack(order + "I", 8) + _written(kept, 8, order)
    return written if kept and len(written) <= MAX_BYTES else None


def _read(exif: bytes, start: int, order: str, kept: _Kept) -> _Directory:
    """Raises struct.error or ValueError for a directory that is cut off, or has too many entries."""
    (count,) = struct.unpack_from(order + "H", exif, start)
    if count > MAX_ENTRIES:
        raise ValueError("too many entries")
    found: _Directory = {}
    for place in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind, count, where = struct.unpack_from(order + "HHII", exif, place)
        if tag in kept.inner:
            if inner := _read(exif, where, order, kept.inner[tag]):
                found[tag] = inner
        elif tag in kept.tags and (length := _plain_length(kind, count)):
            first = place + 8 if length <= 4 else where
            data = exif[first : first + length]
            if len(data) == length and (kind not in (_ASCII, _UTF8) or _is_text(data)):
                found[tag] = _Value(kind, count, data)
    return found


def _plain_length(kind: int, count: int) -> int:
    """The bytes of a value; 0 where it is of no plain kind, or larger than such values are."""
    if kind in (_ASCII, _UTF8):
        return count if count <= MAX_TEXT_BYTES else 0
    if kind in (_BYTE, _UNDEFINED):
        return count if count <= MAX_PLAIN_BYTES else 0
    return count * _NUMBER_BYTES.get(kind, 0) if count <= MAX_NUMBERS else 0


def _is_text(data: bytes) -> bool:
    """Whether there are only signs of a text, in whatever alphabet: a picture's bytes have others."""
    return all((byte >= 0x20 and byte != 0x7F) or byte in _TEXT_SIGNS for byte in data)


def _written(directory: _Directory, start: int, order: str) -> bytes:
    """The directory as it stands at `start`, its values and inner directories behind it, and none that follows it."""
    behind_start = start + 2 + 12 * len(directory) + 4
    entries, behind = struct.pack(order + "H", len(directory)), b""
    for tag, value in sorted(directory.items(), key=lambda item: item[0]):
        place = behind_start + len(behind)
        if isinstance(value, dict):
            entries += struct.pack(order + "HHII", tag, _LONG, 1, place)
            behind += _written(value, place, order)
            continue
        entries += struct.pack(order + "HHI", tag, value.kind, value.count)
        if len(value.data) <= 4:
            entries += value.data.ljust(4, b"\0")
        else:
            entries += struct.pack(order + "I", place)
            behind += value.data + bytes(len(value.data) % 2)  # values begin at even places
    return entries + bytes(4) + behind
