from __future__ import annotations

import cv2
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from facekit.template import Photometric
from facekit.training_data.transforms import (
    distort,
)
from tests.training_data.transforms.support import (
    PHOTOMETRIC,
)


class TestDistort:
    IMAGE = np.random.default_rng(0).integers(60, 200, (12, 9, 3)).astype(np.uint8)

    @given(st.integers(0, 2**32))
    def test_shape_type_argument_and_draws(self, seed: int) -> None:
        before = self.IMAGE.copy()
        distorted = distort(self.IMAGE, PHOTOMETRIC, np.random.default_rng(seed))
        assert distorted.shape == self.IMAGE.shape
        assert distorted.dtype == np.uint8
        np.testing.assert_array_equal(self.IMAGE, before)
        np.testing.assert_array_equal(distorted, distort(self.IMAGE, PHOTOMETRIC, np.random.default_rng(seed)))

    def test_mean_changes(self) -> None:
        means = {float(distort(self.IMAGE, PHOTOMETRIC, np.random.default_rng(s)).mean()) for s in range(40)}
        assert len(means) > 25
        assert max(means) - min(means) > 40

    def distorted(self, settings: Photometric, seeds: int = 400) -> list[NDArray[np.uint8]]:
        return [distort(self.IMAGE, settings, np.random.default_rng(seed)) for seed in range(seeds)]

    def test_nothing_to_do_is_nearly_nothing(self) -> None:
        # The turn through HSV rounds.
        for image in self.distorted(Photometric(0, (1, 1), (1, 1), 0), seeds=20):
            assert np.abs(image.astype(int) - self.IMAGE).max() <= 4

    def test_brightness_adds_the_same_everywhere_half_of_the_time(self) -> None:
        grey = np.full((2, 2, 3), 100, dtype=np.uint8)
        settings = Photometric(32, (1, 1), (1, 1), 0)
        values = [distort(grey, settings, np.random.default_rng(seed)) for seed in range(400)]
        assert all(len(np.unique(image)) == 1 for image in values)
        shifts = np.array([int(image[0, 0, 0]) - 100 for image in values])
        assert shifts.min() < -25 and shifts.max() > 25
        assert np.abs(shifts).max() <= 32
        assert 160 < int((shifts != 0).sum()) < 240

    def test_contrast_multiplies(self) -> None:
        ramp = np.array([[[10] * 3, [50] * 3, [100] * 3]], dtype=np.uint8)
        for seed in range(30):
            values = distort(ramp, Photometric(0, (0.5, 1.5), (1, 1), 0), np.random.default_rng(seed))[0, :, 0]
            gain = values[2] / 100
            assert 0.49 <= gain <= 1.51
            assert abs(int(values[0]) - 10 * gain) <= 1 and abs(int(values[1]) - 50 * gain) <= 1

    def test_bright_and_dark_do_not_wrap_around(self) -> None:
        bright, dark = np.full((1, 1, 3), 250, np.uint8), np.full((1, 1, 3), 5, np.uint8)
        settings = Photometric(32, (1, 1.5), (1, 1), 0)
        assert min(int(distort(bright, settings, np.random.default_rng(s)).min()) for s in range(60)) >= 250 - 32
        assert max(int(distort(dark, settings, np.random.default_rng(s)).max()) for s in range(60)) <= (5 + 32) * 1.5

    def test_no_saturation_is_grey(self) -> None:
        images = self.distorted(Photometric(0, (1, 1), (0, 0), 0), seeds=40)
        grey = [image for image in images if (image == image[..., :1]).all()]
        assert 8 < len(grey) < 32
        np.testing.assert_array_equal(grey[0][..., 0], self.IMAGE.max(axis=2))  # HSV's value stays

    def test_hue_turns_by_at_most_so_many_degrees(self) -> None:
        red = np.zeros((1, 1, 3), dtype=np.uint8)
        red[..., 2] = 255
        turned = []
        for seed in range(200):
            out = distort(red, Photometric(0, (1, 1), (1, 1), 18), np.random.default_rng(seed))
            hue = int(cv2.cvtColor(out, cv2.COLOR_BGR2HSV)[0, 0, 0]) * 2
            turned.append((hue + 180) % 360 - 180)
        assert min(turned) < -12 and max(turned) > 12  # both ways, also through 0
        assert max(map(abs, turned)) <= 20
