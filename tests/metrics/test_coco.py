from __future__ import annotations

import contextlib
import copy
import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from facekit.errors import FacekitError
from facekit.metrics.coco import coco_ap

FACE = 1
BOX = [0, 0, 100, 100]


def annotation_of(*faces: dict[str, Any], images: Sequence[int] = (7,)) -> dict[str, Any]:
    return {
        "images": [{"id": image_id} for image_id in images],
        "categories": [{"id": FACE, "name": "face"}, {"id": 2, "name": "mask"}],
        "annotations": [{"id": index, "image_id": 7, "category_id": FACE, **face} for index, face in enumerate(faces)],
    }


def boxes(*rows: Sequence[float]) -> NDArray[np.float64]:
    return np.array(rows, dtype=np.float64).reshape(-1, 4)


class TestEmpty:
    def test_nothing_at_all(self) -> None:
        assert math.isnan(coco_ap({"images": [], "annotations": [], "categories": []}, {}, FACE))

    def test_no_annotations(self) -> None:
        assert math.isnan(coco_ap(annotation_of(), {7: (boxes(BOX), [0.9])}, FACE))

    @pytest.mark.parametrize("detections", [{}, {7: (np.zeros((0, 4)), np.zeros(0))}])
    def test_no_detections(self, detections: dict[int, tuple[NDArray[np.float64], NDArray[np.float64]]]) -> None:
        assert coco_ap(annotation_of({"bbox": BOX}), detections, FACE) == 0.0

    def test_crowds_alone(self) -> None:
        assert math.isnan(coco_ap(annotation_of({"bbox": BOX, "iscrowd": 1}), {7: (boxes(BOX), [0.9])}, FACE))


class TestByHand:
    def test_perfect_even_with_annotation_id_0(self) -> None:
        assert coco_ap(annotation_of({"id": 0, "bbox": BOX}), {7: (boxes(BOX), [0.9])}, FACE) == pytest.approx(1)

    def test_annotation_ids_that_repeat(self) -> None:
        annotation = annotation_of({"id": 5, "bbox": BOX}, {"id": 5, "bbox": [200, 0, 100, 100]})
        assert coco_ap(annotation, {7: (boxes(BOX, [200, 0, 300, 100]), [0.9, 0.8])}, FACE) == pytest.approx(1)

    def test_mean_over_ten_overlaps(self) -> None:
        # IoU 0.72: enough for 0.50, 0.55, 0.60, 0.65 and 0.70, five of ten.
        assert coco_ap(annotation_of({"bbox": BOX}), {7: (boxes([0, 0, 100, 72]), [0.9])}, FACE) == pytest.approx(0.5)

    def test_miss_before_the_hit(self) -> None:
        detections = {7: (boxes(BOX, [500, 500, 600, 600]), [0.5, 0.9])}
        assert coco_ap(annotation_of({"bbox": BOX}), detections, FACE) == pytest.approx(0.5)

    def test_image_without_detections_stays_in_recall(self) -> None:
        # Recall 1/2 is reached by 51 of COCO's 101 recalls 0, 0.01, ..., 1.
        annotation = annotation_of({"bbox": BOX}, {"bbox": BOX, "image_id": 8}, images=(7, 8))
        assert coco_ap(annotation, {7: (boxes(BOX), [0.9])}, FACE) == pytest.approx(51 / 101)

    @pytest.mark.parametrize(("before", "ap"), [(99, 0.01), (100, 0.0)])
    def test_hundred_detections_an_image(self, before: int, ap: float) -> None:
        found = boxes(BOX, *[[500, 500, 600, 600]] * before)
        scores = np.array([0.1] + [0.9] * before)
        assert coco_ap(annotation_of({"bbox": BOX}), {7: (found, scores)}, FACE) == pytest.approx(ap)

    def test_other_categories_are_left_out(self) -> None:
        annotation = annotation_of({"bbox": BOX}, {"bbox": [200, 0, 100, 100], "category_id": 2})
        assert coco_ap(annotation, {7: (boxes(BOX), [0.9])}, FACE) == pytest.approx(1)

    def test_detections_in_a_crowd_are_not_false(self) -> None:
        annotation = annotation_of({"bbox": BOX}, {"bbox": [200, 0, 100, 100], "iscrowd": 1})
        detections = {7: (boxes(BOX, [200, 0, 220, 20], [240, 0, 260, 20]), [0.5, 0.9, 0.8])}
        assert coco_ap(annotation, detections, FACE) == pytest.approx(1)


def random_set(seed: int) -> tuple[dict[str, Any], dict[int, tuple[NDArray[np.float64], NDArray[np.float64]]]]:
    rng = np.random.default_rng(seed)
    faces: list[dict[str, Any]] = []
    detections = {}
    for image_id in range(6):
        count = rng.integers(0, 6)
        picture = np.concatenate([rng.uniform(0, 300, (count, 2)), rng.uniform(5, 150, (count, 2))], axis=1)
        for x, y, w, h in picture.tolist():
            crowd = int(rng.random() < 0.1)
            face = {"image_id": image_id, "bbox": [x, y, w, h], "area": w * h, "iscrowd": crowd, "id": len(faces) + 1}
            faces.append(face)
        near = picture[rng.integers(0, count, 130)] + rng.normal(0, 8, (130, 4)) if count else np.full((2, 4), 9.0)
        found = np.concatenate([near[:, :2], near[:, :2] + np.abs(near[:, 2:])], axis=1)
        detections[image_id] = (found, rng.integers(1, 40, len(found)) / 40)
    return annotation_of(*faces, images=range(6)), detections


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_plain_pycocotools(seed: int) -> None:
    annotation, detections = random_set(seed)
    results = [
        {"image_id": image_id, "category_id": FACE, "bbox": [x1, y1, x2 - x1, y2 - y1], "score": score}
        for image_id, (found, scores) in detections.items()
        for (x1, y1, x2, y2), score in zip(found.tolist(), scores.tolist(), strict=True)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = copy.deepcopy(annotation)
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(results), "bbox")
        evaluation.params.catIds = [FACE]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert 0 < evaluation.stats[0] < 1
    assert coco_ap(annotation, detections, FACE) == pytest.approx(evaluation.stats[0], abs=1e-12)


def test_silent_and_without_side_effects(capsys: pytest.CaptureFixture[str]) -> None:
    annotation = annotation_of({"bbox": BOX}, {"bbox": [200, 0, 100, 100], "iscrowd": 1})
    found, scores = boxes([0, 0, 50, 50], BOX), np.array([0.5, 0.9])
    before = copy.deepcopy((annotation, found, scores))
    coco_ap(annotation, {7: (found, scores)}, FACE)
    assert annotation == before[0]
    np.testing.assert_array_equal(found, before[1])
    np.testing.assert_array_equal(scores, before[2])
    assert capsys.readouterr() == ("", "")


class TestComplaints:
    def test_unknown_images(self) -> None:
        empty = (boxes(), np.zeros(0))
        with pytest.raises(FacekitError, match="4 image ids aren't in the annotation file, such as 1, 2, 3"):
            coco_ap(annotation_of({"bbox": BOX}), {1: empty, 2: empty, 7: empty, 3: empty, 4: empty}, FACE)

    def test_unknown_category(self) -> None:
        with pytest.raises(FacekitError, match=r"no category 3, expected one of \{1: 'face', 2: 'mask'\}"):
            coco_ap(annotation_of({"bbox": BOX}), {}, 3)

    def test_shapes(self) -> None:
        with pytest.raises(ValueError, match=r"detections\[7\]: boxes_xyxy: must be of shape \(_, 4\), but got \(4,\)"):
            coco_ap(annotation_of({"bbox": BOX}), {7: (BOX, [0.5])}, FACE)
        with pytest.raises(ValueError, match=r"detections\[7\]: must have 1 scores, but got 2"):
            coco_ap(annotation_of({"bbox": BOX}), {7: ([BOX], [0.5, 0.4])}, FACE)

    def test_score_that_is_not_finite(self) -> None:
        with pytest.raises(FacekitError, match=r"detections\[7\]: scores: row 0 is nan"):
            coco_ap(annotation_of({"bbox": BOX}), {7: ([BOX], [np.nan])}, FACE)
