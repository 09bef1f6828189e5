from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from facekit.engine.evaluation.details import Details
from facekit.engine.evaluation.evaluate import Measured, coco_metric, large_faces_metric
from facekit.labels.picture_labels import PictureLabels
from facekit.structures import Detections

FACE, CROWD = [50.0, 60.0, 120.0, 130.0], [300.0, 300.0, 400.0, 300.0]  # x, y, w, h
FIVE = np.array([[80.0, 100], [140, 100], [110, 130], [85, 160], [135, 160]])


def labels(*crowds: list[float]) -> PictureLabels:
    """A face with landmarks, and regions of many faces."""
    count = 1 + len(crowds)
    landmarks_xy = np.full((count, 5, 2), np.nan)
    landmarks_xy[0] = FIVE
    return PictureLabels(
        Path("no such picture.jpg"), (1024, 1024), np.array([FACE, *crowds]), landmarks_xy, np.arange(count) > 0
    )


def found(*boxes_xywh: list[float]) -> Detections:
    """The first is the surest."""
    boxes = np.array(boxes_xywh, np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    scores = np.linspace(0.9, 0.5, len(boxes), dtype=np.float32)
    return Detections(boxes, scores, np.tile(FIVE.astype(np.float32), (len(boxes), 1, 1)))


def figures(measured: Measured) -> dict[str, float]:
    details = Details(measured)
    rows = [*details.metrics(), coco_metric(measured), large_faces_metric(measured)]
    return {row.key: row.value for row in rows if row.unit == "%"}


PERFECT = {
    "ap": 100, "ap_h10": 100, "ap_h32": 100, "ap_64x64": 100, "ap_h100": 100, "recall_fp_0.01": 100,
    "recall_fp_0.1": 100, "recall_fp_1": 100, "nme": 0, "landmark_faces": 100,
}  # fmt: skip


class TestCrowds:
    @pytest.mark.parametrize(
        "detections",
        [
            [FACE],
            # Any number within it, the whole of it, and half in it: surer than the face or not.
            [FACE, [310, 310, 40, 40], [310, 310, 40, 40], [500, 400, 90, 90], CROWD],
            [[310, 310, 40, 40], [300, 300, 60, 60], CROWD, FACE],
        ],
    )
    def test_one_face_found_one_crowd_not(self, detections: list[list[float]]) -> None:
        measured = Measured([labels(CROWD)], [found(*detections)], [0.1])
        values = figures(measured)
        assert {key: values[key] for key in PERFECT} == pytest.approx(PERFECT)
        details = Details(measured)
        assert [row.faces for row in details.groups()] == [1, 1, 1, 1]
        assert sum(row.detections for row in details.calibration()) == 1
        assert details.crops(0.1) == []  # neither a miss nor a false positive
        best = next(row for row in details.thresholds(0.02) if row.is_best_f1)
        assert (best.precision_percent, best.recall_percent, best.false_positives_per_picture) == (100, 100, 0)

    def test_a_crowd_right_of_what_ap_64x64_looks_at(self) -> None:
        far = [1500.0, 100.0, 300.0, 300.0]
        values = figures(Measured([labels(far)], [found([1550, 150, 90, 90], FACE)], [0.1]))
        assert {key: values[key] for key in PERFECT} == pytest.approx(PERFECT)

    def test_what_lies_outside_of_it_is_wrong(self) -> None:
        values = figures(Measured([labels(CROWD)], [found([50, 600, 90, 90], FACE)], [0.1]))
        assert values["ap"] == pytest.approx(50)
        assert values["ap_h10"] == values["ap_64x64"] == pytest.approx(50)
        assert (values["recall_fp_0.1"], values["recall_fp_1"]) == (0, 100)

    def test_a_face_that_was_missed_stays_missed(self) -> None:
        values = figures(Measured([labels(CROWD)], [found([310, 310, 40, 40])], [0.1]))
        assert values["ap"] == values["ap_h10"] == values["recall_fp_1"] == values["landmark_faces"] == 0

    def test_crowds_alone_leave_nothing_to_measure(self) -> None:
        crowd = labels(CROWD).take(np.array([False, True]))
        measured = Measured([crowd], [found([310, 310, 40, 40])], [0.1])
        values = figures(measured)
        assert all(np.isnan(values[key]) for key in ("ap", "ap_h10", "ap_64x64", "recall_fp_1"))
        assert not any(row.is_best_f1 for row in Details(measured).thresholds(0.02))


class TestThresholds:
    def test_rows(self) -> None:
        # Scores 0.9 for the face, 0.7 and 0.5 for nothing.
        measured = Measured([labels()], [found(FACE, [500, 500, 50, 50], [600, 600, 50, 50])], [0.1])
        rows = Details(measured).thresholds(0.25)
        assert [row.score_threshold for row in rows] == [0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
        assert [row.is_best_f1 for row in rows] == [False] * 6 + [True, False]
        assert rows[0].precision_percent == pytest.approx(100 / 3)
        assert rows[0].false_positives_per_picture == 2
        assert rows[0].f1_percent == pytest.approx(50)
        assert rows[6].f1_percent == 100

    def test_curve(self) -> None:
        points = Details(Measured([labels()], [found([500, 500, 50, 50], FACE)], [0.1])).curve_points()
        assert points.name == "all faces, IoU 0.5"
        assert (points.recall, points.precision, points.ap) == ((0, 1), (0, 0.5), 0.5)
