"""EXIF that may stay with a picture whose faces were covered: without the pictures that it holds itself."""

from __future__ import annotations

import struct

_ORIENTATION, _EXIF_IFD, _MAKER_NOTE = 0x0112, 0x8769, 0x927C
_THUMBNAIL_START, _THUMBNAIL_LENGTH = 0x0201, 0x0202
MAX_ENTRIES = 1000


def without_pictures(exif: bytes) -> bytes | None:
    """The same EXIF (a TIFF; Exif 2.32, 4.6), upright, whose thumbnail and maker's notes, which may hold previews, are
    zeros; None for what can't be read so far, which is better left out."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return None
    data = bytearray(exif)
    try:
        (start,) = struct.unpack_from(order + "I", data, 4)
        entries, link = _entries(data, start, order)
        if (place := entries.get(_ORIENTATION)) is not None:
            struct.pack_into(order + "HHIHH", data, place, _ORIENTATION, 3, 1, 1, 0)
        if (place := entries.get(_EXIF_IFD)) is not None:
            (inner,) = struct.unpack_from(order + "I", data, place + 8)
            note = _entries(data, inner, order)[0].get(_MAKER_NOTE)
            if note is not None:
                _, _, count, where = struct.unpack_from(order + "HHII", data, note)
                _blank(data, where if count > 4 else note + 8, count)
        (second,) = struct.unpack_from(order + "I", data, link)
        if second:
            thumbnail, _ = _entries(data, second, order)
            values = [struct.unpack_from(order + "I", data, thumbnail[tag] + 8)[0]
                      for tag in (_THUMBNAIL_START, _THUMBNAIL_LENGTH) if tag in thumbnail]  # fmt: skip
            if len(values) != 2:  # in strips, or otherwise
                return None
            _blank(data, *values)
            struct.pack_into(order + "I", data, link, 0)
    except (struct.error, ValueError):
        return None
    return bytes(data)


def _entries(data: bytearray, start: int, order: str) -> tuple[dict[int, int], int]:
    """Tag -> place of its entry, and the place of the link to the next directory. Raises ValueError for too many."""
    (count,) = struct.unpack_from(order + "H", data, start)
    if count > MAX_ENTRIES:
        raise ValueError("too many entries")
    places = [start + 2 + 12 * number for number in range(count)]
    return {struct.unpack_from(order + "H", data, place)[0]: place for place in places}, start + 2 + 12 * count


def _blank(data: bytearray, start: int, length: int) -> None:
    if start + length > len(data):
        raise ValueError("beyond the end")
    data[start : start + length] = bytes(length)
