"""The module that every target exports, run as it is: no file is written here."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from facekit.errors import FacekitError
from facekit.models import build_model
from facekit.structures import Decoded
from facekit.targets.graph import ExportGraph
from facekit.targets.outputs import ExportedOutputs
from facekit.targets.pytorch import PyTorchBackend
from facekit.template import TEMPLATES_DIR, Template, at_scale, load_template

TEMPLATES = sorted(path.parent.name for path in TEMPLATES_DIR.glob("*/template.yaml"))
ANY_SIZE = [name for name in TEMPLATES if name.startswith(("retinaface", "scrfd", "yunet"))]
ONE_SIZE = [name for name in TEMPLATES if name not in ANY_SIZE]
SMALL_HW = (64, 96)  # stands for a template's own size where that alone would take long


def bundled(name: str) -> Template:
    return load_template(TEMPLATES_DIR / name / "template.yaml")


def seeded(template: Template) -> Any:
    torch.manual_seed(0)
    return build_model(template).eval()


def random_pictures(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, height, width, 3), dtype=np.uint8)


def check_equal(got: Decoded, expected: Decoded) -> None:
    torch.testing.assert_close(got.scores, expected.scores, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(got.boxes_xyxy, expected.boxes_xyxy, atol=1e-2, rtol=1e-4)
    assert (got.landmarks_xy is None) == (expected.landmarks_xy is None)
    if got.landmarks_xy is not None and expected.landmarks_xy is not None:
        torch.testing.assert_close(got.landmarks_xy, expected.landmarks_xy, atol=1e-2, rtol=1e-4)


@pytest.mark.parametrize("name", ONE_SIZE)
def test_one_size_is_decoded_in_the_graph(name: str) -> None:
    template = at_scale(bundled(name), f"{SMALL_HW[1]}x{SMALL_HW[0]}")
    network = seeded(template)
    graph = ExportGraph(network, template)
    assert graph.output_names == ["boxes", "scores"]
    assert graph.check_sizes_hw == [SMALL_HW]
    assert graph.example(batch=2).shape == (2, 3, *SMALL_HW)
    pictures = random_pictures(*SMALL_HW)
    with torch.no_grad():
        boxes, scores = graph(torch.from_numpy(pictures).permute(0, 3, 1, 2).float())
    priors = len(network.head.priors(SMALL_HW).cxcywh)
    assert (boxes.shape, scores.shape) == ((2, priors, 4), (2, priors))
    check_equal(Decoded(boxes, scores), PyTorchBackend(network, template)(pictures))


@pytest.mark.parametrize("name", ANY_SIZE)
def test_any_size_leaves_level_by_level(name: str) -> None:
    template = bundled(name)
    network = seeded(template)
    graph = ExportGraph(network, template)
    sizes_hw = graph.check_sizes_hw
    assert sizes_hw[0] == (128, 160)
    # Beside the traced size one that the protocol feeds and that is as awkward as can be.
    assert sizes_hw[1:] == [(99, 133)] if name.startswith("retinaface") else [(96, 160)]
    for height, width in sizes_hw:
        pictures = random_pictures(height, width)
        with torch.no_grad():
            tensors = graph(torch.from_numpy(pictures).permute(0, 3, 1, 2).float())
        outputs = dict(zip(graph.output_names, tensors, strict=True))
        for tensor_name, tensor in outputs.items():
            kind, _, stride = tensor_name.partition("_")
            cells = math.ceil(height / int(stride)) * math.ceil(width / int(stride))
            columns = {"cls": tensor.shape[2], "obj": 1, "bbox": 4, "kps": 10}[kind]
            assert tensor.shape == (2, cells * (1 if name.startswith("yunet") else 2), columns), tensor_name
        arrays = {tensor_name: tensor.numpy() for tensor_name, tensor in outputs.items()}
        read = ExportedOutputs([*arrays], template, "test")
        check_equal(read(arrays, (height, width)), PyTorchBackend(network, template)(pictures))


def test_scrfds_outputs_are_those_that_its_users_read() -> None:
    template = bundled("scrfd-0.5g")
    graph = ExportGraph(seeded(template), template)
    assert graph.output_names == [f"{kind}_{stride}" for kind in ("cls", "bbox", "kps") for stride in (8, 16, 32)]
    with torch.no_grad():
        shapes = [tuple(tensor.shape) for tensor in graph(torch.rand(3, 3, 64, 96))]
    cells = (8 * 12, 4 * 6, 2 * 3)
    assert shapes == [(3, 2 * level, columns) for columns in (1, 4, 10) for level in cells]


def test_retinafaces_outputs_have_two_classes() -> None:
    template = bundled("retinaface-mobilenetv1-0.25-p3")
    graph = ExportGraph(seeded(template), template)
    assert graph.output_names == [f"{kind}_{stride}" for kind in ("cls", "bbox", "kps") for stride in (8, 16, 32)]
    with torch.no_grad():
        classes = graph(torch.rand(1, 3, 33, 50))[:3]
    assert [tuple(tensor.shape) for tensor in classes] == [(1, 5 * 7 * 2, 2), (1, 3 * 4 * 2, 2), (1, 2 * 2 * 2, 2)]
    for tensor in classes:
        torch.testing.assert_close(tensor.sum(dim=2), torch.ones(tensor.shape[:2]))


def test_other_sizes_to_check_follow_the_protocols_padding() -> None:
    network = seeded(bundled("retinaface-mobilenetv1-0.25-p3"))
    unpadded = ExportGraph(network, bundled("retinaface-mobilenetv1-0.25-p3"))
    padded = ExportGraph(network, bundled("scrfd-0.5g"))
    assert (unpadded.size_multiple, padded.size_multiple) == (1, 32)


@pytest.mark.parametrize("names", [["boxes"], ["cls_8", "bbox_8"], ["cls_8", "cls_16", "cls_32"], []])
def test_outputs_of_no_layout_are_refused(names: list[str]) -> None:
    with pytest.raises(FacekitError, match=r"are none that scrfd-0\.5g exports"):
        ExportedOutputs(names, bundled("scrfd-0.5g"), "other.onnx")
