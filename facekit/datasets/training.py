"""Labelled pictures as batches for training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from facekit.datasets.labels import PictureLabels
from facekit.datasets.pictures import read_picture
from facekit.errors import FacekitError
from facekit.structures import Targets
from facekit.template import AugmentationSettings
from facekit.transforms import Colour, LabelledImage, augment


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
    ) -> None:
        self.pictures = pictures
        self.augmentation = augmentation
        self.size_hw = size_hw
        self.fill_bgr = fill_bgr
        self.repeats = repeats
        self.seed = seed
        self.epoch = torch.zeros(1, dtype=torch.int64).share_memory_()  # workers that live on must see it change

    def __len__(self) -> int:
        return len(self.pictures) * self.repeats

    def __getitem__(self, index: int) -> LabelledImage:
        rng = np.random.default_rng((self.seed, int(self.epoch), index))
        labels = self.pictures[index % len(self.pictures)]
        sample = augment(self._read(labels), self.augmentation, self.size_hw, rng, self.fill_bgr)
        width, height = (sample.boxes_xyxy[:, 2:] - sample.boxes_xyxy[:, :2]).T
        return sample.take((width >= 1) & (height >= 1))

    def _read(self, labels: PictureLabels) -> LabelledImage:
        try:
            image_bgr = read_picture(labels.path, labels.size_wh)
        except FacekitError as error:
            raise PictureError(str(error)) from None
        learnt = ~labels.is_crowd & (labels.boxes_xywh[:, 2:] >= self.augmentation.min_face_size).all(axis=1)
        labels = labels.take(learnt)
        height, width = image_bgr.shape[:2]
        boxes_xyxy = np.clip(labels.boxes_xyxy, 0, (width, height, width, height)).astype(np.float32)
        return LabelledImage(image_bgr, boxes_xyxy, labels.landmarks_xy.astype(np.float32))


def collate(samples: Sequence[LabelledImage]) -> tuple[Tensor, Targets]:
    """B samples of one size -> (B, 3, H, W) BGR uint8 and their targets."""
    images = torch.from_numpy(np.stack([sample.image_bgr for sample in samples])).permute(0, 3, 1, 2)
    counts = torch.tensor([len(sample.boxes_xyxy) for sample in samples])
    landmarks_xy = torch.from_numpy(np.concatenate([sample.landmarks_xy.reshape(-1, 10) for sample in samples]))
    has_landmarks = landmarks_xy.isfinite().all(dim=1)
    targets = Targets(
        boxes_xyxy=torch.from_numpy(np.concatenate([sample.boxes_xyxy for sample in samples])),
        picture_index=torch.repeat_interleave(torch.arange(len(samples)), counts),
        landmarks_xy=torch.where(has_landmarks[:, None], landmarks_xy, 0.0),
        has_landmarks=has_landmarks,
        batch_size=len(samples),
    )
    return images, targets
