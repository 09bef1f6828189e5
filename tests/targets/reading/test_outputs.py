from __future__ import annotations

import numpy as np
import pytest

from facekit.targets.reading.outputs import planes


@pytest.mark.parametrize("shape", [(1, 1, 1, 3), (2, 1, 7, 3), (2, 7, 1, 3), (3, 32, 64, 3)])
def test_planes_are_the_pixels_channel_by_channel(shape: tuple[int, ...]) -> None:
    images_bgr = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    blob = planes(images_bgr)
    assert blob.dtype == np.float32
    np.testing.assert_array_equal(blob, images_bgr.transpose(0, 3, 1, 2))


def test_planes_of_a_window_into_a_picture() -> None:
    images_bgr = np.random.default_rng(0).integers(0, 256, (1, 20, 30, 3), dtype=np.uint8)[:, 3:11, 5:21]
    np.testing.assert_array_equal(planes(images_bgr), images_bgr.transpose(0, 3, 1, 2))
