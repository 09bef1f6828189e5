from __future__ import annotations

import dataclasses
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from facekit.detector import Detector, prepare
from facekit.structures import Decoded
from facekit.template import TEMPLATES_DIR, Template, at_scale, load_template

# Height and width of a picture, and of what is left of it when it is fitted into 640 x 640, by hand.
FITTED = [
    ((683, 1024), (427, 640)),  # 426.875
    ((1324, 1024), (640, 495)),  # 494.98
    ((640, 640), (640, 640)),
    ((479, 640), (479, 640)),
    ((3, 5), (384, 640)),  # small ones grow
    ((1, 1), (640, 640)),
    ((1, 5000), (1, 640)),  # an eighth of a pixel: at least one is left
    ((5000, 1), (640, 1)),
]


def bundled(name: str) -> Template:
    return load_template(TEMPLATES_DIR / name / "template.yaml")


def random_picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(1, 256, (height, width, 3), dtype=np.uint8)  # no black pixel


def check_padding(fed: np.ndarray, content_hw: tuple[int, int]) -> None:
    """The content at the top left, zeros right of it and below."""
    height, width = content_hw
    assert fed[:height, :width].all()
    assert not fed[height:].any()
    assert not fed[:, width:].any()


class TestFit:
    @pytest.mark.parametrize(("size_hw", "fitted_hw"), FITTED)
    def test_keeps_the_shape_and_pads_to_the_multiple(
        self, size_hw: tuple[int, int], fitted_hw: tuple[int, int]
    ) -> None:
        picture = random_picture(*size_hw)
        fed, scale_xy = prepare(picture, at_scale(bundled("yunet-n"), "max:640"))
        assert fed.shape == (*(-(-side // 32) * 32 for side in fitted_hw), 3)
        assert fed.dtype == np.uint8
        check_padding(fed, fitted_hw)
        # One factor for both sides, that of the longest, although whole pixels bend the shape a little.
        assert scale_xy == pytest.approx((max(size_hw) / 640,) * 2, rel=1e-12)
        np.testing.assert_array_equal(fed[: fitted_hw[0], : fitted_hw[1]], cv2.resize(picture, fitted_hw[::-1]))

    @pytest.mark.parametrize(("size_hw", "fitted_hw"), FITTED)
    def test_without_a_multiple_nothing_is_padded(self, size_hw: tuple[int, int], fitted_hw: tuple[int, int]) -> None:
        fed, _ = prepare(random_picture(*size_hw), at_scale(bundled("face-detection-0200"), "max:640"))
        assert fed.shape[:2] == fitted_hw

    def test_the_tighter_side_of_an_oblong_decides(self) -> None:
        template = bundled("yunet-n")
        oblong = dataclasses.replace(
            template,
            input=dataclasses.replace(template.input, size_hw=(100, 400)),
            evaluation=dataclasses.replace(template.evaluation, resize="fit", size_multiple=1),
        )
        for size_hw, fitted_hw, scale in (((200, 400), (100, 200), 2.0), ((100, 800), (50, 400), 2.0)):
            fed, scale_xy = prepare(random_picture(*size_hw), oblong)
            assert (fed.shape[:2], scale_xy) == (fitted_hw, (scale, scale))


class TestLetterbox:
    @pytest.mark.parametrize(("size_hw", "fitted_hw"), FITTED)
    def test_fills_the_whole_input(self, size_hw: tuple[int, int], fitted_hw: tuple[int, int]) -> None:
        picture = random_picture(*size_hw)
        fed, scale_xy = prepare(picture, bundled("scrfd-0.5g"))
        assert fed.shape == (640, 640, 3)
        check_padding(fed, fitted_hw)
        assert scale_xy == pytest.approx((max(size_hw) / 640,) * 2, rel=1e-12)
        np.testing.assert_array_equal(fed[: fitted_hw[0], : fitted_hw[1]], cv2.resize(picture, fitted_hw[::-1]))


class TestOthers:
    @pytest.mark.parametrize("size_hw", [(1, 1), (3, 5), (33, 64), (480, 640)])
    def test_own_size_is_padded_only(self, size_hw: tuple[int, int]) -> None:
        picture = random_picture(*size_hw)
        fed, scale_xy = prepare(picture, bundled("yunet-n"))
        assert fed.shape == (*(-(-side // 32) * 32 for side in size_hw), 3)
        check_padding(fed, size_hw)
        np.testing.assert_array_equal(fed[: size_hw[0], : size_hw[1]], picture)
        assert scale_xy == (1.0, 1.0)

    @pytest.mark.parametrize("size_hw", [(1, 1), (33, 64), (1001, 7)])
    def test_own_size_without_a_multiple_is_the_picture(self, size_hw: tuple[int, int]) -> None:
        picture = random_picture(*size_hw)
        fed, scale_xy = prepare(picture, bundled("retinaface-mobilenetv3-small"))
        np.testing.assert_array_equal(fed, picture)
        assert scale_xy == (1.0, 1.0)

    @pytest.mark.parametrize("size_hw", [(1, 1), (480, 640), (1001, 7)])
    def test_stretched_sides_have_their_own_factors(self, size_hw: tuple[int, int]) -> None:
        picture = random_picture(*size_hw)
        fed, scale_xy = prepare(picture, bundled("ultralight-slim-320"))
        np.testing.assert_array_equal(fed, cv2.resize(picture, (320, 240)))
        assert scale_xy == (size_hw[1] / 320, size_hw[0] / 240)

    def test_the_picture_stays_as_it_is(self) -> None:
        for name in ("yunet-n", "scrfd-0.5g", "ultralight-slim-320"):
            picture = random_picture(50, 70)
            prepare(picture, bundled(name))[0][:] = 7
            np.testing.assert_array_equal(picture, random_picture(50, 70))


class FixedBackend:
    """Finds the same boxes in every picture, and remembers what it was fed."""

    def __init__(self, boxes_xyxy: list[list[float]], with_landmarks: bool = False) -> None:
        self.boxes = torch.tensor([boxes_xyxy])
        scores = torch.linspace(0.9, 0.8, len(boxes_xyxy))[None]
        marks = self.boxes.repeat(1, 1, 3)[..., :10] if with_landmarks else None
        self.decoded = Decoded(self.boxes, scores, marks)
        self.fed: list[tuple[int, ...]] = []

    def __call__(self, images_bgr: Any) -> Decoded:
        self.fed.append(images_bgr.shape)
        return self.decoded


class TestDetect:
    BOX = (64.0, 32, 128, 320)

    @pytest.mark.parametrize(
        ("name", "scale", "fed_hw", "expected"),
        [
            ("scrfd-0.5g", "template", (640, 640), (80, 40, 160, 400)),  # 800 / 640 both ways
            ("yunet-n", "max:640", (480, 640), (80, 40, 160, 400)),  # 479.2 high, padded
            ("yunet-n", "template", (608, 800), (64, 32, 128, 320)),
            ("yunet-n", "320x320", (320, 320), (160, 59.9, 320, 599)),  # 800 / 320 and 599 / 320
        ],
    )
    def test_boxes_and_landmarks_are_in_the_pictures_pixels(
        self, name: str, scale: str, fed_hw: tuple[int, int], expected: tuple[float, ...]
    ) -> None:
        backend = FixedBackend([[*self.BOX]], with_landmarks=True)
        found = Detector(backend, at_scale(bundled(name), scale)).detect(random_picture(599, 800))
        assert backend.fed == [(1, *fed_hw, 3)]
        np.testing.assert_allclose(found.boxes_xyxy, [expected], rtol=1e-6)
        assert found.landmarks_xy is not None
        np.testing.assert_allclose(found.landmarks_xy[0], np.reshape((*expected, *expected, *expected)[:10], (5, 2)))

    def test_union_slack_is_a_share_of_the_input(self) -> None:
        # Boxes of 2 x 2 px, moved by 0.5 px: 3 of 5 shared, but 1e-5 of 320 x 240 is 0.768 px more: 3 / 5.768 = 0.52.
        near = [[100.0, 100, 102, 102], [100.5, 100, 102.5, 102]]
        template = bundled("ultralight-slim-320")
        for threshold, kept in ((0.51, 1), (0.53, 2), (0.59, 2)):
            rule = dataclasses.replace(template.evaluation, nms_iou_threshold=threshold)
            detector = Detector(FixedBackend(near), dataclasses.replace(template, evaluation=rule))
            # The picture's own size does not matter.
            assert [len(detector.detect(random_picture(*size))) for size in ((240, 320), (9, 12))] == [kept] * 2
        rule = dataclasses.replace(template.evaluation, nms_iou_threshold=0.59, nms_union_slack=0.0)
        exact = Detector(FixedBackend(near), dataclasses.replace(template, evaluation=rule))
        assert len(exact.detect(random_picture(240, 320))) == 1
