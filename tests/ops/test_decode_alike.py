"""One decode path: torch tensors and NumPy arrays go through the same lines and give the same numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from facekit.feed import candidates
from facekit.models import build_model
from facekit.ops.head import Head, declared_head
from facekit.structures import Activated
from facekit.template import TEMPLATES_DIR, Template, load_template

PATHS = sorted(TEMPLATES_DIR.glob("*/template.yaml"))
SIZE_HW = (96, 160)


def activated(head: Head, rows: int, seed: int) -> Activated:
    """Random probabilities and deltas of two pictures, as torch tensors."""
    generator = torch.Generator().manual_seed(seed)
    classes = 2 if head.scoring == "softmax" else 1
    return Activated(
        torch.rand(2, rows, classes, generator=generator),
        torch.randn(2, rows, 4, generator=generator),
        torch.rand(2, rows, generator=generator) if head.has_objectness else None,
        torch.randn(2, rows, 10, generator=generator) if head.has_landmarks else None,
    )


@pytest.fixture(params=PATHS, ids=lambda path: path.parent.name)
def template(request: pytest.FixtureRequest) -> Template:
    path: Path = request.param
    return load_template(path)


def test_there_are_nineteen() -> None:
    assert len(PATHS) == 19


def test_numpy_and_torch_decode_alike(template: Template) -> None:
    head = declared_head(template.model)
    priors = head.priors(SIZE_HW)
    tensors = activated(head, len(priors.strides), seed=1)
    arrays = Activated(*(None if part is None else part.numpy() for part in tensors))
    by_torch, by_numpy = head.decode(tensors, priors.tensors()), head.decode(arrays, priors)
    for expected, got in zip(by_torch, by_numpy, strict=True):
        assert (expected is None) == (got is None)
        if got is not None:
            assert isinstance(got, np.ndarray) and got.dtype == np.float32
            np.testing.assert_allclose(got, expected.numpy(), rtol=1e-5, atol=1e-4)


def test_candidates_are_the_priors_over_the_threshold(template: Template) -> None:
    """Thresholding before decoding changes nothing."""
    head = declared_head(template.model)
    priors = head.priors(SIZE_HW)
    tensors = activated(head, len(priors.strides), seed=2)
    whole = head.decode(tensors, priors.tensors())
    chosen = whole.scores[1] > 0.5
    boxes, broken = candidates(tensors, 1, head, priors, 0.5)
    assert broken == 0
    assert 0 < len(boxes.scores) < len(priors.strides)
    np.testing.assert_array_equal(boxes.scores, whole.scores[1][chosen].numpy())
    np.testing.assert_allclose(boxes.boxes_xyxy, whole.boxes_xyxy[1][chosen].numpy(), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("name", ["face-detection-0200", "face-detection-0205", "retinaface-mobilenetv1-0.25-p3",
                                  "scrfd-0.5g", "tiny-ssd-300", "ultralight-rfb-320", "yunet-s"])  # fmt: skip
def test_the_declared_head_is_that_of_the_network(name: str) -> None:
    template = load_template(TEMPLATES_DIR / name / "template.yaml")
    head = declared_head(template.model)
    with torch.no_grad():
        raw = build_model(template).eval()(torch.zeros(1, 3, 64, 96))
    rows = len(head.priors((64, 96)).strides)
    assert raw.box_deltas.shape == (1, rows, 4)
    assert raw.class_logits.shape == (1, rows, 2 if head.scoring == "softmax" else 1)
    assert (raw.objectness_logits is not None) == head.has_objectness
    assert (raw.landmark_deltas is not None) == head.has_landmarks


def test_scores_that_are_no_probabilities_are_counted_and_no_faces() -> None:
    head = declared_head(load_template(TEMPLATES_DIR / "yunet-n" / "template.yaml").model)
    priors = head.priors((32, 32))
    said = activated(head, len(priors.strides), seed=3)
    said.class_probabilities[0, 3] = float("nan")
    said.class_probabilities[0, 5] = float("inf")
    said.class_probabilities[0, 7] = 1.5
    boxes, broken = candidates(said, 0, head, priors, -1.0)
    assert broken == 3
    assert len(boxes.scores) == len(priors.strides) - 3
