"""Pictures that are copies of each other: re-encoded, resized, a little brighter; not flipped or cropped ones.

Two stages. A 64-bit difference hash (is each cell of a 9x8 grey thumbnail darker than its right neighbour?) is compared
with all others, in blocks, by a vectorised popcount: exact at any distance, 20,000 random hashes in 1.7 s of one core.
Then 32x32 grey thumbnails decide, as dark and flat pictures have hashes that mean nothing.

The limits are from 1,866 WIDER FACE pictures. Copies (JPEG quality 20 and 50, half and quarter size, 20 levels
brighter) differ in 0 to 12 bits, 4 in 99 %, and by 10 levels on average. Of the pairs of different pictures within 12
bits none comes nearer than 26 levels. Frames of a standing camera are nearer (2 to 14 levels), but their moved people
change single cells by 49 levels and more, which copies seldom reach.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from facekit.pictures.read import as_uint8

HASH_BITS = 10  # bits that may differ, of 64
MEAN_LEVELS = 8.0  # grey levels that thumbnails may differ on average, once equally bright,
CONTRAST_SHARE = 0.25  # ... and as a share of their contrast, as flat pictures differ by little,
CELL_LEVELS = 40.0  # ... and in any one cell
BRIGHTNESS_LEVELS = 24.0  # grey levels that the mean brightness may differ
_SIDE = 32
_BLOCK = 128  # pictures compared with all others at a time: 30 MB for 30,000


class Prints(NamedTuple):
    """What N pictures are recognised by."""

    hashes: NDArray[np.uint64]  # (N,)
    thumbnails: NDArray[np.uint8]  # (N, 32, 32) grey

    def at(self, rows: NDArray[np.int64]) -> Prints:
        return Prints(self.hashes[rows], self.thumbnails[rows])


def thumbnail_of(image_bgr: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(32, 32) grey."""
    grey = cv2.cvtColor(image_bgr, cv2.COLOR_BGR2GRAY)
    return as_uint8(cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA))


def prints_of(thumbnails: NDArray[np.uint8]) -> Prints:
    """The prints of (N, 32, 32) thumbnails."""
    hashes = np.zeros(len(thumbnails), dtype=np.uint64)
    for row, thumbnail in enumerate(thumbnails):
        cells = cv2.resize(thumbnail.astype(np.float32), (9, 8), interpolation=cv2.INTER_AREA)
        hashes[row] = np.packbits(cells[:, 1:] > cells[:, :-1]).view(np.uint64)[0]
    return Prints(hashes, thumbnails.reshape(-1, _SIDE, _SIDE))


def find_copies(prints: Prints, order: NDArray[np.int64]) -> NDArray[np.int64]:
    """(N,) the picture that each is a copy of, -1 for originals.

    Pictures are taken in `order` (N,); each is compared with the originals before it, so that a chain of slowly
    changing frames isn't taken for one picture.
    """
    copy_of = np.full(len(prints.hashes), -1, dtype=np.int64)
    originals = np.empty(0, dtype=np.int64)
    for start in range(0, len(order), _BLOCK):
        block = order[start : start + _BLOCK]
        rows, columns = _near(prints.at(block), prints.at(originals))
        copy_of[block[rows[::-1]]] = originals[columns[::-1]]  # of several, the first
        left = block[copy_of[block] < 0]
        rows, columns = _near(prints.at(left), prints.at(left))
        for later, earlier in zip(rows.tolist(), columns.tolist(), strict=True):  # by row: all earlier ones are settled
            if earlier < later and copy_of[left[later]] < 0 and copy_of[left[earlier]] < 0:
                copy_of[left[later]] = left[earlier]
        originals = np.concatenate([originals, left[copy_of[left] < 0]])
    return copy_of


def find_in(prints: Prints, others: Prints) -> NDArray[np.int64]:
    """(N,) the first of the others that each picture is a copy of, -1 where there is none."""
    found = np.full(len(prints.hashes), -1, dtype=np.int64)
    for start in range(0, len(found), _BLOCK):
        block = np.arange(start, min(start + _BLOCK, len(found)))
        rows, columns = _near(prints.at(block), others)
        found[block[rows[::-1]]] = columns[::-1]
    return found


def _near(first: Prints, second: Prints) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the first and of the second that are copies, by row of the first, then of the second."""
    bits = np.bitwise_count(first.hashes[:, None] ^ second.hashes)
    rows, columns = np.nonzero(bits <= HASH_BITS)
    good = np.zeros(len(rows), dtype=bool)
    for start in range(0, len(rows), 1024):
        part = slice(start, start + 1024)
        good[part] = _alike(first.thumbnails[rows[part]], second.thumbnails[columns[part]])
    return rows[good], columns[good]


def _alike(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """(P,) whether thumbnails (P, 32, 32) show the same, row by row."""
    a, b = first.reshape(len(first), -1).astype(np.float32), second.reshape(len(second), -1).astype(np.float32)
    mean_a, mean_b = a.mean(axis=1, keepdims=True), b.mean(axis=1, keepdims=True)
    difference = np.abs((a - mean_a) - (b - mean_b))
    contrast = np.minimum(a.std(axis=1), b.std(axis=1))
    near = difference.mean(axis=1) <= np.minimum(MEAN_LEVELS, 1 + CONTRAST_SHARE * contrast)
    equally_bright = np.abs(mean_a - mean_b)[:, 0] <= BRIGHTNESS_LEVELS
    alike: NDArray[np.bool_] = near & equally_bright & (difference.max(axis=1) <= CELL_LEVELS)
    return alike
