from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from facekit.metrics.layouts import doubtful_scores, likely_layout
from facekit.metrics.wider import WiderGroundTruth, read_wider_ground_truth, wider_ap
from facekit.results.wider import read_predictions

Rows = NDArray[np.float64]


def truth(pictures: int = 12) -> WiderGroundTruth:
    rng = np.random.default_rng(3)
    boxes = tuple(
        np.concatenate([rng.uniform(0, 900, (6, 2)), rng.uniform(20, 150, (6, 2))], axis=1).round()
        for _ in range(pictures)
    )
    names = tuple(f"0--Parade/{number}" for number in range(pictures))
    return WiderGroundTruth(names, boxes, dict.fromkeys(("easy", "medium", "hard"), ()))


def predictions(change: Callable[[Rows], Rows], noise: float = 2.0) -> dict[str, Rows]:
    """Every face found within some pixels, and as many false positives, written otherwise."""
    rng = np.random.default_rng(5)
    result = {}
    for name, faces in zip(truth().names, truth().boxes_xywh, strict=True):
        false = np.concatenate([rng.uniform(0, 900, (6, 2)), rng.uniform(20, 150, (6, 2))], axis=1)
        boxes = np.concatenate([faces + rng.uniform(-noise, noise, faces.shape), false])
        result[name] = change(np.concatenate([boxes, rng.uniform(0.02, 1, (len(boxes), 1))], axis=1))
    return result


def corners(rows: Rows) -> Rows:
    return np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:4], rows[:, 4:]], axis=1)


def centres(rows: Rows) -> Rows:
    return np.concatenate([rows[:, :2] + rows[:, 2:4] / 2, rows[:, 2:]], axis=1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (corners, "corners x1, y1, x2, y2: read so, they find 100 %"),
        (centres, "centre x, centre y, w, h:"),
        (lambda rows: corners(rows)[:, [1, 0, 3, 2, 4]], "corners y1, x1, y2, x2:"),
        (lambda rows: corners(rows)[:, [0, 2, 1, 3, 4]], "corners x1, x2, y1, y2:"),
        (lambda rows: rows[:, [1, 0, 3, 2, 4]], "y, x, h, w:"),
        (lambda rows: rows[:, [4, 0, 1, 2, 3]], "score first, then x, y, w, h:"),
        (lambda rows: corners(rows)[:, [4, 0, 1, 2, 3]], "score first, then corners x1, y1, x2, y2:"),
        (lambda rows: rows * [0.5, 0.5, 0.5, 0.5, 1], "x, y, w, h in pixels of pictures at 50 % of their size"),
        (lambda rows: rows * [2, 2, 2, 2, 1], "x, y, w, h in pixels of pictures at 200 % of their size"),
        (lambda rows: rows / [1024, 1024, 1024, 1024, 1], "shares of the picture's width and height"),
        (lambda rows: centres(rows) / [1100, 1100, 1100, 1100, 1], "shares of the picture's width and height"),
        (lambda rows: corners(rows) / [1100, 1100, 1100, 1100, 1], "shares of the picture's width and height"),
    ],
)
def test_other_layouts_are_recognised(change: Callable[[Rows], Rows], words: str) -> None:
    assert words in (likely_layout(predictions(change), truth()) or "")


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: rows * [0.1, 0.1, 0.1, 0.1, 1],  # in per cent, centres
        lambda rows: centres(rows) * [0.1, 0.1, 0.1, 0.1, 1],
        lambda rows: rows * [0.6, 0.3, 0.6, 0.3, 1] + [0, 200, 0, 0, 0],  # squeezed and padded
        lambda rows: rows * [-1, 1, 1, 1, 1] + [1024, 0, 0, 0, 0],
    ],
)
def test_boxes_that_hardly_meet_a_face_are_told(change: Callable[[Rows], Rows]) -> None:
    said = likely_layout(predictions(change), truth())
    assert said is not None and ("of the faces in 12 pictures" in said or "x, y, w, h in pixels of pictures at" in said)


@pytest.mark.parametrize("noise", [0.0, 2.0, 12.0, 60.0])
def test_good_and_bad_detectors_are_left_alone(noise: float) -> None:
    assert likely_layout(predictions(lambda rows: rows, noise), truth()) is None


def test_scores_that_rank_backwards_or_not_at_all() -> None:
    counting = tuple(np.ones(6, bool) for _ in truth().names)
    ground_truth = replace(truth(), counting=dict.fromkeys(("easy", "medium", "hard"), counting))

    def ranked(sign: float) -> dict[str, Rows]:
        """The six that are right before many that are wrong."""
        rows = predictions(lambda rows: np.concatenate([rows[:6], np.repeat(rows[6:], 20, axis=0)]))
        score = sign * np.arange(126, 0, -1, dtype=np.float64)
        return {name: np.concatenate([each[:, :4], score[:, None]], axis=1) for name, each in rows.items()}

    def said(sign: float) -> str | None:
        return doubtful_scores(ranked(sign), ground_truth, max(wider_ap(ranked(sign), ground_truth).values()))

    assert said(1) is None
    assert "seem to rank backwards" in (said(-1) or "")
    assert said(0) == "all 1512 scores are 0, so no box ranks before another"


def test_nothing_to_look_at() -> None:
    empty = {name: np.empty((0, 5)) for name in truth().names}
    assert likely_layout(empty, truth()) is None
    assert likely_layout({}, truth(0)) is None
    without_faces = WiderGroundTruth(("0--Parade/0",), (np.empty((0, 4)),), {})
    assert likely_layout({"0--Parade/0": np.array([[9.0, 9, 9, 9, 0.5]])}, without_faces) is None


def test_published_predictions(shared_dir: Path) -> None:
    shared = shared_dir / "data" / "widerface"
    ground_truth = read_wider_ground_truth(shared / "ground_truth")
    found = read_predictions(shared / "predictions" / "yolov7-face.npz")
    assert likely_layout(found, ground_truth) is None
    assert "corners x1, y1, x2, y2" in (
        likely_layout({name: corners(rows) for name, rows in found.items()}, ground_truth) or ""
    )
    assert "centre x" in (likely_layout({name: centres(rows) for name, rows in found.items()}, ground_truth) or "")
