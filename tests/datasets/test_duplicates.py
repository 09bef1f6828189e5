from __future__ import annotations

import cv2
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from facekit.datasets.duplicates import Prints, find_copies, find_in, prints_of, thumbnail_of

Picture = NDArray[np.uint8]


def scene(seed: int, width: int = 320, height: int = 240) -> Picture:
    """Coloured patches with edges and fine grain."""
    rng = np.random.default_rng(seed)
    patches = rng.integers(30, 226, (7, 9, 3), dtype=np.uint8)
    image = cv2.resize(patches, (width, height), interpolation=cv2.INTER_CUBIC)
    cv2.circle(image, (int(rng.integers(width)), int(rng.integers(height))), height // 5, (20, 200, 90), -1)
    return np.asarray(cv2.add(image, rng.integers(0, 12, image.shape, dtype=np.uint8)), dtype=np.uint8)


def prints(*images: Picture) -> Prints:
    return prints_of(np.array([thumbnail_of(image) for image in images], dtype=np.uint8).reshape(-1, 32, 32))


def copies(*images: Picture) -> list[int]:
    return find_copies(prints(*images), np.arange(len(images))).tolist()


def random_prints(count: int, seed: int = 0) -> Prints:
    rng = np.random.default_rng(seed)
    return Prints(rng.integers(0, 2**64, count, dtype=np.uint64), rng.integers(0, 255, (count, 32, 32), dtype=np.uint8))


def test_none() -> None:
    assert copies() == []
    assert find_in(prints(), prints(scene(0))).tolist() == []
    assert find_in(prints(scene(0)), prints()).tolist() == [-1]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    quality=st.integers(30, 100),
    scale=st.floats(0.3, 1.6),
    brighter=st.integers(-15, 15),
)
def test_a_changed_copy_is_found(seed: int, quality: int, scale: float, brighter: int) -> None:
    image = scene(seed)
    changed = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA).astype(np.int16) + brighter
    data = cv2.imencode(".jpg", changed.clip(0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    decoded = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), dtype=np.uint8)
    assert copies(image, decoded) == [-1, 0]


@settings(max_examples=60, deadline=None)
@given(first=st.integers(0, 10_000), second=st.integers(0, 10_000))
def test_another_picture_is_none(first: int, second: int) -> None:
    assert copies(scene(first), scene(second)) == [-1, 0 if first == second else -1]


def test_dark_and_flat_pictures_are_told_apart() -> None:
    """Their hashes are the same; a night with a lamp, another lamp, greys, and a black one twice."""
    night = np.zeros((240, 320, 3), np.uint8)
    lamps = [cv2.circle(night.copy(), (x, 60), 12, (40, 60, 70), -1) for x in (60, 250)]
    greys = [np.full_like(night, level) for level in (60, 120, 180)]
    assert copies(night, *map(np.asarray, lamps), *greys, night.copy()) == [-1, -1, -1, -1, -1, -1, 0]


def test_a_moved_face_is_another_picture() -> None:
    frames = [cv2.circle(scene(1), (x, 120), 18, (160, 190, 240), -1) for x in (80, 200)]
    assert copies(*map(np.asarray, frames)) == [-1, -1]


def test_the_first_of_several_is_named_over_blocks() -> None:
    shared = random_prints(300)
    doubled = Prints(np.tile(shared.hashes, 3), np.tile(shared.thumbnails, (3, 1, 1)))
    expected = np.concatenate([np.full(300, -1), np.arange(300), np.arange(300)])
    assert find_copies(doubled, np.arange(900)).tolist() == expected.tolist()
    backwards = find_copies(doubled, np.arange(900)[::-1].copy())
    assert backwards.tolist() == np.concatenate([np.arange(600, 900), np.arange(600, 900), np.full(300, -1)]).tolist()
    assert find_in(doubled, shared).tolist() == np.tile(np.arange(300), 3).tolist()


def test_a_chain_of_small_changes_is_no_single_picture() -> None:
    """Only neighbours are near: every second one is kept."""
    thumbnail = prints(scene(1)).thumbnails[0]
    hashes = np.cumsum(np.uint64(1) << np.arange(0, 60, dtype=np.uint64)).astype(np.uint64)[::7]  # 7 bits a step
    chain = Prints(hashes, np.tile(thumbnail, (len(hashes), 1, 1)))
    assert find_copies(chain, np.arange(len(hashes))).tolist() == [-1, 0, -1, 2, -1, 4, -1, 6, -1]


def test_hashes_as_all_pairs_say() -> None:
    """Exact up to ten bits: no bucket that a pair could miss."""
    rng = np.random.default_rng(0)
    base = random_prints(40)
    flips = [sum(1 << int(bit) for bit in rng.choice(64, count, replace=False)) for count in range(20)]
    near = Prints(base.hashes[:20] ^ np.array(flips, dtype=np.uint64), base.thumbnails[:20])
    assert find_in(near, base).tolist() == [row if row <= 10 else -1 for row in range(20)]
