from __future__ import annotations

from typing import get_args

import cv2
import numpy as np
import pytest

from facekit.pictures.contact_sheet import ContactSheet
from facekit.pictures.cover import Cover, Method, cover_faces
from facekit.pictures.exif import without_pictures
from tests.pictures.support import faces

BOX = np.array([[40, 30, 100, 120]], np.float32)


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (160, 200, 3), np.uint8)


@pytest.mark.parametrize("method", get_args(Method))
def test_what_is_left_of_a_face_is_at_most_its_blocks(noise: np.ndarray, method: Method) -> None:
    """Pictures whose sixths of the face have the same means give the same cover: nothing else gets through."""
    cover = Cover(method, "box", margin=0.0)
    other = noise.copy()
    part = other[30:120, 40:100]
    blocks = part.reshape(6, 15, 6, 10, 3)
    part[:] = blocks[:, ::-1, :, ::-1].reshape(90, 60, 3)  # each block turned round
    if method == "mosaic":  # its grid is the picture's: fifteen quarters of 23 pixels do not fit the sixths
        covered = cover_faces(noise, BOX, cover)[30:120, 40:100]
        assert len(np.unique(covered.reshape(-1, 3), axis=0)) <= 5 * 4
        return
    assert np.array_equal(
        cover_faces(noise, BOX, cover)[30:120, 40:100], cover_faces(other, BOX, cover)[30:120, 40:100]
    )


@pytest.mark.parametrize("method", get_args(Method))
@pytest.mark.parametrize("shape", ["ellipse", "box"])
def test_covers_the_face_and_nothing_far_from_it(noise: np.ndarray, method: Method, shape: str) -> None:
    before = noise.copy()
    covered = cover_faces(noise, BOX, Cover(method, shape, 0.2))  # type: ignore[arg-type]
    assert np.array_equal(noise, before)
    changed = (covered != noise).any(axis=2)
    y, x = np.mgrid[:160, :200]
    inner = ((x - 70) / 30) ** 2 + ((y - 75) / 45) ** 2 < 0.95
    assert changed[inner].mean() > 0.97
    outer = (x < 27) | (x > 113) | (y < 11) | (y > 139)
    assert not changed[outer].any()
    corner = changed[13:20, 30:36].mean()
    assert corner > 0.9 if shape == "box" else corner == 0


def test_a_margin_makes_no_finer_blocks(noise: np.ndarray) -> None:
    covered = cover_faces(noise, BOX, Cover("pixelate", "box", 1.0))
    row = covered[75, 0:160]
    lengths = np.diff(np.flatnonzero(np.append(True, (np.diff(row.astype(int), axis=0) != 0).any(axis=1))))
    assert lengths[1:-1].min() >= 10 - 1  # a sixth of 60


@pytest.mark.parametrize(
    "box", [(-50, -50, 20, 20), (150, 100, 400, 400), (300, 0, 400, 50), (10, 10, 10, 10), (np.nan, 0, 9, 9)]
)
def test_at_the_edge_and_beyond(noise: np.ndarray, box: tuple[float, ...]) -> None:
    for method in get_args(Method):
        assert cover_faces(noise, np.array([box], np.float32), Cover(method)).shape == noise.shape


def exif(order: str) -> bytes:
    """Orientation 6, a maker's note in the Exif directory, and a JPEG thumbnail."""
    import struct

    def entry(tag: int, kind: int, count: int, value: int) -> bytes:
        return struct.pack(
            order + ("HHIHH" if kind == 3 else "HHII"), tag, kind, count, value, *([0] if kind == 3 else [])
        )

    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    first = (
        struct.pack(order + "H", 2) + entry(0x0112, 3, 1, 6) + entry(0x8769, 4, 1, 38) + struct.pack(order + "I", 56)
    )
    inner = struct.pack(order + "H", 1) + entry(0x927C, 7, 8, 86) + struct.pack(order + "I", 0)
    second = (
        struct.pack(order + "H", 2) + entry(0x0201, 4, 1, 94) + entry(0x0202, 4, 1, 6) + struct.pack(order + "I", 0)
    )
    return head + first + inner + second + b"SECRETS!" + b"\xff\xd8FA\xff\xd9"


@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_stays_without_pictures(order: str) -> None:
    kept = without_pictures(exif(order))
    assert kept is not None and len(kept) == len(exif(order))
    assert b"SECRETS" not in kept and b"FA" not in kept
    from facekit.pictures.headers import tiff_orientation

    assert tiff_orientation(exif(order)) == 6 and tiff_orientation(kept) == 1
    assert int.from_bytes(kept[34:38], "little" if order == "<" else "big") == 0  # no second directory


@pytest.mark.parametrize("broken", [b"", b"II*\0", exif("<")[:60], b"II*\0" + b"\xff" * 40])
def test_exif_that_can_not_be_read_is_left_out(broken: bytes) -> None:
    assert without_pictures(broken) is None


def test_contact_sheet() -> None:
    sheet = ContactSheet()
    for number in range(30):
        sheet.add(np.full((100, 50, 3), number, np.uint8), faces((5, 5, 20, 20)), f"{number} s")
    assert not sheet.room and sheet.picture().shape == (6 * 240, 4 * 320, 3)
    assert cv2.imencode(".jpg", sheet.picture())[0]
