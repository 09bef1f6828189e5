from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from facekit.errors import FacekitError
from facekit.metrics.matching import (
    FALSE,
    IGNORED,
    LabelledPicture,
    labelled_pictures,
    match_greedily,
    same_faces,
)

FACE_A, FACE_B = [0, 0, 100, 100], [200, 0, 300, 100]
NOWHERE = [600, 600, 700, 700]


def boxes(*rows: Sequence[float]) -> NDArray[np.float64]:
    return np.array(rows, dtype=np.float64).reshape(-1, 4)


def match(
    faces: NDArray[np.float64], found: NDArray[np.float64], scores: Sequence[float], ignored: Sequence[int] = ()
) -> list[int]:
    is_ignored = np.isin(np.arange(len(faces)), ignored)
    return match_greedily(LabelledPicture(faces, is_ignored, found, np.array(scores))).tolist()


class TestByHand:
    def test_empty(self) -> None:
        assert match(boxes(), boxes(), []) == []
        assert match(boxes(FACE_A), boxes(), []) == []
        assert match(boxes(), boxes(FACE_A), [0.5]) == [FALSE]

    def test_best_score_comes_first_and_second_hits_are_false(self) -> None:
        found = boxes(FACE_A, NOWHERE, FACE_A, FACE_B)
        assert match(boxes(FACE_B, FACE_A), found, [0.3, 0.9, 0.4, 0.1]) == [FALSE, FALSE, 1, 0]

    def test_first_of_equal_scores(self) -> None:
        assert match(boxes(FACE_A), boxes(FACE_A, FACE_A), [0.5, 0.5]) == [0, FALSE]

    @pytest.mark.parametrize(("right", "expected"), [(50, 0), (49.9, FALSE)])
    def test_half_is_enough(self, right: float, expected: int) -> None:
        assert match(boxes(FACE_A), boxes([0, 0, right, 100]), [0.9]) == [expected]

    def test_next_best_face_if_the_best_is_taken(self) -> None:
        # Both detections are nearer to the first face: 100 / 110 and 95 / 115 of it; the second has 90 / 120 of both.
        faces = boxes([0, 0, 100, 100], [20, 0, 120, 100])
        assert match(faces, boxes([0, 0, 100, 100], [5, 0, 105, 100]), [0.9, 0.8]) == [0, 1]

    def test_ignored_faces(self) -> None:
        # A crowd 200 wide and 100 high: a small detection inside it and one that lies half in it are ignored, as often
        # as they come; one that lies less than half in it is false; a face inside it is found all the same.
        faces = boxes([0, 0, 200, 100], [0, 0, 50, 50])
        found = boxes([60, 60, 80, 80], [60, 60, 80, 80], [190, 0, 210, 20], [191, 0, 211, 20], [0, 0, 50, 50])
        assert match(faces, found, [0.9, 0.8, 0.7, 0.6, 0.5], ignored=[0]) == [IGNORED, IGNORED, IGNORED, FALSE, 1]

    def test_boxes_without_area_and_inside_out(self) -> None:
        found = boxes([10, 10, 10, 50], [50, 50, 10, 10])
        assert match(boxes(FACE_A, FACE_A), found, [0.9, 0.8], ignored=[1]) == [FALSE, FALSE]


@pytest.mark.parametrize("seed", range(8))
def test_agrees_with_pycocotools(seed: int) -> None:
    rng = np.random.default_rng(seed)
    corner, size = rng.uniform(0, 120, (12, 2)), rng.uniform(10, 90, (12, 2))
    faces = np.concatenate([corner, corner + size], axis=1)
    ignored = rng.random(12) < 0.25
    found = faces[rng.integers(0, 12, 60)] + rng.normal(0, 6, (60, 4))
    found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
    scores = rng.permutation(60) / 60
    with contextlib.redirect_stdout(io.StringIO()):
        truth, results = COCO(), COCO()
        shared = {"images": [{"id": 1}], "categories": [{"id": 1}]}
        xywhs = [np.concatenate([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]], axis=1) for xyxy in (faces, found)]
        truth.dataset, results.dataset = (
            {
                **shared,
                "annotations": [
                    {"id": k + 1, "image_id": 1, "category_id": 1, "bbox": box, "area": box[2] * box[3], **extra(k)}
                    for k, box in enumerate(xywh.tolist())
                ],
            }
            for xywh, extra in zip(
                xywhs, (lambda k: {"iscrowd": int(ignored[k])}, lambda k: {"score": float(scores[k])}), strict=True
            )
        )
        truth.createIndex()
        results.createIndex()
        evaluation = COCOeval(truth, results, "bbox")
        evaluation.params.iouThrs = np.array([0.5])
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.params.maxDets = [100]
        evaluation.evaluate()
    (image,) = evaluation.evalImgs
    expected = np.full(60, FALSE)
    for k, face, is_ignored in zip(image["dtIds"], image["dtMatches"][0], image["dtIgnore"][0], strict=True):
        expected[k - 1] = IGNORED if is_ignored else int(face) - 1 if face else FALSE
    assert {FALSE, IGNORED} < set(expected.tolist())
    assert match_greedily(LabelledPicture(faces, ignored, found, scores)).tolist() == expected.tolist()


class TestPictures:
    def test_faces_become_corners(self) -> None:
        (picture,) = labelled_pictures([[[10, 20, 30, 40]]], [[True]], [boxes(FACE_A)], [[0.5]])
        assert picture.faces_xyxy.tolist() == [[10, 20, 40, 60]]
        assert picture.is_ignored.tolist() == [True]

    def test_complaints(self) -> None:
        one, flags, found, scores = [boxes(FACE_A)], [[False]], [boxes(FACE_B)], [[0.5]]
        with pytest.raises(ValueError, match="one entry a picture, but got 1, 0, 1 and 1"):
            list(labelled_pictures(one, [], found, scores))
        with pytest.raises(ValueError, match=r"is_ignored\[0\]: must be of shape \(1,\), but got \(2,\)"):
            list(labelled_pictures(one, [[False, True]], found, scores))
        with pytest.raises(ValueError, match=r"det_scores\[0\]: must have 1 scores, but got 2"):
            list(labelled_pictures(one, flags, found, [[0.5, 0.5]]))
        with pytest.raises(ValueError, match=r"gt_boxes_xywh\[0\]: must be of shape \(_, 4\)"):
            list(labelled_pictures([np.zeros((1, 5))], flags, found, scores))
        with pytest.raises(FacekitError, match=r"det_boxes_xyxy\[0\]: row 0 .* expected finite"):
            list(labelled_pictures(one, flags, [boxes([0, 0, np.inf, 1])], scores))


class TestSameFaces:
    def test_each_must_be_the_others_best(self) -> None:
        # Row 0 and row 1 both like column 0 best, which prefers row 1; row 2 is nobody's.
        assert same_faces(np.array([[0.7, 0.6], [0.9, 0.0], [0.1, 0.55]])).tolist() == [-1, 0, -1]

    def test_over_a_half(self) -> None:
        assert same_faces(np.array([[0.5]])).tolist() == [-1]
        assert same_faces(np.array([[0.51]])).tolist() == [0]

    @pytest.mark.parametrize("shape", [(0, 0), (2, 0), (0, 3)])
    def test_nobody_to_be_the_same(self, shape: tuple[int, int]) -> None:
        assert same_faces(np.empty(shape)).tolist() == [-1] * shape[0]
