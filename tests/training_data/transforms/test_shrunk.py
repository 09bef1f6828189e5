from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from facekit.template import AugmentationSettings
from facekit.training_data.transforms import LabelledImage, Window, augment, draw_window
from tests.training_data.transforms.support import FILL, NO_FACES, SQUARE


def smooth_picture(width: int, height: int) -> NDArray[np.uint8]:
    """Shades that a resampling hardly changes."""
    x, y = np.meshgrid(np.arange(width) / width, np.arange(height) / height)
    return np.dstack([255 * x, 255 * y, 120 + 100 * np.sin(6 * x + 4 * y)]).round().astype(np.uint8)


class TestShrunk:
    """A window of a picture that was decoded smaller, against decoding, cropping and resizing."""

    @pytest.mark.parametrize(
        ("window", "shrink"),
        [
            (Window(0, 0, 40, 30), 1),
            (Window(0, 0, 79, 60), 1),
            (Window(0, 0, 80, 60), 2),
            (Window(5, 7, 400, 119), 2),
            (Window(-9, -9, 160, 120), 4),
            (Window(0, 0, 319, 239), 4),
            (Window(0, 0, 320, 240), 8),
            (Window(0, 0, 9000, 9000), 8),
        ],
    )
    def test_no_pixel_of_the_input_is_lost(self, window: Window, shrink: int) -> None:
        assert window.shrink_for((30, 40)) == shrink

    @pytest.mark.parametrize("shrink", [2, 4, 8])
    @given(data=st.data())
    def test_faces_are_the_same_and_pixels_nearly(self, shrink: int, data: st.DataObject) -> None:
        width, height = (data.draw(st.integers(150, 300)) for _ in range(2))  # odd sizes, too
        whole = LabelledImage(smooth_picture(width, height), *NO_FACES)
        whole.boxes_xyxy = np.array([[20.5, 30, 90, 101], [100, 60, 149, 131]], np.float32)
        whole.landmarks_xy = np.full((2, 5, 2), 77, np.float32)
        settings = AugmentationSettings(0, None, SQUARE, flip_probability=0.5)
        seed = data.draw(st.integers(0, 2**32))
        window = draw_window((width, height), whole.boxes_xyxy, SQUARE, np.random.default_rng(seed), FILL, (64, 64))
        size_hw = window.height // shrink, window.width // shrink
        padded = cv2.copyMakeBorder(whole.image_bgr, 0, -height % shrink, 0, -width % shrink, cv2.BORDER_REPLICATE)
        small = cv2.resize(padded, (padded.shape[1] // shrink, padded.shape[0] // shrink), interpolation=cv2.INTER_AREA)
        plain = augment(whole, window, settings, size_hw, np.random.default_rng(1))
        shrunk = LabelledImage(small.astype(np.uint8), whole.boxes_xyxy, whole.landmarks_xy)
        out = augment(shrunk, window, settings, size_hw, np.random.default_rng(1), shrink)
        np.testing.assert_array_equal(out.boxes_xyxy, plain.boxes_xyxy)
        np.testing.assert_array_equal(out.landmarks_xy, plain.landmarks_xy)
        assert out.image_bgr.shape == plain.image_bgr.shape
        difference = np.abs(out.image_bgr.astype(int) - plain.image_bgr)
        # Where the picture ends within the window, its edge is smeared over a pixel or two.
        assert np.median(difference) <= 1 and np.mean(difference > 6) < 0.2

    def test_a_dot_stays_where_it_is(self) -> None:
        """Half a pixel off would be seen."""
        image_bgr = np.zeros((97, 129, 3), np.uint8)
        image_bgr[40:48, 64:72] = 255
        shrunk = LabelledImage(image_bgr[::8, ::8].copy(), *NO_FACES)  # exact for blocks of 8
        settings = AugmentationSettings(0, None, SQUARE, flip_probability=0.0)
        out = augment(shrunk, Window(64, 40, 16, 24), settings, (3, 2), np.random.default_rng(0), shrink=8)
        assert out.image_bgr[..., 0].tolist() == [[255, 0], [0, 0], [0, 0]]
