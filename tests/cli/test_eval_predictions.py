from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.io import savemat

from facekit.results.wider import write_predictions
from tests.cli.support import run
from tests.metrics.wider_files import cells, write_ground_truth

FACES = np.array([[100.0, 120, 80, 90], [300, 50, 40, 44], [20, 400, 60, 70]])


@pytest.fixture
def ground_truth(tmp_path: Path) -> Path:
    """Two pictures of an event with three faces each, all of which count."""
    return write_ground_truth(
        tmp_path / "ground_truth", {"0--Parade": {"a": FACES, "b": FACES + np.array([5.0, 5, 0, 0])}}
    )


def written(folder: Path, *boxes: NDArray[np.float64]) -> Path:
    rows = [np.column_stack([each, np.linspace(0.9, 0.3, len(each))]) for each in boxes]
    write_predictions(folder, dict(zip(("0--Parade/a", "0--Parade/b"), rows, strict=True)))
    return folder


def corners(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def test_per_cent_with_the_unit(ground_truth: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Of one picture all faces, of the other none: half of them, without a false one.
    found = written(tmp_path / "found", FACES, FACES[:0])
    assert run("eval-predictions", found, "--wider-gt", ground_truth) == 0
    text = capsys.readouterr()
    assert re.findall(r"^(\w+) +([0-9.]+ %)$", text.out, re.MULTILINE) == [
        ("easy", "50.000000 %"), ("medium", "50.000000 %"), ("hard", "50.000000 %"),
    ]  # fmt: skip
    assert "protocol: official WIDER FACE, IoU 0.5, 2 pictures; scores as predicted" in text.out
    assert "warning" not in text.err


def test_a_subset_in_which_no_face_counts_has_no_value(
    ground_truth: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    none = np.zeros((0, 1), dtype=np.uint8)
    savemat(ground_truth / "wider_easy_val.mat", {"gt_list": cells([cells([none, none])])})
    assert run("eval-predictions", written(tmp_path / "found", FACES, FACES[:0]), "--wider-gt", ground_truth) == 3
    text = capsys.readouterr()
    assert text.out.startswith("easy    n/a\nmedium  50.000000 %\n")
    assert "wider_easy_val.mat: no face counts: the AP of easy has no value" in text.err


def test_boxes_of_unknown_pictures_are_told(
    ground_truth: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = written(tmp_path / "found", FACES, FACES)
    (found / "0--Parade" / "z.txt").write_text("z\n1\n1 1 5 5 900\n")
    assert run("eval-predictions", found, "--wider-gt", ground_truth) == 0
    assert "1 boxes of 1 pictures that the ground truth doesn't have count in one thing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("boxes", "hint"),
    [
        (FACES / 500, "they seem to be shares of the picture's width and height, 0..1: multiply"),
        (corners(FACES), "they seem to be corners x1, y1, x2, y2: read so, they find 100 %"),
        (np.concatenate([FACES[:, :2] + FACES[:, 2:] / 2, FACES[:, 2:]], axis=1), "they seem to be centre x, centre y"),
    ],
)
def test_other_layouts_are_hinted_at_and_scored_as_given(
    boxes: NDArray[np.float64], hint: str, ground_truth: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = written(tmp_path / "found", boxes, boxes)
    assert run("eval-predictions", found, "--wider-gt", ground_truth) == 0
    text = capsys.readouterr()
    assert "easy    0.000000 %" in text.out
    assert hint in text.err and "the figures mean nothing" in text.err
