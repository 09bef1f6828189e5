"""Rows that the tests of all formats write and read back."""

from __future__ import annotations

import numpy as np

from facekit.results.row import Row, Run
from facekit.structures import Detections

RUN = Run("0.5.0", "yunet-n", "facekit.onnx", "ab" * 32, "own size", 0.5, 0.0)


def faces(*boxes_xyxy: tuple[float, ...], points: bool = True, tracked: bool = False) -> Detections:
    count = len(boxes_xyxy)
    boxes = np.array(boxes_xyxy, np.float32).reshape(-1, 4)
    corner, size = boxes[:, None, :2], boxes[:, None, 2:] - boxes[:, None, :2]
    places = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]], np.float32)
    return Detections(
        boxes,
        np.linspace(0.987654321, 0.6, count).astype(np.float32),
        corner + places * size if points else None,
        np.arange(1, count + 1) if tracked else None,
        np.arange(count) % 2 == 1 if tracked else None,
    )


def rows() -> list[Row]:
    """Two faces, none, a broken picture, odd names, a face that reaches outside, frames of a video."""
    return [
        Row("a/one.jpg", (640, 480), faces((10.125, 20, 110.3333, 150), (300, 100, 340, 160)), name="a/one.jpg"),
        Row("a/none.png", (64, 48), faces(), name="a/none.png", left_out="1 of its 2 frames", file_state=(9, 10**18)),
        Row("b/broken, \"quoted\".jpg", error="a damaged JPEG,\nof two lines", name="b/broken.jpg"),
        Row("b/bytes\udcff é.jpg", (32, 32), faces((-5, -5, 20, 25), points=False), name="b/bytes é.jpg"),
        Row("v.mp4", (640, 480), faces((1, 2, 30, 40), (50, 60, 90, 99), tracked=True), None, 0, 0.0, "v/0.jpg"),
        Row("v.mp4", (640, 480), faces(), frame=3, time_s=0.12, name="v/3.jpg"),
    ]  # fmt: skip


def assert_same(found: list[Row], expected: list[Row]) -> None:
    assert [row.to_dict() for row in found] == [row.to_dict() for row in expected]
    for row, other in zip(found, expected, strict=True):  # to the last bit
        assert row.faces.boxes_xyxy.tolist() == other.faces.boxes_xyxy.tolist()
        assert row.faces.scores.dtype == np.float32 and row.faces.scores.tolist() == other.faces.scores.tolist()
