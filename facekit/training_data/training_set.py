"""Labelled pictures as batches for training."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from facekit.errors import FacekitError
from facekit.labels.picture_labels import PictureLabels
from facekit.pictures.read import picture_size, read_picture
from facekit.structures import Targets
from facekit.template import AugmentationSettings
from facekit.training_data.picture_cache import PictureCache
from facekit.training_data.transforms import Colour, LabelledImage, Window, augment, cut_faces, draw_window


class PictureError(FacekitError):
    """Leaves a DataLoader's worker with its message alone: torch makes it anew from the worker's whole traceback."""

    def __init__(self, message: str) -> None:
        super().__init__(message.rpartition(f"{type(self).__name__}: ")[2].strip())


class TrainingSet(Dataset[LabelledImage]):
    """Augmented pictures; what happens to picture i in epoch e depends on (seed, e, i) alone, not on the worker."""

    def __init__(
        self,
        pictures: Sequence[PictureLabels],
        augmentation: AugmentationSettings,
        size_hw: tuple[int, int],
        fill_bgr: Colour,
        repeats: int,
        seed: int,
        cache: PictureCache | None = None,
    ) -> None:
        self.pictures = pictures
        self.augmentation = augmentation
        self.size_hw = size_hw
        self.fill_bgr = fill_bgr
        self.repeats = repeats
        self.seed = seed
        self.cache = cache
        self.epoch = torch.zeros(1, dtype=torch.int64).share_memory_()  # workers that live on must see it change

    def __len__(self) -> int:
        return len(self.pictures) * self.repeats

    def __getitem__(self, index: int) -> LabelledImage:
        rng = np.random.default_rng((self.seed, int(self.epoch), index))
        labels = self.pictures[index % len(self.pictures)]
        try:
            sample = self._augmented(labels, rng)
        except FacekitError as error:
            raise PictureError(str(error)) from None
        return dataclasses.replace(sample.take(_has_area(sample.boxes_xyxy)), is_labelled=labels.is_labelled)

    def boxes_of(self, index: int) -> NDArray[np.float32]:
        """(N, 4) boxes of self[index] in pixels of size_hw, before it is mirrored; no picture is decoded."""
        rng = np.random.default_rng((self.seed, int(self.epoch), index))
        faces, _, window = self._drawn(self.pictures[index % len(self.pictures)], rng)
        boxes_xyxy = cut_faces(faces, window, self.size_hw).boxes_xyxy
        return boxes_xyxy[_has_area(boxes_xyxy)]

    def _drawn(self, labels: PictureLabels, rng: np.random.Generator) -> tuple[LabelledImage, tuple[int, int], Window]:
        """The faces to learn and the crowds to ignore, with no picture yet, the picture's size (width, height), and
        what to cut of it."""
        learnt = ~labels.is_crowd & (labels.boxes_xywh[:, 2:] >= self.augmentation.min_face_size).all(axis=1)
        size_wh = labels.size_wh or picture_size(labels.path)
        ignored_xyxy = np.clip(labels.boxes_xyxy[labels.is_crowd], 0, (*size_wh, *size_wh)).astype(np.float32)
        labels = labels.take(learnt)
        boxes_xyxy = np.clip(labels.boxes_xyxy, 0, (*size_wh, *size_wh)).astype(np.float32)
        # Drawn first: much of a large picture need not be decoded.
        window = draw_window(size_wh, boxes_xyxy, self.augmentation.crop, rng, self.fill_bgr, self.size_hw)
        no_picture = np.empty((0, 0, 3), dtype=np.uint8)
        landmarks_xy = labels.landmarks_xy.astype(np.float32)
        return LabelledImage(no_picture, boxes_xyxy, landmarks_xy, ignored_xyxy=ignored_xyxy), size_wh, window

    def _augmented(self, labels: PictureLabels, rng: np.random.Generator) -> LabelledImage:
        faces, size_wh, window = self._drawn(labels, rng)
        image_bgr, shrink = self._read(labels.path, size_wh, window.shrink_for(self.size_hw))
        return augment(
            dataclasses.replace(faces, image_bgr=image_bgr), window, self.augmentation, self.size_hw, rng, shrink
        )

    def _read(self, path: Path, size_wh: tuple[int, int], shrink: int) -> tuple[NDArray[np.uint8], int]:
        """The picture, and by how much it is shrunk: as wanted, or 1."""
        cached = self.cache.find(path) if self.cache is not None and shrink == 1 else None
        if cached is not None:
            return cached, 1
        image_bgr = read_picture(path, size_wh, shrink)
        return image_bgr, 1 if image_bgr.shape[1::-1] == tuple(size_wh) else shrink


def _has_area(boxes_xyxy: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(N, 4) -> (N,): whether both sides have a pixel or more."""
    width, height = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).T
    has_area: NDArray[np.bool_] = (width >= 1) & (height >= 1)
    return has_area


def no_samples(size_hw: tuple[int, int]) -> tuple[Tensor, Targets]:
    """A batch like collate's, without a picture."""
    images = torch.zeros((0, 3, *size_hw), dtype=torch.uint8)
    none = torch.zeros(0, dtype=torch.int64)
    return images, Targets(torch.zeros(0, 4), none, torch.zeros(0, 10), none.bool(), batch_size=0)


def collate(samples: Sequence[LabelledImage]) -> tuple[Tensor, Targets]:
    """B samples of one size -> (B, 3, H, W) BGR uint8 and their targets."""
    # Of a worker it lies in shared memory at once: numpy's own would be copied there as it is sent.
    images = default_collate([torch.from_numpy(sample.image_bgr) for sample in samples]).permute(0, 3, 1, 2)
    counts = torch.tensor([len(sample.boxes_xyxy) for sample in samples])
    landmarks_xy = torch.from_numpy(np.concatenate([sample.landmarks_xy.reshape(-1, 10) for sample in samples]))
    has_landmarks = landmarks_xy.isfinite().all(dim=1)
    numbered = enumerate(sample.ignored_xyxy for sample in samples)
    regions = [np.insert(regions_xyxy, 0, index, axis=1) for index, regions_xyxy in numbered if len(regions_xyxy)]
    targets = Targets(
        boxes_xyxy=torch.from_numpy(np.concatenate([sample.boxes_xyxy for sample in samples])),
        picture_index=torch.repeat_interleave(torch.arange(len(samples)), counts),
        landmarks_xy=torch.where(has_landmarks[:, None], landmarks_xy, 0.0),
        has_landmarks=has_landmarks,
        batch_size=len(samples),
        is_labelled=torch.tensor([sample.is_labelled for sample in samples]),
        ignored=torch.from_numpy(np.concatenate(regions)) if regions else None,
    )
    return images, targets
