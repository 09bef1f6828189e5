from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from facekit.labels.formats.yolo_rows import are_corners, is_confidence_first


def some_boxes(generator: np.random.Generator, least: float, most: float, centre: float) -> NDArray[np.float64]:
    """(200, 4): centre and size in fractions; sizes from least to most, centres round the picture's by `centre`."""
    return np.concatenate([generator.normal(0.5, centre, (200, 2)), generator.uniform(least, most, (200, 2))], axis=1)


@pytest.mark.parametrize(
    ("least", "most", "centre"),
    [(0.02, 0.2, 0.25), (0.02, 0.2, 0.02), (0.2, 0.6, 0.1), (0.5, 1, 0.1), (0.7, 1, 0.1), (0.9, 1.1, 0.03), (1, 1, 0)],
)
def test_centres_are_no_corners(least: float, most: float, centre: float) -> None:
    """Small faces anywhere, portraits, and crops that a face fills or reaches out of."""
    boxes = some_boxes(np.random.default_rng(1), least, most, centre)
    assert not are_corners(boxes)
    low, high = (np.clip(boxes[:, :2] + side * boxes[:, 2:], 0, 1) for side in (-0.5, 0.5))
    assert not are_corners(np.concatenate([(low + high) / 2, high - low], axis=1))


@pytest.mark.parametrize(("least", "most", "centre"), [(0.02, 0.2, 0.18), (0.2, 0.6, 0.1), (0.5, 0.8, 0.05)])
def test_corners(least: float, most: float, centre: float) -> None:
    boxes = some_boxes(np.random.default_rng(2), least, most, centre)
    corners = np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], axis=1).clip(0, 1)
    assert are_corners(corners)
    assert not are_corners(corners[:9])  # too few to tell


def test_confidence_first() -> None:
    rng = np.random.default_rng(0)
    centre_size = np.concatenate([rng.uniform(0.2, 0.8, (40, 2)), rng.uniform(0.05, 0.3, (40, 2))], axis=1)
    confidence = rng.uniform(0.4, 1, (40, 1))
    first = np.concatenate([confidence, centre_size], axis=1)
    assert is_confidence_first(first)
    assert not is_confidence_first(first[:9])  # too few to tell
    assert not is_confidence_first(np.concatenate([centre_size, confidence], axis=1))
    assert not is_confidence_first(np.full((40, 5), 0.5))
