from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from facekit.engine.training.loop import make_batches
from facekit.errors import FacekitError
from facekit.labels.picture_labels import PictureLabels
from facekit.template import (
    AugmentationSettings,
    JitteredSquareCrop,
    MinIouCrop,
    SquareCrop,
    WholeFaceCrop,
    find_template,
    load_template,
)
from facekit.training_data.training_set import TrainingSet, collate
from facekit.training_data.transforms import LabelledImage

# The whole of a square picture, neither mirrored nor recoloured.
PLAIN = AugmentationSettings(
    0, None, SquareCrop("square", (1.0,), attempts=1, empty_crop_probability=0), flip_probability=0.0
)
POINTS = [[1.0, 1], [2, 1], [1.5, 2], [1, 3], [2, 3]]


def picture(
    folder: Path,
    boxes_xywh: Sequence[Sequence[float]] = (),
    landmarks_xy: Any = None,
    crowd: Sequence[bool] | None = None,
    size_wh: tuple[int, int] = (100, 100),
    name: str = "a.png",
) -> PictureLabels:
    """Random pixels on the disk, and their labels."""
    pixels = np.random.default_rng(len(name)).integers(0, 256, (size_wh[1], size_wh[0], 3)).astype(np.uint8)
    cv2.imwrite(str(folder / name), pixels)
    boxes = np.array(boxes_xywh, dtype=np.float64).reshape(-1, 4)
    landmarks = np.full((len(boxes), 5, 2), np.nan) if landmarks_xy is None else np.array(landmarks_xy, np.float64)
    is_crowd = np.zeros(len(boxes), bool) if crowd is None else np.array(crowd)
    return PictureLabels(folder / name, size_wh, boxes, landmarks, is_crowd)


def plain_set(*pictures: PictureLabels, side: int = 100, **changes: Any) -> TrainingSet:
    return TrainingSet(pictures, dataclasses.replace(PLAIN, **changes), (side, side), (0, 0, 0), repeats=1, seed=0)


def assert_same(one: LabelledImage, other: LabelledImage) -> None:
    np.testing.assert_array_equal(one.image_bgr, other.image_bgr)
    np.testing.assert_array_equal(one.boxes_xyxy, other.boxes_xyxy)
    np.testing.assert_array_equal(one.landmarks_xy, other.landmarks_xy)


class TestFaces:
    def test_no_faces(self, tmp_path: Path) -> None:
        sample = plain_set(picture(tmp_path))[0]
        assert sample.boxes_xyxy.shape == (0, 4)
        assert sample.landmarks_xy.shape == (0, 5, 2)
        assert sample.boxes_xyxy.dtype == sample.landmarks_xy.dtype == np.float32

    @pytest.mark.parametrize(
        "crop",
        [
            SquareCrop("square", (0.5, 1.5), 9, 0.5),
            JitteredSquareCrop("jittered_square", 0.5, 1.5, 9, 0.5),
            MinIouCrop("min_iou", (0.1, 0.5), 0.1),
            WholeFaceCrop("whole_face", (0.5, 1.0), 9),
        ],
    )
    def test_pictures_without_faces_are_cropped_like_others(self, tmp_path: Path, crop: Any) -> None:
        pictures = plain_set(*[picture(tmp_path)] * 30, side=32, crop=crop)
        assert len({pictures[index].image_bgr.tobytes() for index in range(30)}) > 10
        images, targets = collate([pictures[0], pictures[1]])
        assert images.shape == (2, 3, 32, 32) and len(targets.boxes_xyxy) == 0

    def test_corners_in_pixels_of_the_input(self, tmp_path: Path) -> None:
        sample = plain_set(picture(tmp_path, [[10, 20, 30, 40]], [POINTS]), side=50)[0]
        assert sample.image_bgr.shape == (50, 50, 3)
        assert sample.boxes_xyxy.tolist() == [[5, 10, 20, 30]]
        np.testing.assert_allclose(sample.landmarks_xy, [np.array(POINTS) / 2])

    @pytest.mark.parametrize("side", [50, 100, 400])
    def test_smallness_counts_in_pixels_of_the_picture(self, tmp_path: Path, side: int) -> None:
        boxes = [[0, 0, 17, 17], [20, 0, 16.9, 40], [40, 0, 40, 16.9], [0, 60, 30, 30]]
        sample = plain_set(picture(tmp_path, boxes), side=side, min_face_size=17)[0]
        assert (sample.boxes_xyxy * 100 / side).round().tolist() == [[0, 0, 17, 17], [0, 60, 30, 90]]

    def test_smallness_counts_before_clipping(self, tmp_path: Path) -> None:
        # 20 wide as annotated, 10 of them inside the picture.
        sample = plain_set(picture(tmp_path, [[-10, 0, 20, 20]]), min_face_size=17)[0]
        assert sample.boxes_xyxy.tolist() == [[0, 0, 10, 20]]

    def test_crowds_move_with_the_picture_as_regions_to_ignore(self, tmp_path: Path) -> None:
        labels = picture(tmp_path, [[0, 0, 30, 100], [-50, 60, 60, 60], [40, 40, 20, 20]], crowd=[True, True, False])
        whole = plain_set(labels, side=50)[0]
        assert whole.ignored_xyxy.tolist() == [[0, 0, 15, 50], [0, 30, 5, 50]]  # clipped and halved
        assert whole.boxes_xyxy.tolist() == [[20, 20, 30, 30]]
        mirrored = plain_set(labels, side=50, flip_probability=1.0)[0]
        assert mirrored.ignored_xyxy.tolist() == [[35, 0, 50, 50], [45, 30, 50, 50]]

    def test_crops_cut_regions_and_leave_out_those_beyond(self, tmp_path: Path) -> None:
        labels = picture(tmp_path, [[0, 0, 10, 10], [45, 45, 100, 5], [60, 60, 20, 20]], crowd=[True, True, False])
        crop = SquareCrop("square", (0.5,), attempts=50, empty_crop_probability=0)
        samples = TrainingSet([labels], dataclasses.replace(PLAIN, crop=crop), (50, 50), (0, 0, 0), repeats=40, seed=0)
        for sample in (samples[index] for index in range(40)):
            [(x1, y1, _, _)] = sample.boxes_xyxy
            if x1 == 0 or y1 == 0:
                continue  # the face is cut: where the window lies is not to be seen from it
            left, top = 60 - x1, 60 - y1
            expected = [
                [max(a - left, 0), max(b - top, 0), min(c - left, 50), min(d - top, 50)]
                for a, b, c, d in ([0, 0, 10, 10], [45, 45, 100, 50])
            ]
            assert sample.ignored_xyxy.tolist() == [e for e in expected if e[2] > e[0] and e[3] > e[1]]

    def test_regions_know_their_picture_in_a_batch(self, tmp_path: Path) -> None:
        none = picture(tmp_path, [[10, 10, 20, 20]], name="a.png")
        crowd = picture(tmp_path, [[10, 10, 20, 20], [0, 0, 50, 50]], crowd=[True, True], name="b.png")
        dataset = plain_set(none, crowd)
        _, targets = collate([dataset[0], dataset[1]])
        assert targets.ignored is not None
        assert targets.ignored.tolist() == [[1, 10, 10, 30, 30], [1, 0, 0, 50, 50]]
        assert collate([dataset[0]])[1].ignored is None
        moved = targets.to("cpu")
        assert moved.ignored is not None and torch.equal(moved.ignored, targets.ignored)

    def test_crowds_are_not_learnt(self, tmp_path: Path) -> None:
        labels = picture(tmp_path, [[0, 0, 90, 90], [10, 10, 20, 20]], crowd=[True, False])
        assert plain_set(labels)[0].boxes_xyxy.tolist() == [[10, 10, 30, 30]]

    def test_boxes_are_clipped_to_the_picture(self, tmp_path: Path) -> None:
        labels = picture(tmp_path, [[-10, -5, 40, 40], [80, 70, 50, 60]])
        assert plain_set(labels)[0].boxes_xyxy.tolist() == [[0, 0, 30, 35], [80, 70, 100, 100]]

    def test_what_falls_below_a_pixel_is_gone(self, tmp_path: Path) -> None:
        labels = picture(tmp_path, [[10, 10, 3, 30], [10, 10, 30, 3], [10, 10, 4, 4]])
        assert plain_set(labels, side=25)[0].boxes_xyxy.tolist() == [[2.5, 2.5, 3.5, 3.5]]

    def test_landmarks_go_with_their_faces(self, tmp_path: Path) -> None:
        marks = np.array([POINTS, np.array(POINTS) + 50, np.full((5, 2), np.nan)])
        labels = picture(tmp_path, [[0, 0, 5, 5], [50, 50, 30, 30], [10, 10, 30, 30]], marks)
        sample = plain_set(labels, min_face_size=10)[0]
        np.testing.assert_allclose(sample.landmarks_xy, marks[1:])

    def test_labels_stay_as_they_are(self, tmp_path: Path) -> None:
        labels = picture(tmp_path, [[-10, -5, 40, 40]], [POINTS])
        plain_set(labels, side=50)[0]
        assert labels.boxes_xywh.tolist() == [[-10, -5, 40, 40]]
        assert labels.landmarks_xy.tolist() == [POINTS]

    def test_picture_of_another_size_than_labelled(self, tmp_path: Path) -> None:
        labels = dataclasses.replace(picture(tmp_path), size_wh=(90, 100))
        with pytest.raises(FacekitError, match=r"a\.png: the labels say 90x100 pixels, the picture has 100x100"):
            plain_set(labels)[0]


class TestShrunkDecoding:
    def labels(self, folder: Path, suffix: str, size_wh: tuple[int, int]) -> PictureLabels:
        x, y = np.meshgrid(np.arange(size_wh[0]) / size_wh[0], np.arange(size_wh[1]) / size_wh[1])
        shades = np.dstack([255 * x, 255 * y, 120 + 100 * np.sin(6 * x + 4 * y)]).round().astype(np.uint8)
        path = folder / f"shades{suffix}"
        cv2.imwrite(str(path), shades, [cv2.IMWRITE_JPEG_QUALITY, 98])
        return PictureLabels(
            path, size_wh, np.array([[10.0, 20, 101, 77]]), np.full((1, 5, 2), 33.0), np.zeros(1, bool)
        )

    @pytest.mark.parametrize("size_wh", [(401, 401), (333, 333), (250, 250)])
    def test_a_jpeg_is_as_if_decoded_whole(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size_wh: tuple[int, int]
    ) -> None:
        labels = self.labels(tmp_path, ".jpg", size_wh)
        out = plain_set(labels, side=41)[0]
        monkeypatch.setattr("facekit.training_data.transforms.SHRINKS", ())
        plain = plain_set(labels, side=41)[0]
        assert (out.image_bgr != plain.image_bgr).any(), "it wasn't shrunk"
        np.testing.assert_array_equal(out.boxes_xyxy, plain.boxes_xyxy)
        np.testing.assert_array_equal(out.landmarks_xy, plain.landmarks_xy)
        assert np.abs(out.image_bgr.astype(int) - plain.image_bgr).max() <= 6

    @pytest.mark.parametrize("size_known", [True, False])
    def test_other_formats_come_whole(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size_known: bool) -> None:
        labels = self.labels(tmp_path, ".png", (400, 300))
        labels = labels if size_known else dataclasses.replace(labels, size_wh=None)
        out = plain_set(labels, side=41)[0]
        monkeypatch.setattr("facekit.training_data.transforms.SHRINKS", ())
        assert_same(out, plain_set(labels, side=41)[0])

    def test_a_png_named_jpg(self, tmp_path: Path) -> None:
        labels = self.labels(tmp_path, ".png", (400, 400))
        expected = plain_set(labels, side=41)[0]
        named = labels.path.rename(tmp_path / "b.jpg")
        assert_same(plain_set(dataclasses.replace(labels, path=named), side=41)[0], expected)

    def test_picture_of_another_size_than_labelled(self, tmp_path: Path) -> None:
        labels = dataclasses.replace(self.labels(tmp_path, ".jpg", (400, 399)), size_wh=(400, 400))
        with pytest.raises(FacekitError, match="the labels say 400x400 pixels, the picture has 400x399"):
            plain_set(labels, side=41)[0]

    def test_picture_that_is_gone(self, tmp_path: Path) -> None:
        labels = self.labels(tmp_path, ".jpg", (400, 400))
        labels.path.unlink()
        for size_wh in ((400, 400), None):
            with pytest.raises(FacekitError, match=r"shades\.jpg: "):
                plain_set(dataclasses.replace(labels, size_wh=size_wh), side=41)[0]


class TestDeterminism:
    def random_set(self, folder: Path, seed: int = 0, repeats: int = 1) -> TrainingSet:
        pictures = [
            picture(folder, [[10, 10, 40, 40], [60, 50, 30, 40]], [POINTS] * 2, size_wh=(120, 100), name=f"{i}.png")
            for i in range(2)
        ]
        augmentation = load_template(find_template("face-detection-0200")).augmentation
        return TrainingSet(pictures, augmentation, (64, 64), (0, 0, 0), repeats, seed)

    def test_the_same_again(self, tmp_path: Path) -> None:
        one, other = self.random_set(tmp_path), self.random_set(tmp_path)
        other[1]  # the order of reading does not matter
        for index in range(2):
            assert_same(one[index], other[index])
            assert_same(one[index], one[index])

    def test_seed_epoch_and_index_matter(self, tmp_path: Path) -> None:
        training_set = self.random_set(tmp_path, repeats=3)
        assert len(training_set) == 6
        pictures = [training_set[index].image_bgr.tobytes() for index in range(6)]
        training_set.epoch.fill_(1)
        pictures += [training_set[index].image_bgr.tobytes() for index in range(6)]
        pictures += [self.random_set(tmp_path, seed=1, repeats=3)[index].image_bgr.tobytes() for index in range(6)]
        assert len(set(pictures)) == 18
        training_set.epoch.fill_(0)
        assert training_set[0].image_bgr.tobytes() == pictures[0]

    def test_workers_see_the_same_and_hear_of_the_epoch(self, tmp_path: Path) -> None:
        template = load_template(find_template("yunet-n"))
        template = dataclasses.replace(template, input=dataclasses.replace(template.input, size_hw=(64, 64)))
        pictures = [
            picture(tmp_path, [[10, 10, 40, 40]], [POINTS], size_wh=(90, 80 + i), name=f"{i}.png") for i in range(5)
        ]
        alone, helped = (
            make_batches(pictures, template, batch_size=2, workers=workers, seed=7, pin_memory=False)
            for workers in (0, 2)
        )
        seen = []
        for epoch in range(2):
            alone.start_epoch(epoch)
            helped.start_epoch(epoch)
            for (images, targets), (images_2, targets_2) in zip(alone.loader, helped.loader, strict=True):
                assert torch.equal(images, images_2)
                for field, field_2 in zip(targets[:4], targets_2[:4], strict=True):
                    assert torch.equal(field, field_2)
                seen.append(images.sum().item())
        assert len(seen) == 6
        assert len(set(seen)) == 6


class TestCollate:
    def sample(self, faces: int, landmarks: Any = None) -> LabelledImage:
        boxes = np.arange(4 * faces, dtype=np.float32).reshape(faces, 4)
        marks = np.zeros((faces, 5, 2), np.float32) if landmarks is None else np.array(landmarks, np.float32)
        return LabelledImage(np.full((3, 4, 3), faces, np.uint8), boxes, marks)

    def test_all_empty(self) -> None:
        images, targets = collate([self.sample(0), self.sample(0)])
        assert images.shape == (2, 3, 3, 4)
        assert targets.boxes_xyxy.shape == (0, 4)
        assert targets.landmarks_xy.shape == (0, 10)
        assert targets.has_landmarks.shape == targets.picture_index.shape == (0,)
        assert targets.has_landmarks.dtype == torch.bool
        assert targets.picture_index.dtype == torch.int64
        assert targets.batch_size == 2

    def test_empty_pictures_among_others(self) -> None:
        images, targets = collate([self.sample(0), self.sample(2), self.sample(0), self.sample(1), self.sample(0)])
        assert images.dtype == torch.uint8
        assert images[:, 0, 0, 0].tolist() == [0, 2, 0, 1, 0]
        assert targets.picture_index.tolist() == [1, 1, 3]
        assert targets.boxes_xyxy.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [0, 1, 2, 3]]
        assert targets.boxes_xyxy.dtype == torch.float32
        assert targets.batch_size == 5

    def test_channels_come_first(self) -> None:
        sample = self.sample(0)
        sample.image_bgr[1, 2] = (7, 8, 9)
        images, _ = collate([sample])
        assert images[0, :, 1, 2].tolist() == [7, 8, 9]

    def test_has_landmarks(self) -> None:
        partly = [*POINTS[:4], [float("nan"), 3.0]]
        none = [[float("nan")] * 2] * 5
        _, targets = collate([self.sample(1, [POINTS]), self.sample(2, [none, partly]), self.sample(1, [POINTS])])
        assert targets.has_landmarks.tolist() == [True, False, False, True]
        assert targets.landmarks_xy[0].tolist() == [number for point in POINTS for number in point]
        # Whatever is computed with the undefined rows must not spread NaN.
        assert targets.landmarks_xy.isfinite().all()
