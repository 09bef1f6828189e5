from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from facekit.errors import FacekitError
from facekit.metrics.wider import (
    SUBSETS,
    WiderGroundTruth,
    read_wider_ground_truth,
    wider_ap,
    wider_curves,
)
from facekit.results.wider import read_predictions

Rows = Sequence[Sequence[float]]


def xywhs(*rows: Sequence[float]) -> NDArray[np.float64]:
    return np.array(rows, dtype=np.float64).reshape(-1, 5)


def truth(
    faces: Mapping[str, Rows | NDArray[np.float64]], counting: Mapping[str, Sequence[int]] | None = None
) -> WiderGroundTruth:
    """The three subsets are the same; all faces count unless `counting` says which (0-based)."""
    boxes = tuple(np.array(rows, dtype=np.float64).reshape(-1, 4) for rows in faces.values())
    masks = tuple(
        np.isin(np.arange(len(rows)), counting[name] if counting is not None else range(len(rows)))
        for name, rows in faces.items()
    )
    return WiderGroundTruth(tuple(faces), boxes, dict.fromkeys(SUBSETS, masks))


def easy_ap(predictions: Mapping[str, NDArray[np.floating]], ground_truth: WiderGroundTruth) -> float:
    return wider_ap(predictions, ground_truth)["easy"]


FACE_A, FACE_B = [0, 0, 9, 9], [100, 100, 9, 9]
NOWHERE = [500, 500, 9, 9]


class TestEmpty:
    def test_no_pictures(self) -> None:
        assert [math.isnan(ap) for ap in wider_ap({}, truth({})).values()] == [True] * 3

    def test_no_predictions_at_all(self) -> None:
        assert easy_ap({"e/a": xywhs()}, truth({"e/a": [FACE_A]})) == 0.0

    def test_no_faces_in_any_picture(self) -> None:
        assert math.isnan(easy_ap({"e/a": xywhs([*FACE_A, 0.9])}, truth({"e/a": []})))

    def test_no_face_counts(self) -> None:
        ground_truth = truth({"e/a": [FACE_A]}, {"e/a": []})
        assert math.isnan(easy_ap({"e/a": xywhs([*FACE_A, 0.9])}, ground_truth))
        told = [f"wider_{name}_val.mat: no face counts: the AP of {name} has no value" for name in SUBSETS]
        assert list(map(str, ground_truth.losses())) == told and not truth({"e/a": [FACE_A]}).losses()

    def test_faces_of_a_picture_without_predictions_stay_in_recall(self) -> None:
        # 1 of 2 faces found, at precision 1.
        predictions = {"e/a": xywhs([*FACE_A, 0.9]), "e/b": xywhs()}
        assert easy_ap(predictions, truth({"e/a": [FACE_A], "e/b": [FACE_A]})) == 0.5

    def test_a_picture_without_faces_adds_no_proposals(self) -> None:
        predictions = {"e/a": xywhs([*FACE_A, 0.9]), "e/b": xywhs([*FACE_A, 0.95])}
        assert easy_ap(predictions, truth({"e/a": [FACE_A], "e/b": []})) == 1.0


class TestByHand:
    def test_hit_miss_hit(self) -> None:
        # recall 1/2 at precision 1, then 1/2 at 1/2, then 1 at 2/3: 1/2 * 1 + 1/2 * 2/3
        predictions = {"e/a": xywhs([*FACE_A, 0.9], [*NOWHERE, 0.5], [*FACE_B, 0.1])}
        assert easy_ap(predictions, truth({"e/a": [FACE_A, FACE_B]})) == pytest.approx(5 / 6)

    def test_second_hit_on_a_face_stays_a_proposal(self) -> None:
        predictions = {"e/a": xywhs([*FACE_A, 0.9], [*FACE_A, 0.5], [*FACE_B, 0.1])}
        assert easy_ap(predictions, truth({"e/a": [FACE_A, FACE_B]})) == pytest.approx(5 / 6)

    def test_hit_on_a_face_that_does_not_count_is_dropped(self) -> None:
        predictions = {"e/a": xywhs([*FACE_A, 0.9], [*FACE_A, 0.5], [*FACE_B, 0.1])}
        assert easy_ap(predictions, truth({"e/a": [FACE_A, FACE_B]}, {"e/a": [1]})) == 1.0

    def test_miss_in_a_picture_where_no_face_counts_is_a_proposal(self) -> None:
        # The miss comes first: recall 1 at precision 1/2.
        predictions = {"e/a": xywhs([*NOWHERE, 0.9]), "e/b": xywhs([*FACE_A, 0.5])}
        ground_truth = truth({"e/a": [FACE_A], "e/b": [FACE_A]}, {"e/a": [], "e/b": [0]})
        assert easy_ap(predictions, ground_truth) == 0.5

    def test_best_face_is_taken_even_if_it_does_not_count(self) -> None:
        # [0, 0, 9, 7] has IoU 80/90 with the second face, which doesn't count, and 80/100 with the first.
        predictions = {"e/a": xywhs([0, 0, 9, 7, 0.9])}
        assert easy_ap(predictions, truth({"e/a": [FACE_A, [0, 0, 9, 8]]}, {"e/a": [0]})) == 0.0

    @pytest.mark.parametrize(("height", "ap"), [(4, 1.0), (3, 0.0)])
    def test_widths_and_heights_are_one_pixel_more(self, height: int, ap: float) -> None:
        # FACE_A covers 10 x 10 pixels; 10 x 5 of them are exactly half, where 9 x 4 of 9 x 9 would be 4/9.
        assert easy_ap({"e/a": xywhs([0, 0, 9, height, 0.9])}, truth({"e/a": [FACE_A]})) == ap

    def test_scores_are_normalised_over_the_run_and_cut_at_thousandths(self) -> None:
        # Between 0 and 1 (set by a picture that isn't measured) the hit and the miss lie between the same two
        # thresholds, so they share a point of precision 1/2. Alone they would be 1 and 0: precision 1.
        predictions = {"e/a": xywhs([*FACE_A, 0.5004], [*NOWHERE, 0.5002])}
        ground_truth = truth({"e/a": [FACE_A]})
        assert easy_ap(predictions, ground_truth) == 1.0
        assert easy_ap({**predictions, "e/z": xywhs([*FACE_A, 0.0], [*FACE_A, 1.0])}, ground_truth) == 0.5

    def test_equal_scores_share_the_only_point(self) -> None:
        predictions = {"e/a": xywhs([*FACE_A, 0.3], [*NOWHERE, 0.3])}
        curve = wider_curves(predictions, truth({"e/a": [FACE_A]}))["hard"]
        np.testing.assert_array_equal(curve.precision, np.full(1000, 0.5))
        np.testing.assert_array_equal(curve.recall, np.ones(1000))

    def test_negative_size_of_an_annotated_face_hurts_nobody(self) -> None:
        # One face of the official files is -2 wide; nothing can hit it.
        predictions = {"e/a": xywhs([0, 0, 9, 9, 0.9])}
        assert easy_ap(predictions, truth({"e/a": [FACE_A, [3, 3, -2, 9]]})) == 0.5


def slow_reference(predictions: Mapping[str, Rows], ground_truth: WiderGroundTruth, subset: str) -> float:
    """Steps 1 to 4 of the protocol's text, number by number."""
    every = [row[4] for rows in predictions.values() for row in rows]
    low, high = min(every), max(every)
    proposals, hits, faces = [0] * 1000, [0] * 1000, 0
    for index, name in enumerate(ground_truth.names):
        boxes, counts = ground_truth.boxes_xywh[index].tolist(), ground_truth.counting[subset][index].tolist()
        faces += sum(counts)
        taken: set[int] = set()
        if not boxes:
            continue
        for row in sorted(predictions[name], key=lambda row: -row[4]):
            overlaps = [slow_iou(row, box) for box in boxes]
            best = overlaps.index(max(overlaps))
            is_hit = False
            if overlaps[best] >= 0.5:
                if not counts[best]:
                    continue
                is_hit = best not in taken
                taken.add(best)
            for k in range(1, 1001):
                if (row[4] - low) / (high - low) >= 1 - k / 1000:
                    proposals[k - 1] += 1
                    hits[k - 1] += is_hit
    precision = [hit / proposed if proposed else 0.0 for hit, proposed in zip(hits, proposals, strict=True)]
    recall = [hit / faces for hit in hits]
    area, before = 0.0, 0.0
    for k in range(1000):
        area += (recall[k] - before) * max(precision[k:])
        before = recall[k]
    return area


def slow_iou(a: Sequence[float], b: Sequence[float]) -> float:
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0]) + 1
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1]) + 1
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / ((a[2] + 1) * (a[3] + 1) + (b[2] + 1) * (b[3] + 1) - shared)


@pytest.mark.parametrize("seed", range(12))
def test_agrees_with_a_slow_reference(seed: int) -> None:
    rng = np.random.default_rng(seed)
    names = tuple(f"e/{index}" for index in range(6))
    # Small whole numbers: overlaps of exactly 1/2, equal overlaps and equal scores all happen.
    boxes = tuple(rng.integers(0, 12, (rng.integers(0, 6), 4)).astype(np.float64) for _ in names)
    counting = {subset: tuple(rng.random(len(faces)) < 0.7 for faces in boxes) for subset in SUBSETS}
    ground_truth = WiderGroundTruth(names, boxes, counting)
    predictions = {}
    for name, faces in zip(names, boxes, strict=True):
        near = faces[rng.integers(0, len(faces), 8)] + rng.integers(-1, 2, (8, 4)) if len(faces) else np.zeros((2, 4))
        scores = rng.choice([-1.5, -0.25, 0.1, 0.1004, 0.1008, 0.5, 0.75, 2.5], len(near))
        predictions[name] = np.column_stack([near[:, :2], np.maximum(near[:, 2:], 0), scores])
    predictions["e/unlisted"] = xywhs([0, 0, 1, 1, 3.0], [0, 0, 1, 1, -2.0])
    lists = {name: rows.tolist() for name, rows in predictions.items()}
    result = wider_ap(predictions, ground_truth)
    assert min(result.values()) > 0
    for subset in SUBSETS:
        assert result[subset] == pytest.approx(slow_reference(lists, ground_truth, subset), abs=1e-12)


def test_order_of_rows_does_not_matter_and_rows_stay_as_they_are() -> None:
    rng = np.random.default_rng(1)
    rows = np.column_stack([rng.uniform(0, 60, (40, 2)), rng.uniform(5, 30, (40, 2)), rng.permutation(40) / 40])
    ground_truth = truth({"e/a": rows[:10, :4] + 2})
    before = rows.copy()
    result = wider_ap({"e/a": rows}, ground_truth)
    np.testing.assert_array_equal(rows, before)
    assert result == wider_ap({"e/a": rows[np.argsort(-rows[:, 4])]}, ground_truth)
    assert result["easy"] > 0


class TestComplaints:
    def test_missing_pictures_are_counted_and_three_named(self) -> None:
        ground_truth = truth({f"e/{index}": [FACE_A] for index in range(5)})
        with pytest.raises(FacekitError, match=r"4 of the 5 pictures .* e/0, e/1, e/3 and more"):
            wider_ap({"e/2": xywhs()}, ground_truth)

    def test_names_of_no_picture_are_shown_beside_one_of_the_ground_truth(self) -> None:
        with pytest.raises(FacekitError, match=r"none is of a picture .* the first is called a/e/1, there it is e/1\."):
            wider_ap({"a/e/1": xywhs(), "a/e/2": xywhs()}, truth({"e/1": [FACE_A], "e/2": []}))

    @pytest.mark.parametrize("score", [np.nan, np.inf])
    def test_score_that_is_not_finite(self, score: float) -> None:
        with pytest.raises(FacekitError, match=r"e/a: row 1 .* expected finite"):
            wider_ap({"e/a": xywhs([*FACE_A, 0.5], [*FACE_A, score])}, truth({"e/a": [FACE_A]}))

    def test_negative_size(self) -> None:
        with pytest.raises(FacekitError, match=r"e/a: row 0 .* 9, -1, expected 0 or more"):
            wider_ap({"e/a": xywhs([0, 0, 9, -1, 0.5])}, truth({"e/a": [FACE_A]}))

    def test_shape(self) -> None:
        with pytest.raises(ValueError, match=r"e/a: must be of shape \(_, 5\), but got \(1, 4\)"):
            wider_ap({"e/a": np.zeros((1, 4))}, truth({"e/a": [FACE_A]}))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("yolov7-face", (0.9324932633835993, 0.9127942909886333, 0.8297205022059916)),
        ("retinaface-jit", (0.9448373912694071, 0.9244706568389409, 0.8153250447873874)),
    ],
)
def test_published_predictions_give_what_the_official_tool_gives(
    shared_dir: Path, name: str, expected: tuple[float, float, float]
) -> None:
    folder = shared_dir / "data" / "widerface"
    predictions = read_predictions(folder / "predictions" / f"{name}.npz")
    result = wider_ap(predictions, read_wider_ground_truth(folder))
    assert [result[subset] for subset in SUBSETS] == pytest.approx(expected, abs=1e-6)
