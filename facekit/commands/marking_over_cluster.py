"""The faces of pictures to mark, found by the workers of a Ray cluster."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import cv2

from facekit.cluster.mapping import mapped
from facekit.cluster.packed import PackedDetector
from facekit.cluster.pool import Workers
from facekit.commands.marking import Find, Found, marks_of
from facekit.errors import FacekitError, Loss
from facekit.labels.picture_labels import PictureLabels
from facekit.pictures.read_ahead import read_each
from facekit.structures import Detections

Task = tuple[Path, tuple[int, int] | None]  # a picture, and its size as it is labelled


@dataclass(frozen=True)
class _Finding:
    """Makes what a worker does with some pictures."""

    detector: PackedDetector
    least_score: float
    max_pixels: int
    cpus: int

    def __call__(self) -> _Finder:
        return _Finder(self)


class _Finder:
    def __init__(self, how: _Finding) -> None:
        cv2.setNumThreads(how.cpus)
        self.how = how
        self.detector = how.detector.open()

    def __call__(self, tasks: Sequence[Task]) -> list[Detections | FacekitError]:
        how = self.how
        images = read_each([path for path, _ in tasks], [size_wh for _, size_wh in tasks], max_pixels=how.max_pixels)
        with closing(images):
            return [marks_of(self.detector, image, how.least_score) for image in images]


def finder(detector: PackedDetector, workers: Workers, shard_size: int) -> Find:
    """What takes the place of the work in this process."""

    def find(pictures: Sequence[PictureLabels], least_score: float, max_pixels: int) -> Found:
        tasks: list[Task] = [(picture.path, picture.size_wh) for picture in pictures]
        make = _Finding(detector, least_score, max_pixels, workers.cpus)
        results, received = mapped(make, tasks, workers, shard_size, "marking")
        losses = [
            Loss.of(path, result)
            for (path, _), result in zip(tasks, results, strict=True)
            if isinstance(result, FacekitError)
        ]
        return [None if isinstance(result, FacekitError) else result for result in results], losses, received

    return find
