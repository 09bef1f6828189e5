from __future__ import annotations

from typing import Any, get_args

import cv2
import numpy as np
import pytest

from facekit.pictures.cover import BLOCKS, Method, cover_faces

BOX = np.array([[40.0, 30.0, 160.0, 180.0]])


@pytest.fixture
def noise() -> Any:
    return np.random.default_rng(0).integers(0, 255, (220, 200, 3), np.uint8)


@pytest.mark.parametrize("method", get_args(Method))
def test_nothing_but_block_averages_is_left(noise: Any, method: Method) -> None:
    """Two pictures whose blocks have the same averages come out the same: no detail inside a block survives."""
    place = np.s_[30:180, 40:160]
    other = noise.copy()
    for rows in np.array_split(np.arange(30, 180), BLOCKS):
        for columns in np.array_split(np.arange(40, 160), BLOCKS):
            block = other[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            block[:] = block[::-1, ::-1].copy()  # the same pixels in other places
    covered, again = (cover_faces(image, BOX, method, "box", margin=0) for image in (noise, other))
    assert (covered[place] == again[place]).all()
    assert not (noise[place] == covered[place]).all(axis=2).mean() > 0.01


def test_only_the_box_is_touched(noise: Any) -> None:
    covered = cover_faces(noise, BOX, "pixelate", "box", margin=0.1)
    inside = np.zeros(noise.shape[:2], bool)
    inside[15:195, 28:172] = True
    assert (covered[~inside] == noise[~inside]).all()
    assert (covered[inside] != noise[inside]).any(axis=1).mean() > 0.99
    assert len(np.unique(covered[inside].reshape(-1, 3), axis=0)) <= BLOCKS**2


def test_an_ellipse_in_the_grown_box(noise: Any) -> None:
    changed = (cover_faces(noise, BOX, "solid", margin=0) != noise).any(axis=2)
    expected = np.zeros(noise.shape[:2], np.uint8)
    cv2.ellipse(expected, (100, 105), (60, 75), 0, 0, 360, 255, -1)
    assert (changed == (expected > 0)).mean() > 0.99
    assert not changed[:30].any() and not changed[:, :40].any()


@pytest.mark.parametrize(
    "box", [(-50, -50, 30, 30), (150, 150, 900, 900), (300, 300, 400, 400), (10, 10, 10, 10), (np.nan, 0, 9, 9),
            (50, 50, 51.5, 51.5), (np.inf, 0, 1, 1)],
)  # fmt: skip
@pytest.mark.parametrize("method", get_args(Method))
def test_strange_boxes(noise: Any, box: Any, method: Method) -> None:
    before = noise.copy()
    covered = cover_faces(noise, np.array([box]), method)
    assert covered.shape == noise.shape and (noise == before).all()
