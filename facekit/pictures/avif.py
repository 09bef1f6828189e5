"""How an AVIF is to be turned: by properties of its own, which OpenCV passes over and every viewer applies.

ISO/IEC 23008-12, 6.5.10 (irot) and 6.5.12 (imir); ISO/IEC 23000-22 (MIAF), 7.3.6.7: cut out first, then turned, then
mirrored.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facekit.errors import FacekitError

MAX_BOXES = 4096  # of a level


def turned_avif(path: Path | str, data: bytes, image_bgr: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W, 3) as OpenCV decodes it, as a viewer shows it. Raises FacekitError where that is a part of it."""
    properties = _properties(data)
    if b"clap" in properties:
        raise FacekitError(f"{path}: an AVIF of which viewers show a part alone (clap). Make a JPEG or PNG of it.")
    turned = np.rot90(image_bgr, _first(properties, b"irot") & 3)  # anticlockwise, as irot counts
    if b"imir" in properties:
        turned = turned[:, ::-1] if _first(properties, b"imir") & 1 else turned[::-1]
    return np.ascontiguousarray(turned)


def _first(properties: dict[bytes, bytes], name: bytes) -> int:
    """The first byte of a property; 0 where there is none."""
    return int.from_bytes(properties.get(name, b"")[:1], "big")


def _properties(data: bytes) -> dict[bytes, bytes]:
    """Name and content of the item properties, of each name the first: pictures of several items share them."""
    found: dict[bytes, bytes] = {}
    for name, content in _boxes(data):
        if name == b"meta":
            for inner, part in _boxes(content[4:]):  # behind version and flags
                if inner == b"iprp":
                    for container, boxes in _boxes(part):
                        if container == b"ipco":
                            for kind, value in _boxes(boxes):
                                found.setdefault(kind, value)
    return found


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and content of the boxes that lie one behind the other; what is cut off ends them."""
    place = 0
    for _ in range(MAX_BOXES):
        size, head = int.from_bytes(data[place : place + 4], "big"), 8
        if size == 1:
            size, head = int.from_bytes(data[place + 8 : place + 16], "big"), 16
        elif size == 0:  # up to the end
            size = len(data) - place
        if size < head or place + size > len(data):
            return
        yield data[place + 4 : place + 8], data[place + head : place + size]
        place += size
