"""What an exported file finds, and how much of that is right."""

from __future__ import annotations

from collections.abc import Sequence

from facekit.detector import Detector
from facekit.engine.evaluation.details import Details
from facekit.engine.evaluation.evaluate import Measured, detect_pictures
from facekit.labels.picture_labels import PictureLabels


def measure(detector: Detector, pictures: Sequence[PictureLabels]) -> Measured:
    """Without a bar of its own, and without pictures that can't be read: these are its losses."""
    return detect_pictures(detector, pictures, "measuring", quiet=True, skip_unreadable=True)


def ap_50(measured: Measured) -> float | None:
    """AP at IoU 0.5 in per cent; None without pictures."""
    return 100 * Details(measured).voc.ap if measured.pictures else None
