"""Pictures that say where each of their pixels was, for the tests of transforms."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from facekit.template import (
    AugmentationSettings,
    JitteredSquareCrop,
    MinIouCrop,
    Photometric,
    SquareCrop,
    WholeFaceCrop,
)
from facekit.training_data.transforms import (
    Colour,
    LabelledImage,
    augment,
    crop,
    draw_min_iou,
    draw_square,
    draw_whole_face,
    draw_window,
)

SQUARE = SquareCrop("square", (0.5, 0.7, 0.9, 1.1, 1.3, 1.5), attempts=250, empty_crop_probability=0)
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


def crop_square(
    sample: LabelledImage, settings: SquareCrop | JitteredSquareCrop, rng: np.random.Generator
) -> LabelledImage:
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
    window = draw_window(size_wh(sample), sample.boxes_xyxy, settings.crop, rng, FILL, size_hw)
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
