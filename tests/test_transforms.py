from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from facekit.template import AugmentationSettings, InputSettings, MinIouCrop, Photometric, SquareCrop, WholeFaceCrop
from facekit.transforms import (
    Colour,
    LabelledImage,
    Window,
    augment,
    centres_inside,
    crop,
    distort,
    draw_min_iou,
    draw_square,
    draw_whole_face,
    draw_window,
    flip,
    mean_colour_bgr,
    resize,
)

SQUARE = SquareCrop("square", (0.5, 0.7, 0.9, 1.1, 1.3, 1.5), attempts=250)
WHOLE_FACE = WholeFaceCrop("whole_face", (0.3, 0.45, 0.6, 0.8, 1.0), attempts=250)
FILL = (104, 117, 0)  # in BGR; no place has 0 in red
MIN_IOU = MinIouCrop("min_iou", (0.1, 0.3, 0.5, 0.7, 0.9), min_scale=0.1)
PHOTOMETRIC = Photometric(32, (0.5, 1.5), (0.5, 1.5), 18)
NO_FACES: tuple[NDArray[np.float32], NDArray[np.float32]] = (
    np.zeros((0, 4), dtype=np.float32),
    np.zeros((0, 5, 2), dtype=np.float32),
)


def size_wh(sample: LabelledImage) -> tuple[int, int]:
    height, width = sample.image_bgr.shape[:2]
    return width, height


def crop_square(sample: LabelledImage, settings: SquareCrop, rng: np.random.Generator) -> LabelledImage:
    return crop(sample, *draw_square(size_wh(sample), sample.boxes_xyxy, settings, rng))


def crop_min_iou(sample: LabelledImage, settings: MinIouCrop, rng: np.random.Generator) -> LabelledImage:
    return crop(sample, *draw_min_iou(size_wh(sample), sample.boxes_xyxy, settings, rng))


def crop_whole_face(
    sample: LabelledImage, settings: WholeFaceCrop, rng: np.random.Generator, fill_bgr: Colour
) -> LabelledImage:
    return crop(sample, *draw_whole_face(size_wh(sample), sample.boxes_xyxy, settings, rng, fill_bgr))


def pad_to_square(sample: LabelledImage, fill_bgr: Colour) -> LabelledImage:
    """The picture in the top left corner of a square of its long side, written from the definition."""
    width, height = size_wh(sample)
    canvas = np.full((max(height, width), max(height, width), 3), fill_bgr, dtype=np.uint8)
    canvas[:height, :width] = sample.image_bgr
    return LabelledImage(canvas, sample.boxes_xyxy, sample.landmarks_xy)


def drawn_and_augmented(
    sample: LabelledImage, settings: AugmentationSettings, size_hw: tuple[int, int], rng: np.random.Generator
) -> LabelledImage:
    window = draw_window(size_wh(sample), sample.boxes_xyxy, settings.crop, rng, FILL)
    return augment(sample, window, settings, size_hw, rng)


def map_of_places(width: int, height: int) -> NDArray[np.uint8]:
    """Every pixel says where it is: x, y, 255. What a crop pads with is all zero."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return np.dstack([x, y, np.full_like(x, 255)]).astype(np.uint8)


def one_face() -> LabelledImage:
    """20 wide, 10 high; a face of 6 x 4 with its landmarks."""
    landmarks = np.array([[[3, 3], [7, 3], [5, 4], [3.5, 5], [6.5, 5.5]]], dtype=np.float32)
    return LabelledImage(map_of_places(20, 10), np.array([[2, 2, 8, 6]], dtype=np.float32), landmarks)


def copy_of(sample: LabelledImage) -> LabelledImage:
    return LabelledImage(sample.image_bgr.copy(), sample.boxes_xyxy.copy(), sample.landmarks_xy.copy())


def assert_same(one: LabelledImage, other: LabelledImage) -> None:
    np.testing.assert_array_equal(one.image_bgr, other.image_bgr)
    np.testing.assert_array_equal(one.boxes_xyxy, other.boxes_xyxy)
    np.testing.assert_array_equal(one.landmarks_xy, other.landmarks_xy)  # NaN equals NaN here


@st.composite
def samples(draw: st.DrawFn) -> LabelledImage:
    """Pictures from 1 x 1 up, with 0 to 5 faces inside, some without landmarks."""
    width, height = draw(st.integers(1, 60)), draw(st.integers(1, 60))
    boxes, landmarks = [], []
    for number in range(draw(st.integers(0, 5))):
        x1, y1 = draw(st.floats(0, width - 0.25, width=32)), draw(st.floats(0, height - 0.25, width=32))
        x2, y2 = draw(st.floats(x1 + 0.125, width)), draw(st.floats(y1 + 0.125, height))
        boxes.append([x1, y1, x2, y2])
        # The nose tells the faces apart in what comes out.
        landmarks.append(
            [[np.nan] * 2] * 5 if draw(st.booleans()) else [[x1, y1], [x2, y1], [number, 0], [0, 0], [0, 0]]
        )
    return LabelledImage(
        map_of_places(width, height),
        np.array(boxes, dtype=np.float32).reshape(-1, 4),
        np.array(landmarks, dtype=np.float32).reshape(-1, 5, 2),
    )


def window_of(cropped: LabelledImage) -> tuple[int, int, int, int]:
    """Left, top, width, height in the picture of places that was cropped; checks every pixel on the way."""
    image = cropped.image_bgr
    height, width = image.shape[:2]
    rows, columns = np.nonzero(image[..., 2])
    assert len(rows), "nothing of the picture is left"
    left = int(image[rows[0], columns[0], 0]) - int(columns[0])
    top = int(image[rows[0], columns[0], 1]) - int(rows[0])
    np.testing.assert_array_equal(image[rows, columns, 0], columns + left)
    np.testing.assert_array_equal(image[rows, columns, 1], rows + top)
    assert not image[image[..., 2] == 0].any(), "padding must be zeros"
    return left, top, width, height


def check_crop(sample: LabelledImage, cropped: LabelledImage) -> None:
    """Exactly the faces whose centre lies in the window are there, moved and clipped to it."""
    left, top, width, height = window_of(cropped)
    expected_boxes, expected_landmarks = [], []
    for box, points in zip(sample.boxes_xyxy, sample.landmarks_xy, strict=True):
        x1, y1, x2, y2 = box
        centre_x, centre_y = (x1 + x2) / 2, (y1 + y2) / 2
        if left < centre_x < left + width and top < centre_y < top + height:
            x1, x2 = np.clip([x1 - left, x2 - left], 0, width)
            y1, y2 = np.clip([y1 - top, y2 - top], 0, height)
            expected_boxes.append([x1, y1, x2, y2])
            expected_landmarks.append(points - [left, top])
    assert len(cropped.boxes_xyxy) == len(cropped.landmarks_xy) == len(expected_boxes)
    if expected_boxes:
        np.testing.assert_allclose(cropped.boxes_xyxy, expected_boxes, atol=1e-4)
        np.testing.assert_allclose(cropped.landmarks_xy, expected_landmarks, atol=1e-4)
    assert (cropped.boxes_xyxy >= 0).all()
    assert (cropped.boxes_xyxy <= [width, height, width, height]).all()
    assert cropped.boxes_xyxy.dtype == cropped.landmarks_xy.dtype == np.float32


class TestResize:
    def test_by_hand(self) -> None:
        resized = resize(one_face(), (30, 10))  # half the width, three times the height
        assert resized.image_bgr.shape == (30, 10, 3)
        assert resized.image_bgr.dtype == np.uint8
        assert resized.boxes_xyxy.tolist() == [[1, 6, 4, 18]]
        assert resized.landmarks_xy.tolist() == [[[1.5, 9], [3.5, 9], [2.5, 12], [1.75, 15], [3.25, 16.5]]]

    def test_same_size_changes_nothing(self) -> None:
        assert_same(resize(one_face(), (10, 20)), one_face())

    def test_no_faces(self) -> None:
        resized = resize(LabelledImage(map_of_places(1, 1), *NO_FACES), (5, 7))
        assert resized.image_bgr.shape == (5, 7, 3)
        assert resized.boxes_xyxy.shape == (0, 4)


class TestFlip:
    def test_by_hand(self) -> None:
        flipped = flip(one_face())
        np.testing.assert_array_equal(flipped.image_bgr, one_face().image_bgr[:, ::-1])
        assert flipped.boxes_xyxy.tolist() == [[12, 2, 18, 6]]
        # The right eye (7, 3) is now the left one at 20 - 7; the right mouth corner (6.5, 5.5) the left one.
        assert flipped.landmarks_xy.tolist() == [[[13, 3], [17, 3], [15, 4], [13.5, 5.5], [16.5, 5]]]

    @given(samples())
    def test_twice_is_nothing(self, sample: LabelledImage) -> None:
        before = copy_of(sample)
        twice = flip(flip(sample))
        assert_same(sample, before)
        np.testing.assert_array_equal(twice.image_bgr, sample.image_bgr)
        np.testing.assert_allclose(twice.boxes_xyxy, sample.boxes_xyxy, atol=1e-4)
        np.testing.assert_allclose(twice.landmarks_xy, sample.landmarks_xy, atol=1e-4)

    @given(samples())
    def test_corners_stay_in_order_and_unlabelled_stays_so(self, sample: LabelledImage) -> None:
        flipped = flip(sample)
        assert (flipped.boxes_xyxy[:, 2:] >= flipped.boxes_xyxy[:, :2]).all()
        unlabelled = np.isnan(sample.landmarks_xy).all(axis=(1, 2))
        np.testing.assert_array_equal(np.isnan(flipped.landmarks_xy).all(axis=(1, 2)), unlabelled)


class TestCrop:
    def test_inside_by_hand(self) -> None:
        cropped = crop(one_face(), left=1, top=1, width=6, height=8)
        np.testing.assert_array_equal(cropped.image_bgr, one_face().image_bgr[1:9, 1:7])
        assert cropped.boxes_xyxy.tolist() == [[1, 1, 6, 5]]  # the right side is clipped
        assert cropped.landmarks_xy[0, 0].tolist() == [2, 2]

    def test_reaching_outside_is_padded_with_zeros(self) -> None:
        cropped = crop(one_face(), left=-3, top=-2, width=30, height=14)
        assert cropped.image_bgr.shape == (14, 30, 3)
        np.testing.assert_array_equal(cropped.image_bgr[2:12, 3:23], one_face().image_bgr)
        assert int((cropped.image_bgr[..., 2] == 0).sum()) == 14 * 30 - 10 * 20
        assert cropped.boxes_xyxy.tolist() == [[5, 4, 11, 8]]
        assert cropped.landmarks_xy[0, 1].tolist() == [10, 5]

    @pytest.mark.parametrize(("left", "kept"), [(4, 1), (5, 0), (6, 0)])
    def test_face_is_gone_when_its_centre_is(self, left: int, kept: int) -> None:
        # The centre is (5, 4); on the edge is outside.
        assert len(crop(one_face(), left=left, top=0, width=10, height=10).boxes_xyxy) == kept

    def test_centres_inside_by_hand(self) -> None:
        boxes = np.array([[0, 0, 2, 2], [4, 4, 6, 6], [9, 9, 11, 11], [4, 8, 6, 14]], dtype=np.float32)
        assert centres_inside(boxes, 0, 0, 10, 10).tolist() == [True, True, False, False]
        assert centres_inside(boxes[:0], 0, 0, 10, 10).tolist() == []

    def test_picture_that_was_cropped_stays(self) -> None:
        sample = one_face()
        crop(sample, left=-3, top=-2, width=30, height=14)
        assert_same(sample, one_face())


Cropper = Callable[[LabelledImage, np.random.Generator], LabelledImage]


class TestRandomCrops:
    @pytest.mark.parametrize("kind", ["square", "min_iou"])
    @given(sample=samples(), seed=st.integers(0, 2**32))
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
        patient = SquareCrop("square", (0.3,), attempts=2000)
        assert all(len(crop_square(sample, patient, np.random.default_rng(seed)).boxes_xyxy) for seed in range(20))
        once = SquareCrop("square", (0.3,), attempts=1)
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
        whole = SquareCrop("square", (1.0,), attempts=1)
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
        settings = self.settings(photometric=None, crop=SquareCrop("square", (2.0,), attempts=1), flip_probability=0)
        out = drawn_and_augmented(
            LabelledImage(map_of_places(20, 20), *NO_FACES), settings, (40, 40), np.random.default_rng(0)
        )
        assert int((out.image_bgr == 0).all(axis=2).sum()) == 40 * 40 - 20 * 20

    def test_whole_face_crop_pads_with_the_given_colour(self) -> None:
        wide = LabelledImage(map_of_places(40, 20), np.array([[2, 5, 32, 15]], np.float32), one_face().landmarks_xy)
        settings = self.settings(photometric=None, crop=WHOLE_FACE, flip_probability=0)
        out = drawn_and_augmented(wide, settings, (40, 40), np.random.default_rng(0))
        assert (out.image_bgr[20:] == FILL).all()


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
        window = draw_window((width, height), whole.boxes_xyxy, SQUARE, np.random.default_rng(seed), FILL)
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
