from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facekit.training_data.transforms import (
    LabelledImage,
    centres_inside,
    crop,
    flip,
    resize,
)
from tests.training_data.transforms.support import (
    NO_FACES,
    assert_same,
    copy_of,
    map_of_places,
    one_face,
    samples,
)


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

    @given(st.integers(-40, 40), st.integers(-40, 40), st.integers(1, 50), st.integers(1, 50))
    def test_every_window_pixel_by_pixel(self, left: int, top: int, width: int, height: int) -> None:
        """Windows beside the picture too, and a fill that is no grey."""
        sample, fill_bgr = one_face(), (7, 8, 9)
        wanted = [
            [
                tuple(map(int, sample.image_bgr[y, x])) if 0 <= x < 20 and 0 <= y < 10 else fill_bgr
                for x in range(left, left + width)
            ]
            for y in range(top, top + height)
        ]
        np.testing.assert_array_equal(crop(sample, left, top, width, height, fill_bgr).image_bgr, wanted)

    def test_picture_that_was_cropped_stays(self) -> None:
        sample = one_face()
        crop(sample, left=-3, top=-2, width=30, height=14)
        assert_same(sample, one_face())
