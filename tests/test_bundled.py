"""The detector that comes with facekit: the file is what its card says, and finds a face that was measured by hand."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import facekit
from facekit.detector import BUNDLED_INT8, BUNDLED_WEIGHTS, Detector
from facekit.errors import ArgumentError
from facekit.targets.reading.about import own_licence
from facekit.template import find_template, load_template
from facekit.weights.checkpoint import describe_model
from facekit.weights.torch_file import read_torch_file

# By eye in data/demo/astronaut.jpg, enlarged five times: hairline to chin, cheek to cheek; the five landmarks.
FACE_XYXY = (180, 72, 271, 178)
LANDMARKS_XY = ((204, 101), (246, 103), (224, 125), (204, 140.5), (243, 142))

FOLDER = BUNDLED_WEIGHTS.parent
CHECKPOINT = FOLDER / "facekit.pth"  # what the bundled .onnx was exported from


def test_finds_the_astronaut(project_dir: Path) -> None:
    faces = Detector.bundled("cpu").detect(cv2.imread(str(project_dir / "data" / "demo" / "astronaut.jpg"))).above(0.5)
    assert len(faces) == 1
    assert np.abs(faces.boxes_xyxy[0] - FACE_XYXY).max() < 20
    assert faces.landmarks_xy is not None
    assert np.linalg.norm(faces.landmarks_xy[0] - LANDMARKS_XY, axis=1).max() < 7


def test_what_is_not_as_expected_is_said() -> None:
    detector = Detector.bundled("cpu")
    pictures: Any
    for pictures in (None, 5):
        with pytest.raises(ArgumentError, match=f"`pictures`: expected several, got {pictures}. Give a list"):
            detector.detect_batch(pictures)

    class Numbered:  # as torch's data sets are: no list, but items by their numbers
        def __getitem__(self, number: int) -> Any:
            return [np.zeros((32, 32, 3), np.uint8)][number]

    pictures = Numbered()
    assert len(detector.detect_batch(pictures)) == 1
    given: Any = "yes"
    with pytest.raises(ArgumentError, match="`int8`: expected True or False, got 'yes'"):
        Detector.bundled(int8=given)


def test_int8_finds_the_same(project_dir: Path) -> None:
    pytest.importorskip("openvino")
    picture = project_dir / "data" / "demo" / "astronaut.jpg"
    (rounded,) = Detector.bundled(int8=True).detect(picture).above(0.5)
    (expected,) = Detector.bundled("cpu").detect(picture).above(0.5)
    assert rounded.landmarks_xy is not None
    assert np.abs(rounded.box_xyxy - expected.box_xyxy).max() < 4
    assert np.linalg.norm(rounded.landmarks_xy - expected.landmarks_xy, axis=1).max() < 3
    assert abs(rounded.score - expected.score) < 0.05


def test_weights_are_small_and_nothing_but_weights() -> None:
    assert max(BUNDLED_WEIGHTS.stat().st_size, CHECKPOINT.stat().st_size) < 1_000_000
    content = read_torch_file(CHECKPOINT)
    assert (content["optimizer"], content["extra"]) == (None, {})


def test_weights_are_of_this_detector() -> None:
    assert describe_model(load_template(find_template("yunet-n"))) == read_torch_file(CHECKPOINT)["meta"]["model"]


def test_card_is_of_this_file() -> None:
    card = (FOLDER / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert re.findall(r"\b[0-9a-f]{64}\b", card) == [hashlib.sha256(CHECKPOINT.read_bytes()).hexdigest()]


def test_the_graph_is_the_checkpoints(project_dir: Path) -> None:
    picture = project_dir / "data" / "demo" / "astronaut.jpg"
    graph, checkpoint = (
        Detector.open(file, "yunet-n", "cpu").detect(picture) for file in (BUNDLED_WEIGHTS, CHECKPOINT)
    )
    np.testing.assert_allclose(graph.boxes_xyxy, checkpoint.boxes_xyxy, atol=0.05)
    np.testing.assert_allclose(graph.scores, checkpoint.scores, atol=1e-4)


@pytest.mark.usefixtures("bundled_is_traced")
def test_files_say_whose_weights_they_hold(tmp_path: Path, project_dir: Path) -> None:
    licence = own_licence(CHECKPOINT)
    assert licence is not None and licence.startswith("facekit's own weights: Apache-2.0")
    assert licence.encode() in BUNDLED_WEIGHTS.read_bytes() and licence in BUNDLED_INT8.read_text(encoding="utf-8")
    assert own_licence(project_dir / "data" / "demo" / "yunet-n-drawn.pth") is None
    weights = tmp_path / "copy.pth"  # known by what is in it
    weights.write_bytes(CHECKPOINT.read_bytes())
    facekit.export("yunet-n", load_weights=weights, save_model_to=tmp_path / "export", formats="onnx")
    assert licence.encode() in (tmp_path / "export" / "model.onnx").read_bytes()
