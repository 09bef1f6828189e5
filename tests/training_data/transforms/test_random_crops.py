from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facekit.template import JitteredSquareCrop, SquareCrop, WholeFaceCrop
from facekit.training_data.transforms import LabelledImage, draw_square
from tests.training_data.transforms.support import (
    FILL,
    MIN_IOU,
    NO_FACES,
    SQUARE,
    WHOLE_FACE,
    assert_same,
    check_crop,
    copy_of,
    crop_min_iou,
    crop_square,
    crop_whole_face,
    map_of_places,
    one_face,
    pad_to_square,
    samples,
    window_of,
)

Cropper = Callable[[LabelledImage, np.random.Generator], LabelledImage]


class FirstDraw(np.random.Generator):
    """A generator whose first integer, the crop's mode, is given."""

    def __init__(self, mode: int, seed: int) -> None:
        super().__init__(np.random.PCG64(seed))
        self.mode: int | None = mode

    def integers(self, *args, **kwargs):  # type: ignore[no-untyped-def]
        if self.mode is not None:
            mode, self.mode = self.mode, None
            return mode
        return super().integers(*args, **kwargs)


class TestRandomCrops:
    @pytest.mark.parametrize("kind", ["square", "min_iou"])
    @given(sample=samples(), seed=st.integers(0, 2**32))
    @settings(deadline=None)
    def test_properties(self, kind: str, sample: LabelledImage, seed: int) -> None:
        before = copy_of(sample)
        cropped = self.cropped(kind, sample, seed)
        assert_same(sample, before)
        check_crop(sample, cropped)
        assert_same(cropped, self.cropped(kind, sample, seed))

    def cropped(self, kind: str, sample: LabelledImage, seed: int) -> LabelledImage:
        rng = np.random.default_rng(seed)
        return crop_square(sample, SQUARE, rng) if kind == "square" else crop_min_iou(sample, MIN_IOU, rng)

    @pytest.mark.parametrize("kind", ["square", "min_iou"])
    def test_draws_differ(self, kind: str) -> None:
        sample = LabelledImage(map_of_places(60, 50), np.array([[20, 20, 30, 30]], np.float32), one_face().landmarks_xy)
        windows = {window_of(self.cropped(kind, sample, seed)) for seed in range(30)}
        assert len(windows) > 10

    @given(sample=samples(), seed=st.integers(0, 2**32))
    def test_square_is_square_and_a_multiple_of_the_short_side(self, sample: LabelledImage, seed: int) -> None:
        left, top, width, height = window_of(self.cropped("square", sample, seed))
        picture_height, picture_width = sample.image_bgr.shape[:2]
        short = min(picture_height, picture_width)
        assert width == height
        assert width in {max(1, int(scale * short)) for scale in SQUARE.scales}
        for start, length in ((left, picture_width), (top, picture_height)):
            # Within the picture, or the picture within it.
            assert min(0, length - width) <= start <= max(0, length - width)

    @given(sample=samples(), seed=st.integers(0, 2**32))
    def test_min_iou_window_lies_within_the_picture(self, sample: LabelledImage, seed: int) -> None:
        left, top, width, height = window_of(self.cropped("min_iou", sample, seed))
        picture_height, picture_width = sample.image_bgr.shape[:2]
        assert left >= 0 and top >= 0
        assert left + width <= picture_width and top + height <= picture_height
        assert (width, height) == (picture_width, picture_height) or 0.5 <= height / width <= 2

    def test_square_is_tried_again_until_it_holds_a_face(self) -> None:
        # One tiny face in a corner: a single draw of half the side rarely holds it.
        sample = LabelledImage(map_of_places(60, 60), np.array([[1, 1, 4, 4]], np.float32), one_face().landmarks_xy)
        patient = SquareCrop("square", (0.3,), attempts=2000, empty_crop_probability=0)
        assert all(len(crop_square(sample, patient, np.random.default_rng(seed)).boxes_xyxy) for seed in range(20))
        once = SquareCrop("square", (0.3,), attempts=1, empty_crop_probability=0)
        found = sum(len(crop_square(sample, once, np.random.default_rng(seed)).boxes_xyxy) for seed in range(100))
        assert found < 30

    @pytest.mark.parametrize(("mode", "min_iou"), [(2, 0.1), (3, 0.3), (4, 0.5)])
    def test_min_iou_reaches_its_minimum(self, mode: int, min_iou: float) -> None:
        # The reference asks it of every face, not of the best.
        faces = np.array([[5, 5, 45, 45], [10, 10, 50, 50]], np.float32)
        sample = LabelledImage(map_of_places(60, 60), faces, np.zeros((2, 5, 2), np.float32))
        for seed in range(20):
            left, top, width, height = window_of(crop_min_iou(sample, MIN_IOU, FirstDraw(mode, seed)))
            assert (width, height) != (60, 60)
            for x1, y1, x2, y2 in faces.tolist():
                shared_x = min(left + width, x2) - max(left, x1)
                shared_y = min(top + height, y2) - max(top, y1)
                shared = max(shared_x, 0) * max(shared_y, 0)
                assert shared / (40 * 40 + width * height - shared) >= min_iou - 1e-6

    def test_min_iou_gives_the_whole_picture_in_its_share_of_draws(self) -> None:
        sample = LabelledImage(map_of_places(60, 60), *NO_FACES)
        whole = sum(self.cropped("min_iou", sample, seed).image_bgr.shape[:2] == (60, 60) for seed in range(700))
        assert 60 < whole < 140  # one mode of seven


class TestJitteredSquare:
    JITTERED = JitteredSquareCrop("jittered_square", 0.25, 4.0, attempts=250, empty_crop_probability=0)

    def test_scales_are_log_uniform(self) -> None:
        """Each of the four octaves in a quarter of the draws."""
        sides = [
            draw_square((1000, 3000), NO_FACES[0], self.JITTERED, np.random.default_rng(seed)).width
            for seed in range(2000)
        ]
        assert 250 <= min(sides) < 260 and 3900 < max(sides) <= 4000
        counts, _ = np.histogram(np.log2(np.array(sides) / 1000), bins=[-2, -1, 0, 1, 2])
        assert all(abs(count - 500) < 100 for count in counts), counts  # five standard deviations

    def test_one_scale(self) -> None:
        crop = JitteredSquareCrop("jittered_square", 0.5, 0.5, attempts=1, empty_crop_probability=0)
        assert draw_square((80, 60), NO_FACES[0], crop, np.random.default_rng(0)).width in (29, 30)  # exp(log(0.5))

    @given(sample=samples(), seed=st.integers(0, 2**32))
    @settings(deadline=None)
    def test_properties(self, sample: LabelledImage, seed: int) -> None:
        check_crop(sample, crop_square(sample, self.JITTERED, np.random.default_rng(seed)))


class TestEmptyCrops:
    """One tiny face in a corner, which a crop as it comes seldom holds."""

    FACE = np.array([[1, 1, 4, 4]], np.float32)

    def held(self, probability: float, jittered: bool) -> int:
        """In how many of 400 crops the face is."""
        kept: SquareCrop | JitteredSquareCrop
        kept = SquareCrop("square", (0.3,), 2000, probability)
        if jittered:
            kept = JitteredSquareCrop("jittered_square", 0.3, 0.3, 2000, probability)
        sample = LabelledImage(map_of_places(60, 60), self.FACE, one_face().landmarks_xy)
        return sum(len(crop_square(sample, kept, np.random.default_rng(seed)).boxes_xyxy) for seed in range(400))

    @pytest.mark.parametrize("jittered", [False, True])
    def test_share(self, jittered: bool) -> None:
        assert self.held(0.0, jittered) == 400
        assert self.held(1.0, jittered) < 20
        assert 160 < self.held(0.5, jittered) < 260


def wholly_inside(sample: LabelledImage, left: int, top: int, width: int, height: int) -> bool:
    """Whether any face is."""
    return any(
        left <= x1 and top <= y1 and x2 <= left + width and y2 <= top + height
        for x1, y1, x2, y2 in sample.boxes_xyxy.tolist()
    )


class TestWholeFaceCrop:
    def cropped(self, sample: LabelledImage, seed: int, settings: WholeFaceCrop = WHOLE_FACE) -> LabelledImage:
        return crop_whole_face(sample, settings, np.random.default_rng(seed), FILL)

    @given(sample=samples(), seed=st.integers(0, 2**32))
    def test_properties(self, sample: LabelledImage, seed: int) -> None:
        before = copy_of(sample)
        cropped = self.cropped(sample, seed)
        assert_same(sample, before)
        assert_same(cropped, self.cropped(sample, seed))
        height, width = sample.image_bgr.shape[:2]
        side = len(cropped.image_bgr)
        assert cropped.image_bgr.shape == (side, side, 3)
        if side <= min(width, height):  # a window within the picture
            check_crop(sample, cropped)
            left, top, _, _ = window = window_of(cropped)
            assert left >= 0 and top >= 0 and left + side <= width and top + side <= height
            assert side in {max(1, int(scale * min(width, height))) for scale in WHOLE_FACE.scales}
            assert not len(sample.boxes_xyxy) or wholly_inside(sample, *window)
        else:
            assert len(sample.boxes_xyxy)
            assert_same(cropped, pad_to_square(sample, FILL))

    @given(sample=samples(), seed=st.integers(0, 2**32))
    def test_at_least_one_face_stays(self, sample: LabelledImage, seed: int) -> None:
        cropped = self.cropped(sample, seed)
        assert len(cropped.boxes_xyxy) >= min(1, len(sample.boxes_xyxy))

    def test_draws_differ(self) -> None:
        sample = LabelledImage(map_of_places(60, 50), np.array([[20, 20, 30, 30]], np.float32), one_face().landmarks_xy)
        windows = {window_of(self.cropped(sample, seed)) for seed in range(60)}
        assert len(windows) > 30
        assert len({side for _, _, side, _ in windows}) > 3

    def test_faces_that_are_cut_are_kept_by_their_centre(self) -> None:
        """One face is whole; of the large one the middle is always there, of the corner's it seldom is."""
        faces = np.array([[28, 28, 32, 32], [5, 5, 55, 55], [0, 0, 20, 20]], np.float32)
        sample = LabelledImage(map_of_places(60, 60), faces, np.zeros((3, 5, 2), np.float32))
        counts = set()
        for seed in range(40):
            cropped = self.cropped(sample, seed)
            check_crop(sample, cropped)
            counts.add(len(cropped.boxes_xyxy))
        assert counts == {2, 3} or counts == {1, 2, 3}

    def test_no_attempt_fits(self) -> None:
        # The face is wider than the short side: no square within the picture holds it.
        sample = LabelledImage(map_of_places(40, 20), np.array([[2, 5, 32, 15]], np.float32), one_face().landmarks_xy)
        padded = self.cropped(sample, seed=0)
        assert padded.image_bgr.shape == (40, 40, 3)
        np.testing.assert_array_equal(padded.image_bgr[:20], sample.image_bgr)
        assert (padded.image_bgr[20:] == FILL).all()
        np.testing.assert_array_equal(padded.boxes_xyxy, sample.boxes_xyxy)
        np.testing.assert_array_equal(padded.landmarks_xy, sample.landmarks_xy)

    def test_high_picture_is_padded_on_the_right(self) -> None:
        padded = pad_to_square(LabelledImage(map_of_places(5, 9), *NO_FACES), FILL)
        np.testing.assert_array_equal(padded.image_bgr[:, :5], map_of_places(5, 9))
        assert (padded.image_bgr[:, 5:] == FILL).all()
        assert padded.image_bgr.dtype == np.uint8

    def test_patience_ends(self) -> None:
        sample = LabelledImage(map_of_places(60, 60), np.array([[3, 3, 6, 6]], np.float32), one_face().landmarks_xy)
        patient = WholeFaceCrop("whole_face", (0.3,), attempts=2000)
        assert all(len(self.cropped(sample, seed, patient).image_bgr) == 18 for seed in range(20))
        once = WholeFaceCrop("whole_face", (0.3,), attempts=1)
        assert sum(len(self.cropped(sample, seed, once).image_bgr) == 18 for seed in range(100)) < 10

    def test_picture_without_faces_is_cropped(self) -> None:
        sample = LabelledImage(map_of_places(60, 40), *NO_FACES)
        sides = {len(self.cropped(sample, seed).image_bgr) for seed in range(60)}
        assert sides == {12, 18, 24, 32, 40}
