"""Suppression in the graph, float16, other opsets, uint8 pictures: what was asked for is what was written."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest

from facekit import Detector, evaluate
from facekit.commands.export import ExportOptions, export
from facekit.errors import ArgumentError
from facekit.pictures.read import read_picture
from facekit.targets.writing.draft import GraphOptions
from facekit.targets.writing.export import ExportSettings, export_weights
from facekit.template import find_template, load_template


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, drawn_weights: Path) -> Path:
    """All of them in one export, which compares both files with PyTorch."""
    folder = tmp_path_factory.mktemp("export")
    template = load_template(find_template("yunet-n"))
    options = GraphOptions(nms=True, half=True, opset=20, takes_uint8=True)
    export_weights(drawn_weights, template, folder, ExportSettings(("onnx", "openvino"), options=options))
    return folder


def test_the_onnx_file_gives_faces(exported: Path, drawn_weights: Path, drawn_dir: Path) -> None:
    model = onnx.load(exported / "model.onnx")
    assert {entry.domain: entry.version for entry in model.opset_import}[""] == 20
    assert [node.op_type for node in model.graph.node].count("NonMaxSuppression") == 1
    weights = [tensor for tensor in model.graph.initializer if len(tensor.dims) == 4]
    assert weights and {tensor.data_type for tensor in weights} == {onnx.TensorProto.FLOAT16}
    shapes = {
        value.name: [side.dim_param or side.dim_value for side in value.type.tensor_type.shape.dim]
        for value in model.graph.output
    }
    assert shapes == {"boxes": ["faces", 4], "scores": ["faces"], "landmarks": ["faces", 10]}
    detector = Detector.open(exported / "model.onnx", threads=1)
    assert detector.backend.fixed_batch == 1
    reference = Detector.open(drawn_weights, "yunet-n", "cpu")
    faces = 0
    for name in sorted((drawn_dir / "images").iterdir())[:3]:
        got, expected = (each.detect(name).above(0.3) for each in (detector, reference))
        assert len(got) == len(expected)
        faces += len(got)
        np.testing.assert_allclose(got.boxes_xyxy, expected.boxes_xyxy, atol=1)
        np.testing.assert_allclose(got.scores, expected.scores, atol=0.02)
    assert faces > 2
    raw = detector.backend.session.run(None, {"image": np.zeros((1, 3, 64, 96), np.float32)})
    assert [len(array) for array in raw] == [0, 0, 0]  # no faces at all


def test_thresholds_that_the_graph_does_not_have_are_refused(exported: Path, drawn_dir: Path) -> None:
    """It drops boxes at its own: the figures would stand beside a protocol that nobody followed."""
    measure = partial(
        evaluate, load_weights=exported / "model.onnx", test_ann_files=drawn_dir / "annotations.json",
        test_data_roots=drawn_dir, threads=1,
    )  # fmt: skip
    for thresholds, said in (
        ({"nms_threshold": 0.9}, "`nms_threshold`: .*model.onnx suppresses boxes itself, at score 0.02 and NMS 0.45"),
        ({"score_threshold": 0.001}, "`score_threshold`: .*suppresses boxes itself"),
    ):
        with pytest.raises(ArgumentError, match=said):
            measure(**thresholds)
    assert measure(score_threshold=0.3, nms_threshold=0.45) is not None
    assert not Detector.open(exported / "model.xml", threads=1).backend.suppresses


def test_the_openvino_file_takes_pictures_as_they_lie_in_memory(
    exported: Path, drawn_weights: Path, drawn_dir: Path
) -> None:
    ov = pytest.importorskip("openvino")
    model = ov.Core().read_model(exported / "model.xml")
    assert model.inputs[0].element_type == ov.Type.u8
    assert [str(side) for side in model.inputs[0].partial_shape][3] == "3"
    assert (exported / "model.bin").stat().st_size < 0.6 * 4 * 75_856  # two bytes a weight
    image_bgr = read_picture(sorted((drawn_dir / "images").iterdir())[1])
    got, expected = (
        Detector.open(weights, "yunet-n", "cpu", threads=1).detect(image_bgr).above(0.3)
        for weights in (exported / "model.xml", drawn_weights)
    )
    assert len(got) == len(expected) > 0
    np.testing.assert_allclose(got.scores, expected.scores, atol=0.01)
    streamed = Detector.open(exported / "model.xml", threads=1, mode="throughput").detect_batch([image_bgr] * 3)
    np.testing.assert_allclose(streamed[2].above(0.3).boxes_xyxy, got.boxes_xyxy, atol=1e-3)


@pytest.mark.parametrize(("given", "complaint"), [
    ({"nms": True, "formats": ("openvino",)}, "`nms` is about onnx, which `formats` doesn't name"),
    ({"uint8_input": True, "formats": "onnx"}, "`uint8_input` is about openvino"),
    ({"dynamic": True, "input_size": "320x320"}, "leave one of them out"),
    ({"dynamic": True, "nms": True}, "takes one picture at a time"),
])  # fmt: skip
def test_what_does_not_go_together(given: dict[str, object], complaint: str, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=complaint):
        ExportOptions("yunet-n", save_model_to=tmp_path, **given)


def test_dynamic_is_refused_with_the_reason(tmp_path: Path, shared_dir: Path) -> None:
    weights = shared_dir / "weights/ultralight/version-slim-320.pth"
    with pytest.raises(ArgumentError, match="takes 320x240 pictures alone, for which its priors are made"):
        export("ultralight-slim-320", weights, save_model_to=tmp_path, dynamic=True)
