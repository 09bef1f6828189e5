"""The ONNX graph of each architecture that test_run.py leaves out gives what PyTorch gives, at every size it takes."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import pytest

from facekit.targets import Backend, open_backend
from facekit.targets.onnx import write_graph
from facekit.targets.pytorch import PyTorchBackend
from facekit.targets.writing.export import ExportSettings, export_weights
from facekit.targets.writing.graph import ExportGraph
from facekit.template import Template, find_template, load_template
from facekit.weights.checkpoint import Checkpoint, new_meta, save_checkpoint
from tests.targets.support import SHORT, check_equal, decoded, lively_network, short_network

FCOS, RETINAFACE, SCRFD = "face-detection-0205", "retinaface-mobilenetv1-0.25-p3", "scrfd-0.5g"
PER_LEVEL = [f"{kind}_{stride}" for kind in ("cls", "bbox", "kps") for stride in (8, 16, 32)]
OUTPUTS = {
    FCOS: ["boxes", "scores"],
    "ultralight-slim-320": ["boxes", "scores"],
    RETINAFACE: PER_LEVEL,
    SCRFD: PER_LEVEL,
}


class Exported(NamedTuple):
    template: Template
    file: Path
    reference: Backend


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Exported]:
    @cache
    def export(name: str) -> Exported:
        template, folder = load_template(find_template(name)), tmp_path_factory.mktemp("export")
        if template.model.architecture in SHORT:
            network = short_network(template)
            graph = ExportGraph(network, template)
            write_graph(graph, folder / "model.onnx", graph.about)
            return Exported(template, folder / "model.onnx", PyTorchBackend(network, template))
        network = lively_network(template)
        save_checkpoint(folder / "random.pth", Checkpoint(new_meta(template, 1, 1), network.state_dict()))
        (file,) = export_weights(folder / "random.pth", template, folder, ExportSettings(("onnx",))).files
        return Exported(template, file, open_backend(folder / "random.pth", template, "cpu"))

    return export


@pytest.mark.parametrize("name", OUTPUTS)
def test_names_and_free_sides(exported: Callable[[str], Exported], name: str) -> None:
    model, template = onnx.load(exported(name).file), exported(name).template
    assert [value.name for value in model.graph.output] == OUTPUTS[name]
    (image,) = model.graph.input
    batch, channels, height, width = image.type.tensor_type.shape.dim
    assert image.name == "image"
    assert batch.dim_param and channels.dim_value == 3
    if OUTPUTS[name] is PER_LEVEL:
        assert height.dim_param and width.dim_param
    else:
        assert (height.dim_value, width.dim_value) == template.input.size_hw


@pytest.mark.parametrize(
    ("name", "size_hw"),
    [
        (FCOS, (416, 416)),
        ("ultralight-slim-320", (240, 320)),
        (RETINAFACE, (128, 64)),
        (RETINAFACE, (97, 255)),  # one over and one under a multiple of every stride
        (RETINAFACE, (9, 31)),
        (SCRFD, (32, 32)),
        (SCRFD, (224, 96)),
        (SCRFD, (640, 640)),
    ],
)
def test_equal_to_pytorch_in_batches(exported: Callable[[str], Exported], name: str, size_hw: tuple[int, int]) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (2, *size_hw, 3), dtype=np.uint8)
    template, file, reference = exported(name)
    expected, got = decoded(reference, pictures), decoded(open_backend(file, template), pictures)
    assert not np.array_equal(expected.scores[0], expected.scores[1])
    assert (got.landmarks_xy is not None) == (OUTPUTS[name] is PER_LEVEL)
    check_equal(got, expected, scores_atol=1e-4, places_atol=2e-2)
