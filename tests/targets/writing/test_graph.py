"""The module that every target exports, run as it is: no file is written here."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from facekit.errors import FacekitError
from facekit.feed import candidates
from facekit.models import build_model
from facekit.protocol import at_scale
from facekit.structures import Activated, Decoded
from facekit.targets.pytorch import PyTorchBackend
from facekit.targets.reading.outputs import GraphInput, GraphOutputs
from facekit.targets.writing.graph import ExportGraph
from facekit.template import TEMPLATES_DIR, Template, load_template
from tests.targets.support import check_equal, decoded

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


@pytest.mark.parametrize("name", ONE_SIZE)
def test_one_size_is_decoded_in_the_graph(name: str) -> None:
    template = at_scale(bundled(name), f"{SMALL_HW[1]}x{SMALL_HW[0]}")
    network = seeded(template)
    graph = ExportGraph(network, template)
    assert graph.output_names == ["boxes", "scores"]
    assert graph.example_size_hw == SMALL_HW and not graph.any_size
    assert graph.example(batch=2).shape == (2, 3, *SMALL_HW)
    pictures = random_pictures(*SMALL_HW)
    with torch.no_grad():
        boxes, scores = graph(torch.from_numpy(pictures).permute(0, 3, 1, 2).float())
    priors = len(network.head.priors(SMALL_HW).tensors().cxcywh)
    assert (boxes.shape, scores.shape) == ((2, priors, 4), (2, priors))
    check_equal(Decoded(boxes.numpy(), scores.numpy()), decoded(PyTorchBackend(network, template), pictures))


@pytest.mark.parametrize("name", ANY_SIZE)
def test_any_size_leaves_level_by_level(name: str) -> None:
    template = bundled(name)
    network = seeded(template)
    graph = ExportGraph(network, template)
    assert graph.example_size_hw == (128, 160)
    # Beside the traced size one that the protocol feeds and that is as awkward as can be.
    for height, width in [(128, 160), (99, 133) if name.startswith("retinaface") else (96, 160)]:
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
        read = GraphOutputs(template, "test")
        read.recognise({key: array[:1] for key, array in arrays.items()}, (height, width))
        head, said = read.head, read(arrays, (height, width))
        parts = [candidates(said, picture, head, head.priors((height, width)), -math.inf)[0] for picture in (0, 1)]
        got = Decoded(*(np.stack(fields) for fields in zip(*parts, strict=True)))
        check_equal(got, decoded(PyTorchBackend(network, template), pictures))


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


def arrays_like(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    return {name: np.zeros(shape, dtype=np.float32) for name, shape in shapes.items()}


# scrfd-0.5g on 64 x 96 pictures: 8 x 12, 4 x 6 and 2 x 3 cells of two priors each.
SCRFD_LEVELS = {
    f"{kind}_{stride}": (1, rows, columns)
    for kind, columns in (("cls", 1), ("bbox", 4), ("kps", 10))
    for stride, rows in ((8, 192), (16, 48), (32, 12))
}


@pytest.mark.parametrize(
    "outputs",
    [
        {},
        {"boxes": (1, 252, 4)},
        {"boxes": (1, 252, 4), "scores": (1, 251)},
        {"boxes": (1, 252, 4), "scores": (1, 252, 1)},
        SCRFD_LEVELS | {"cls_8": (1, 192, 2)},
        SCRFD_LEVELS | {"cls_8": (1, 191, 1)},
        SCRFD_LEVELS | {"cls_8": (192,)},
        SCRFD_LEVELS | {"kps_8": (1, 1, 192, 10)},
        {name: shape for name, shape in SCRFD_LEVELS.items() if name != "bbox_16"},
        {"detection_out": (1, 1, 200, 6)},
        {"rows": (200, 5)},
    ],
)
def test_outputs_of_no_layout_are_refused(outputs: dict[str, tuple[int, ...]]) -> None:
    with pytest.raises(FacekitError, match=r"none that scrfd-0\.5g exports: expected .*; got"):
        GraphOutputs(bundled("scrfd-0.5g"), "other.onnx").recognise(arrays_like(outputs), SMALL_HW)


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int32, np.bool_])
def test_outputs_of_another_type_are_refused(dtype: type) -> None:
    outputs = arrays_like(SCRFD_LEVELS) | {"bbox_8": np.zeros((1, 192, 4), dtype=dtype)}
    with pytest.raises(FacekitError, match="none that"):
        GraphOutputs(bundled("scrfd-0.5g"), "other.onnx").recognise(outputs, SMALL_HW)


def test_levels_under_others_names_are_told_apart_by_their_shapes() -> None:
    """SCRFD's own files: score_8 ..., with a batch's dimension or without, with landmarks or without."""
    for drops_batch in (False, True):
        for kinds in (("cls", "bbox", "kps"), ("cls", "bbox")):
            named = {name: shape for name, shape in SCRFD_LEVELS.items() if name.startswith(kinds)}
            outputs = {f"{500 + place}": shape[drops_batch:] for place, shape in enumerate(named.values())}
            read = GraphOutputs(bundled("scrfd-0.5g"), "other.onnx")
            read.recognise(arrays_like(outputs), SMALL_HW)
            assert not read.is_ours  # so the picture is normalised outside
            said = read(arrays_like(outputs), SMALL_HW)
            assert isinstance(said, Activated)
            assert said.box_deltas.shape == (1, 252, 4)
            assert (said.landmark_deltas is None) == (len(kinds) == 2)


@pytest.mark.parametrize(
    ("shapes", "types"),
    [
        ([], []),
        ([[1, 3, 64, 64], [1, 2]], ["float32", "float32"]),
        ([[None]], ["float32"]),
        ([[1, 4, 64, 64]], ["float32"]),
        ([[0, 3, 64, 64]], ["float32"]),
        ([[3, 3, 64, 64]], ["float32"]),
        ([[1, 3, 64, None]], ["float32"]),
        ([[1, 3, -64, 64]], ["float32"]),
        ([[1, 3, 10**9, 64]], ["float32"]),
        ([[1, 3, None, None]], ["float16"]),
        ([[1, 3, None, None]], ["int64"]),
        ([[1, 3, None, None]], ["tensor(string)"]),
    ],
)
def test_inputs_of_no_detector_are_refused(shapes: list[list[int | None]], types: list[str]) -> None:
    with pytest.raises(FacekitError, match=r"one input, float32 \(batch, 3, height, width\); this graph"):
        GraphInput(shapes, types, "other.onnx")
