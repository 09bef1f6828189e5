from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facekit.template import AugmentationSettings, InputSettings, MinIouCrop, SquareCrop, WholeFaceCrop
from facekit.training_data.transforms import (
    LabelledImage,
    mean_colour_bgr,
)
from tests.training_data.transforms.support import (
    FILL,
    MIN_IOU,
    NO_FACES,
    PHOTOMETRIC,
    SQUARE,
    WHOLE_FACE,
    assert_same,
    copy_of,
    drawn_and_augmented,
    map_of_places,
    one_face,
    samples,
)


class TestAugment:
    def settings(self, **changes: object) -> AugmentationSettings:
        base = {"min_face_size": 0, "photometric": PHOTOMETRIC, "crop": SQUARE, "flip_probability": 0.5}
        return AugmentationSettings(**(base | changes))  # type: ignore[arg-type]

    @pytest.mark.parametrize("kind", [SQUARE, MIN_IOU, WHOLE_FACE])
    @given(sample=samples(), seed=st.integers(0, 2**32))
    def test_whatever_comes_in(
        self, kind: SquareCrop | MinIouCrop | WholeFaceCrop, sample: LabelledImage, seed: int
    ) -> None:
        before = copy_of(sample)
        settings = self.settings(crop=kind)
        out = drawn_and_augmented(sample, settings, (24, 40), np.random.default_rng(seed))
        assert_same(sample, before)
        assert out.image_bgr.shape == (24, 40, 3)
        assert out.image_bgr.dtype == np.uint8
        assert len(out.boxes_xyxy) == len(out.landmarks_xy) <= len(sample.boxes_xyxy)
        assert (out.boxes_xyxy >= -1e-3).all()
        assert (out.boxes_xyxy <= np.array([40, 24, 40, 24]) + 1e-3).all()
        assert_same(out, drawn_and_augmented(sample, settings, (24, 40), np.random.default_rng(seed)))

    @pytest.mark.parametrize(("probability", "left"), [(0.0, 2.0), (1.0, 12.0)])
    def test_flip_probability(self, probability: float, left: float) -> None:
        whole = SquareCrop("square", (1.0,), attempts=1, empty_crop_probability=0)
        sample = LabelledImage(map_of_places(20, 20), *NO_FACES)
        sample.boxes_xyxy = np.array([[2, 2, 8, 6]], np.float32)
        sample.landmarks_xy = one_face().landmarks_xy
        settings = self.settings(photometric=None, crop=whole, flip_probability=probability)
        out = drawn_and_augmented(sample, settings, (20, 20), np.random.default_rng(0))
        assert out.boxes_xyxy[0, 0] == left
        assert (out.image_bgr[0, 0, 0] == 19) == (probability == 1)

    def test_faces_of_a_picture_without_landmarks(self) -> None:
        sample = one_face()
        sample.landmarks_xy[:] = np.nan
        out = drawn_and_augmented(sample, self.settings(), (24, 24), np.random.default_rng(3))
        assert len(out.landmarks_xy) and np.isnan(out.landmarks_xy).all()

    def test_square_crop_still_pads_with_zeros(self) -> None:
        settings = self.settings(
            photometric=None,
            crop=SquareCrop("square", (2.0,), attempts=1, empty_crop_probability=0),
            flip_probability=0,
        )
        out = drawn_and_augmented(
            LabelledImage(map_of_places(20, 20), *NO_FACES), settings, (40, 40), np.random.default_rng(0)
        )
        assert int((out.image_bgr == 0).all(axis=2).sum()) == 40 * 40 - 20 * 20

    def test_whole_face_crop_pads_with_the_given_colour(self) -> None:
        wide = LabelledImage(map_of_places(40, 20), np.array([[2, 5, 32, 15]], np.float32), one_face().landmarks_xy)
        settings = self.settings(photometric=None, crop=WHOLE_FACE, flip_probability=0)
        out = drawn_and_augmented(wide, settings, (40, 40), np.random.default_rng(0))
        assert (out.image_bgr[20:] == FILL).all()


class TestMeanColour:
    @pytest.mark.parametrize(
        ("colour_order", "mean", "colour_bgr"),
        [
            ("bgr", (104, 117, 123), (104, 117, 123)),
            ("rgb", (104, 117, 123), (123, 117, 104)),
            ("rgb", (123.675, 116.28, 103.53), (104, 116, 124)),  # the nearest whole numbers
            ("bgr", (0, 0, 0), (0, 0, 0)),
            ("bgr", (-7, 300, 254.9), (0, 255, 255)),
        ],
    )
    def test_by_hand(self, colour_order: str, mean: tuple[float, ...], colour_bgr: tuple[int, ...]) -> None:
        settings = InputSettings((64, 64), colour_order, mean, (1, 1, 1))  # type: ignore[arg-type]
        assert mean_colour_bgr(settings) == colour_bgr
