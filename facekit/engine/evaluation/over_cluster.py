"""Detections over a set of pictures by the workers of a Ray cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2

from facekit.cluster.mapping import mapped
from facekit.cluster.packed import PackedDetector
from facekit.cluster.pool import Workers
from facekit.engine.evaluation.evaluate import Measured, OnPicture, as_measured, detect_each
from facekit.errors import FacekitError, Interrupted
from facekit.labels.picture_labels import PictureLabels
from facekit.structures import Detections

Result = tuple[Detections | FacekitError, float]  # and the seconds that it took


@dataclass(frozen=True)
class _Detecting:
    """Makes what a worker does with some pictures."""

    detector: PackedDetector
    on_picture: OnPicture | None
    batch_size: int
    skip_unreadable: bool
    cpus: int

    def __call__(self) -> _Detect:
        return _Detect(self)


class _Detect:
    def __init__(self, how: _Detecting) -> None:
        cv2.setNumThreads(how.cpus)
        self.how = how
        self.detector = how.detector.open()

    def __call__(self, pictures: Sequence[PictureLabels]) -> list[Result]:
        how = self.how
        found, seconds = detect_each(
            self.detector, pictures, how.on_picture, "", True, how.batch_size, how.skip_unreadable
        )  # fmt: skip
        return list(zip(found, seconds, strict=True))


def detect_over_cluster(
    detector: PackedDetector,
    pictures: Sequence[PictureLabels],
    on_picture: OnPicture | None,
    description: str,
    workers: Workers,
    shard_size: int,
    batch_size: int = 1,
    skip_unreadable: bool = False,
) -> Measured:
    """As evaluate.detect_over_processes, by workers that see the pictures under the same paths; on_picture is called
    in them. Raises FacekitError, and Interrupted where a signal asks for the end."""
    make = _Detecting(detector, on_picture, batch_size, skip_unreadable, workers.cpus)
    results, received = mapped(make, pictures, workers, shard_size, description)
    whole = [result for result in results if result is not None]
    if len(whole) < len(pictures):
        raise Interrupted(f"Stopped after {len(whole)} of {len(pictures)} pictures; nothing was measured.", received)
    return as_measured(pictures, [found for found, _ in whole], [seconds for _, seconds in whole])
