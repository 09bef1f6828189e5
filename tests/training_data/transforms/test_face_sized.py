from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facekit.template import FaceSizedCrop
from facekit.training_data.transforms import Window, draw_window

SIZE_HW = (96, 128)
CROP = FaceSizedCrop("face_sized", least=8, most=64, least_zoom=0.25, most_zoom=4, empty_crop_probability=0)


def draw(
    boxes: list[list[float]], size_wh: tuple[int, int] = (700, 500), settings: FaceSizedCrop = CROP, seed: int = 0
) -> Window:
    faces = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    return draw_window(size_wh, faces, settings, np.random.default_rng(seed), (9, 9, 9), SIZE_HW)


def side_in_input(box: list[float], window: Window) -> float:
    return math.sqrt((box[2] - box[0]) * (box[3] - box[1])) * SIZE_HW[1] / window.width


def test_a_face_has_every_size_alike() -> None:
    """Sizes of a 40-pixel face over many draws: each octave between 8 and 64 as often as the next."""
    box = [300.0, 200, 340, 240]
    sides = np.array([side_in_input(box, draw([box], seed=seed)) for seed in range(1500)])
    assert sides.min() > 7.9 and sides.max() < 64.5
    octaves = np.histogram(np.log2(sides), bins=[3, 4, 5, 6])[0] / len(sides)
    assert octaves == pytest.approx([1 / 3] * 3, abs=0.05)


@given(seed=st.integers(0, 2**32), x=st.floats(0, 690), y=st.floats(0, 490), width=st.integers(5, 900))
def test_the_window_holds_the_face_and_keeps_the_shape(seed: int, x: float, y: float, width: int) -> None:
    height = 500
    box = [min(x, width - 2.0), y, min(x + 10, width), min(y + 10, height)]
    window = draw([box], size_wh=(width, height), seed=seed)
    assert window.width / SIZE_HW[1] == pytest.approx(window.height / SIZE_HW[0], abs=1 / 96 + 1 / 128)
    for low, side, length, near, far in (
        (window.left, window.width, width, box[0], box[2]),
        (window.top, window.height, height, box[1], box[3]),
    ):
        assert low <= (near + far) / 2 <= low + side
        assert (low >= 0 and low + side <= length) or (low <= 0 and length <= low + side)
    assert window.fill_bgr == (0, 0, 0)


def test_the_face_is_one_whose_zoom_is_allowed() -> None:
    """A face of 4 pixels can't be shown at 64 with a zoom of at most 4: the other is taken, whenever the size drawn
    is over 16."""
    tiny, large = [100.0, 100, 104, 104], [400.0, 300, 480, 380]
    for seed in range(200):
        window = draw([tiny, large], seed=seed)
        shown = [side_in_input(box, window) for box in (tiny, large)]
        assert 8 - 0.5 <= shown[0] <= 16.5 or 20 - 0.5 <= shown[1] <= 64.5


def test_the_zoom_ends_where_it_is_told_to() -> None:
    box = [300.0, 200, 302, 202]
    assert {draw([box], seed=seed).width for seed in range(50)} == {SIZE_HW[1] // 4}


def test_without_faces_and_anywhere() -> None:
    widths = [draw([], seed=seed).width for seed in range(300)]
    assert min(widths) >= 32 and max(widths) <= 512 and len(set(widths)) > 100
    anywhere = FaceSizedCrop("face_sized", 8, 64, 0.25, 4, empty_crop_probability=1)
    box = [0.0, 0, 40, 40]
    windows = [draw([box], settings=anywhere, seed=seed) for seed in range(50)]
    assert any(window.left > 40 or window.top > 40 for window in windows)


@pytest.mark.parametrize("change", [{"least": 70}, {"least_zoom": 5}])
def test_refuses_what_makes_no_sense(change: dict[str, float]) -> None:
    values = {"least": 8.0, "most": 64.0, "least_zoom": 0.25, "most_zoom": 4.0, "empty_crop_probability": 0.0} | change
    with pytest.raises(ValueError, match=r"must not lie over"):
        FaceSizedCrop("face_sized", **values)
