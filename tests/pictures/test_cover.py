from __future__ import annotations

import struct
from typing import get_args

import cv2
import numpy as np
import pytest

from facekit.pictures.contact_sheet import ContactSheet
from facekit.pictures.cover import Cover, Method, cover_faces
from facekit.pictures.exif import without_pictures
from facekit.pictures.headers import tiff_orientation
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


SECRET = b"\xff\xd8\xff\xdb\0\1FA\2CE\xff\xd9"  # in the place of a JPEG
Entry = tuple[int, int, int, bytes]  # tag, kind, count, value


def tiff(order: str, *directories: list[Entry]) -> bytes:
    """An EXIF of IFD0, Exif, GPS, interoperability directory and IFD1; those that are empty are not there."""
    number = {"<": "little", ">": "big"}[order]
    starts, place = [], 8
    for entries in directories:
        starts.append(place)
        place += (6 + 12 * len(entries)) * bool(entries)
    first, inner, gps, interoperability, second = (*directories, [], [], [], [], [])[:5]
    starts += [place] * 5
    pointers = [(first, 0x8769, inner, 1), (first, 0x8825, gps, 2), (inner, 0xA005, interoperability, 3)]
    for to, tag, of, index in pointers:
        if of:
            at = next(i for i, entry in enumerate(to) if entry[0] == tag)
            to[at] = (tag, 4, 1, starts[index].to_bytes(4, number))  # type: ignore[arg-type]
    data = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    values = b""
    for index, entries in enumerate((first, inner, gps, interoperability, second)):
        if not entries:
            continue
        data += struct.pack(order + "H", len(entries))
        for tag, kind, count, value in entries:
            data += struct.pack(order + "HHI", tag, kind, count)
            data += value.ljust(4, b"\0") if len(value) <= 4 else struct.pack(order + "I", place + len(values))
            values += value if len(value) > 4 else b""
        data += struct.pack(order + "I", starts[4] if index == 0 and second else 0)
    return data + values + SECRET  # behind all


def exif(order: str = "<", *more: Entry, inner: tuple[Entry, ...] = ()) -> bytes:
    """A camera's: orientation 6, make, exposure, lens, place, a maker's note and a thumbnail."""

    def short(value: int) -> bytes:
        return struct.pack(order + "H", value)

    def ratios(*values: int) -> bytes:
        return struct.pack(f"{order}{len(values)}I", *values)

    return tiff(
        order,
        [(0x010F, 2, 6, b"Maker\0"), (0x0112, 3, 1, short(6)), (0x8769, 4, 1, b""), (0x8825, 4, 1, b""), *more],
        [
            (0x829A, 5, 1, ratios(1, 250)), (0x9000, 7, 4, b"0232"), (0xA005, 4, 1, b""),
            (0x927C, 7, len(SECRET), SECRET), (0xA434, 2, 8, b"50 mm/2\0"), *inner,
        ],
        [(0x0000, 1, 4, bytes([2, 3, 0, 0])), (0x0001, 2, 2, b"N\0"), (0x0002, 5, 3, ratios(52, 1, 31, 1, 7, 2))],
        [(0x0001, 2, 4, b"R98\0"), (0x1000, 7, len(SECRET), SECRET)],
        [(0x0201, 4, 1, ratios(8)), (0x0202, 4, 1, ratios(8)), (0x0111, 7, len(SECRET), SECRET)],
    )  # fmt: skip


def as_pillow_reads(data: bytes) -> list[dict[int, object]]:
    """IFD0, Exif, GPS, interoperability directory."""
    Image = pytest.importorskip("PIL.Image")
    read = Image.Exif()
    read.load(b"Exif\0\0" + data)
    return [dict(read), *(dict(read.get_ifd(tag)) for tag in (0x8769, 0x8825, 0xA005))]


@pytest.mark.parametrize("order", ["<", ">"])
def test_what_describes_a_picture_stays_of_its_exif(order: str) -> None:
    """Pillow is the independent reader."""
    made = exif(order)
    before, after = as_pillow_reads(made), as_pillow_reads(without_pictures(made) or b"")
    assert before[0][0x0112] == 6 and before[1][0x927C] == SECRET
    first, inner, gps, interoperability = after
    assert (first[0x010F], first[0x0112]) == ("Maker", 1)
    assert {tag: inner[tag] for tag in (0x829A, 0x9000, 0xA434)} == {
        0x829A: 1 / 250,
        0x9000: b"0232",
        0xA434: "50 mm/2",
    }
    assert gps == before[2] and gps[2] == (52, 31, 3.5) and interoperability == {1: "R98"}
    assert made[58:62] != bytes(4) == (without_pictures(made) or b"")[58:62]  # the link to a further directory
    assert tiff_orientation(made) == 6 and tiff_orientation(without_pictures(made) or b"") == 1
    assert set(inner) == {0x829A, 0x9000, 0xA005, 0xA434} and set(first) == {0x010F, 0x0112, 0x8769, 0x8825}


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("tag", [0x8649, 0x02BC, 0xC634, 0x501B, 0x927C, 0x0201, 0x0202, 0x014A, 0x0111, 0x9C9C,
                                 0x010F, 0x9286, 0x8298, 0x829A, 0x9000, 0xA302, 0x001B])  # fmt: skip
@pytest.mark.parametrize("kind", [1, 2, 3, 4, 5, 7, 10, 13, 129])
def test_no_picture_stays_in_an_exif(order: str, tag: int, kind: int) -> None:
    """Wherever it lies: also in tags that stay, under a kind that they have or have not."""
    count = {3: 120, 4: 60, 5: 30, 10: 30, 13: 60}.get(kind, 240)
    entry = (tag, kind, count, SECRET * 20)
    for made in (exif(order, entry), exif(order, inner=(entry,))):
        kept = without_pictures(made)
        assert SECRET in made and kept is not None
        assert not any(SECRET[at : at + 4] in kept for at in range(len(SECRET) - 3)) and len(kept) < 400


def test_texts_of_an_exif_are_bounded() -> None:
    for length, stays in ((1024, True), (1025, False)):
        kept = without_pictures(exif("<", (0x010E, 2, length, b"a" * (length - 1) + b"\0"))) or b""
        assert (b"aaaa" in kept) == stays and b"Maker" in kept
    latin = "© Jürgen".encode("latin-1") + b"\0"
    assert latin in (without_pictures(exif("<", (0x8298, 2, len(latin), latin))) or b"")
    many = [(tag, 2, 1024, b"a" * 1024) for tag in (0x9003, 0x9004, *range(0x9201, 0x920B), *range(0xA401, 0xA40B),
            *range(0xA430, 0xA436), *range(0x9400, 0x9406))]  # fmt: skip
    assert without_pictures(exif("<", inner=tuple(many))) is None  # JPEG would not have room for it


@pytest.mark.parametrize(
    "broken", [b"", b"II*\0", exif()[:30], exif()[:70], b"II*\0" + b"\xff" * 40, b"II*\0\x08\0\0\0" + bytes(6)]
)
def test_exif_that_can_not_be_read_is_left_out(broken: bytes) -> None:
    assert without_pictures(broken) is None


def test_a_value_beyond_the_end_is_left_out() -> None:
    kept = without_pictures(tiff("<", [(0x010F, 2, 6, b"Maker\0"), (0x0110, 2, 900, b"Model")])) or b""
    assert b"Maker" in kept and b"Model" not in kept


def test_contact_sheet() -> None:
    sheet = ContactSheet()
    for number in range(30):
        sheet.add(np.full((100, 50, 3), number, np.uint8), faces((5, 5, 20, 20)), f"{number} s")
    assert not sheet.room and sheet.picture().shape == (6 * 240, 4 * 320, 3)
    assert cv2.imencode(".jpg", sheet.picture())[0]
