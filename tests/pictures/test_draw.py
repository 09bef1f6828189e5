from __future__ import annotations

import numpy as np
import pytest

from facekit.pictures.draw import BOX_BGR, LANDMARK_BGR, draw_faces
from tests.pictures.support import HEIGHT, WIDTH, black, faces


class TestDrawFaces:
    def test_no_faces(self) -> None:
        image_bgr = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
        canvas = draw_faces(image_bgr, faces())
        assert canvas is not image_bgr
        np.testing.assert_array_equal(canvas, image_bgr)

    def test_input_stays_and_the_box_is_drawn(self) -> None:
        image_bgr = black()
        canvas = draw_faces(image_bgr, faces((30, 20, 80, 60)))
        assert not image_bgr.any()
        for x, y in ((30, 40), (80, 40), (50, 60), (75, 20)):
            assert np.abs(canvas[y, x] - np.array(BOX_BGR)).max() < 40  # lines have soft edges
        assert not canvas[30:55, 40:70].any()  # the face itself stays to be seen

    @pytest.mark.parametrize("top", [40, 0])
    def test_score_is_written_above_or_inside(self, top: int) -> None:
        sure, unsure = (draw_faces(black(), faces((30, top, 90, 63), score=score)) for score in (0.91, 0.27))
        changed = np.nonzero((sure != unsure).any(axis=2))[0]
        assert len(changed)
        assert (changed < top).all() if top else (changed < 20).all()

    def test_landmarks(self) -> None:
        canvas = draw_faces(black(), faces((10, 20, 60, 60), landmarks=True))
        assert tuple(canvas[30, 20]) == LANDMARK_BGR[0]
        assert tuple(canvas[50, 38]) == LANDMARK_BGR[4]

    @pytest.mark.parametrize(
        "box", [(-50, -50, 200, 200), (500, 500, 600, 600), (5, 5, 5, 5), (-1e30, 10, 1e30, 1e30), (-3e9, 1, 9, 9)]
    )
    def test_boxes_that_leave_the_picture(self, box: tuple[float, ...]) -> None:
        assert draw_faces(black(), faces(box)).shape == (HEIGHT, WIDTH, 3)

    def test_far_ends_do_not_move_the_near_ones(self) -> None:
        canvas = draw_faces(black(), faces((30, -1e30, 1e30, 1e30)))
        assert canvas[:, 30].any(axis=1).all()  # the left edge

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_what_is_not_finite_is_left_out(self, bad: float) -> None:
        assert not draw_faces(black(), faces((10, 10, bad, 40))).any()
        assert not draw_faces(black(), faces((10, 10, 40, 40), score=bad)).any()
        found = faces((10, 20, 60, 60), landmarks=True)
        assert found.landmarks_xy is not None
        found.landmarks_xy[0, 1] = bad
        assert tuple(draw_faces(black(), found)[30, 20]) == LANDMARK_BGR[0]
