from __future__ import annotations

import numpy as np
import pytest

from facekit.engine.evaluation.crops import SHOWN_SIDE, cut_crop

RED = (0, 0, 255)


def test_the_box_lies_in_the_middle_at_its_scale() -> None:
    # 40 pixels wide, 30 high: the crop takes 2.5 x 40 = 100 pixels, shown on 240.
    crop = cut_crop(np.full((300, 400, 3), 200, np.uint8), (200, 100, 240, 130), RED)
    red = np.argwhere((crop == RED).all(axis=2))
    (top, left), (bottom, right) = red.min(axis=0), red.max(axis=0)
    assert [left, right] == pytest.approx([240 * 0.3, 240 * 0.7], abs=2)
    assert [top, bottom] == pytest.approx([240 * 0.35, 240 * 0.65], abs=2)
    assert (crop[:60] == 200).all()


def test_outside_of_the_picture_is_grey() -> None:
    crop = cut_crop(np.full((60, 60, 3), 10, np.uint8), (0, 0, 40, 40), RED)
    # The crop begins 30 pixels left of and above the picture: 0.3 of its side.
    edge = round(0.3 * SHOWN_SIDE)
    assert (crop[: edge - 2] == 128).all() and (crop[:, : edge - 2] == 128).all()
    assert (crop[edge + 6 : edge + 20, edge + 6 : edge + 20] == 10).all()
    # Its far end is 70, 10 pixels behind the picture's.
    assert (crop[-20:] == 128).all()


@pytest.mark.parametrize(
    "box", [(0, 0, 1, 1), (5, 5, 5, 5), (-300, -300, -200, -200), (500, 500, 700, 900), (-1e6, -1e6, 1e6, 1e6)]
)
@pytest.mark.parametrize("shape", [(1, 1, 3), (30, 500, 3)])
def test_any_box_on_any_picture(box: tuple[float, ...], shape: tuple[int, ...]) -> None:
    assert cut_crop(np.zeros(shape, np.uint8), box, RED).shape == (SHOWN_SIDE, SHOWN_SIDE, 3)
