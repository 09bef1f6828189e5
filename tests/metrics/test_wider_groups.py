from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from facekit.errors import FacekitError
from facekit.metrics.wider import WiderGroundTruth, read_wider_ground_truth, wider_ap
from facekit.metrics.wider_groups import ATTRIBUTE_VALUES, wider_groups
from facekit.results.wider import read_predictions

FACE_A, FACE_B, FACE_C = [0, 0, 9, 9], [100, 100, 9, 9], [200, 200, 9, 9]
NOWHERE = [500, 500, 9, 9]
CLEAR, HEAVY = [0, 0, 0, 0, 0, 0], [2, 0, 0, 0, 2, 1]


def xywhs(*rows: Sequence[float]) -> NDArray[np.float64]:
    return np.array(rows, dtype=np.float64).reshape(-1, 5)


def two_events() -> WiderGroundTruth:
    """Parade with two faces, one heavily blurred, occluded and turned away, and a third that isn't in hard; Riot with
    one face."""
    hard = (np.array([True, True, False]), np.array([True]))
    boxes = (np.array([FACE_A, FACE_B, FACE_C], dtype=float), np.array([FACE_A], dtype=float))
    attributes = np.array([CLEAR, HEAVY, CLEAR], dtype=np.int8), np.array([HEAVY], dtype=np.int8)
    return WiderGroundTruth(("0--Parade/a", "4--Riot/b"), boxes, {"hard": hard}, attributes)


PREDICTIONS = {
    # Of Parade the clear face, one that doesn't count, a miss, the heavy face; of Riot a miss and then the face.
    "0--Parade/a": xywhs([*FACE_A, 1.0], [*FACE_C, 0.9], [*NOWHERE, 0.8], [*FACE_B, 0.2]),
    "4--Riot/b": xywhs([*NOWHERE, 0.7], [*FACE_A, 0.0]),
}


def rows_of(
    predictions: dict[str, NDArray[np.float64]], ground_truth: WiderGroundTruth
) -> dict[tuple[str, str], tuple[int, float]]:
    return {(group, name): (faces, ap) for group, name, faces, ap in wider_groups(predictions, ground_truth)}


def test_by_hand() -> None:
    rows = rows_of(PREDICTIONS, two_events())
    # Recall 1/2 at precision 1 and 1 at 2/3: the miss alone is false.
    assert rows["event", "Parade"] == (2, pytest.approx(1 / 2 + 1 / 2 * 2 / 3))
    assert rows["event", "Riot"] == (1, pytest.approx(1 / 2))
    # The clear face is the first of all.
    assert rows["blur", "clear"] == (1, pytest.approx(1))
    # Two misses, then both heavy ones: precision 1/3 at recall 1/2, 2/4 at 1.
    assert rows["blur", "heavy"] == rows["occlusion", "heavy"] == rows["pose", "atypical"] == (2, pytest.approx(1 / 2))
    assert rows["blur", "normal"][0] == 0
    assert math.isnan(rows["blur", "normal"][1])
    # Hit, miss, miss, hit, hit of three.
    assert rows["expression", "typical"] == (3, pytest.approx(1 / 3 + 2 / 3 * 3 / 5))


def test_order_of_the_rows() -> None:
    rows = wider_groups(PREDICTIONS, two_events())
    values = [(attribute, value) for attribute, names in ATTRIBUTE_VALUES.items() for value in names]
    assert [row[:2] for row in rows] == [("event", "Parade"), ("event", "Riot"), *values]


def test_scores_are_normalised_over_the_whole_run() -> None:
    # Alone, Riot's two scores would be 0 and 1, two points. Beside Parade's they share one: precision 1/2.
    predictions = {**PREDICTIONS, "4--Riot/b": xywhs([*FACE_A, 0.5004], [*NOWHERE, 0.5002])}
    assert rows_of(predictions, two_events())["event", "Riot"] == (1, pytest.approx(1 / 2))


def test_nothing_found_anywhere() -> None:
    rows = rows_of(dict.fromkeys(PREDICTIONS, xywhs()), two_events())
    assert rows["event", "Riot"] == (1, 0)
    assert rows["blur", "heavy"] == (2, 0)
    assert math.isnan(rows["blur", "normal"][1])


def test_no_pictures() -> None:
    rows = wider_groups({}, WiderGroundTruth((), (), {"hard": ()}, ()))
    assert {row.group for row in rows} == set(ATTRIBUTE_VALUES)
    assert all(row.faces == 0 and math.isnan(row.ap) for row in rows)


def test_ground_truth_without_attributes_gives_events() -> None:
    rows = wider_groups(PREDICTIONS, replace(two_events(), attributes=None))
    assert [row.group for row in rows] == ["event", "event"]


def test_missing_pictures() -> None:
    with pytest.raises(FacekitError, match="4--Riot/b"):
        wider_groups({"0--Parade/a": xywhs()}, two_events())


class TestPublishedDetections:
    """On the 566 pictures."""

    @pytest.fixture(scope="class")
    def ground_truth(self, shared_dir: Path) -> WiderGroundTruth:
        return read_wider_ground_truth(shared_dir / "data" / "widerface" / "ground_truth_subset")

    @pytest.fixture(scope="class")
    def predictions(self, shared_dir: Path) -> dict[str, NDArray[np.float64]]:
        folder = shared_dir / "data" / "widerface" / "reference_detections"
        return read_predictions(folder / "ir0205.npz")

    @pytest.fixture(scope="class")
    def rows(
        self, predictions: dict[str, NDArray[np.float64]], ground_truth: WiderGroundTruth
    ) -> dict[tuple[str, str], tuple[int, float]]:
        return rows_of(predictions, ground_truth)

    def test_faces_add_up(self, rows: dict[tuple[str, str], tuple[int, float]], ground_truth: WiderGroundTruth) -> None:
        hard = sum(int(mask.sum()) for mask in ground_truth.counting["hard"])
        for group in ("event", *ATTRIBUTE_VALUES):
            assert sum(faces for (own, _), (faces, _) in rows.items() if own == group) == hard
        assert sum(group == "event" for group, _ in rows) == 61

    def test_all_values_together_are_hard(
        self, predictions: dict[str, NDArray[np.float64]], ground_truth: WiderGroundTruth
    ) -> None:
        # Every face is given one value, so that its group is the whole of hard.
        assert ground_truth.attributes is not None
        same = replace(ground_truth, attributes=tuple(np.zeros_like(picture) for picture in ground_truth.attributes))
        hard = wider_ap(predictions, ground_truth)["hard"]
        rows = rows_of(predictions, same)
        for attribute, (value, *_) in ATTRIBUTE_VALUES.items():
            assert rows[attribute, value][1] == hard

    @pytest.mark.parametrize("event", ["0--Parade", "9--Press_Conference", "61--Street_Battle"])
    def test_event_is_the_protocol_on_its_pictures(
        self,
        rows: dict[tuple[str, str], tuple[int, float]],
        predictions: dict[str, NDArray[np.float64]],
        ground_truth: WiderGroundTruth,
        event: str,
    ) -> None:
        # Predictions of pictures that the ground truth lacks only take part in the normalisation.
        own = [index for index, name in enumerate(ground_truth.names) if name.startswith(f"{event}/")]
        cut = WiderGroundTruth(
            tuple(ground_truth.names[index] for index in own),
            tuple(ground_truth.boxes_xywh[index] for index in own),
            {subset: tuple(masks[index] for index in own) for subset, masks in ground_truth.counting.items()},
        )
        assert rows["event", event.split("--")[1]][1] == wider_ap(predictions, cut)["hard"] > 0

    def test_attribute_is_the_protocol_with_the_others_not_counting(
        self,
        rows: dict[tuple[str, str], tuple[int, float]],
        predictions: dict[str, NDArray[np.float64]],
        ground_truth: WiderGroundTruth,
    ) -> None:
        # Blur is the first column of the attributes, heavy its third value; pose is the last.
        assert ground_truth.attributes is not None
        for key, column, code in (("blur", "heavy"), 0, 2), (("pose", "atypical"), 5, 1):
            masks = tuple(
                hard & (attributes[:, column] == code)
                for hard, attributes in zip(ground_truth.counting["hard"], ground_truth.attributes, strict=True)
            )
            cut = replace(ground_truth, counting={**ground_truth.counting, "hard": masks})
            assert rows[key] == (sum(int(mask.sum()) for mask in masks), wider_ap(predictions, cut)["hard"])
