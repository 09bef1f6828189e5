"""Files of our own and of others', opened as they are."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from facekit import Detector
from facekit.base.options import Runtime
from facekit.detector import BUNDLED_WEIGHTS
from facekit.errors import FacekitError
from facekit.targets import BACKENDS, open_backend
from facekit.targets.onnx import choose_providers
from tests.cli.support import run

PORTRAIT = Path(__file__).resolve().parents[2] / "data" / "demo" / "astronaut.jpg"
FACE_XYXY = (180, 54, 273, 174)  # measured by hand


def overlap(box_xyxy: np.ndarray, other: tuple[float, ...]) -> float:
    x1, y1, x2, y2 = (*np.maximum(box_xyxy[:2], other[:2]), *np.minimum(box_xyxy[2:], other[2:]))
    shared = max(x2 - x1, 0) * max(y2 - y1, 0)
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (box_xyxy, other)]
    return float(shared / (sum(areas) - shared))


class TestWithoutTorch:
    @pytest.mark.parametrize(
        "code",
        [
            "import facekit",
            "import facekit; facekit.Detector",
            "import facekit; d = facekit.Detector.bundled(); assert len(d.detect({picture!r}))",
            "from facekit.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass",
        ],
    )
    def test_it_is_never_imported(self, code: str) -> None:
        code = code.format(picture=str(PORTRAIT)) + "\nimport sys; assert 'torch' not in sys.modules, 'torch'"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("backend", ["onnx", "openvino", "opencv", "facedetectoryn"])
def test_another_template_than_the_files_own_is_refused(backend: str) -> None:
    weights = BUNDLED_WEIGHTS.with_name("facekit-int8.xml") if backend == "openvino" else BUNDLED_WEIGHTS
    with pytest.raises(FacekitError, match="is of the template yunet-n, and yunet-s was given"):
        Detector.open(weights, "yunet-s", backend=backend)


@pytest.mark.parametrize("backend", [None, "auto", "onnx", "openvino", "opencv"])
def test_every_runtime_of_the_bundled_file_finds_the_portraits_face(backend: str | None) -> None:
    faces = Detector.bundled(backend=backend, threads=1).detect(PORTRAIT).above(0.5)
    assert len(faces) == 1
    assert overlap(faces[0].box_xyxy, FACE_XYXY) > 0.6
    expected = Detector.bundled(threads=1).detect(PORTRAIT)
    np.testing.assert_allclose(faces.boxes_xyxy[0], expected.boxes_xyxy[0], atol=0.05)
    np.testing.assert_allclose(faces.scores[0], expected.scores[0], atol=1e-4)


def test_a_backend_that_does_not_read_the_file(tmp_path: Path) -> None:
    with pytest.raises(FacekitError, match=r"backend 'pytorch': can't run facekit\.onnx; expected one of auto, onnx"):
        Detector.bundled(backend="pytorch")
    with pytest.raises(FacekitError, match="`threads`: expected a whole number of 1 to 1024, or None, got 0"):
        Detector.bundled(threads=0)
    with pytest.raises(FacekitError, match="threads: expected 1 to 1024, got 1000000"):
        open_backend(BUNDLED_WEIGHTS, threads=1_000_000)
    with pytest.raises(FacekitError, match="`threads`: expected a whole number of 1 to 1024, or None, got 1000000"):
        Detector.bundled(threads=1_000_000)


@pytest.mark.parametrize(
    ("device", "expected"),
    [(None, ["CUDA", "CPU"]), ("cpu", ["CPU"]), ("cuda", ["CUDA", "CPU"]), ("tensorrt", ["Tensorrt", "CUDA", "CPU"])],
)
def test_tensorrt_is_asked_for_by_name(
    device: str | None, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{name}ExecutionProvider" for name in ("Tensorrt", "CUDA", "CPU")]
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: names)
    assert choose_providers(device) == [f"{name}ExecutionProvider" for name in expected]


def test_tensorrt_that_is_not_there() -> None:
    with pytest.raises(FacekitError, match="device tensorrt: this ONNX Runtime has no TensorRT"):
        Detector.bundled(device="tensorrt")


@pytest.mark.parametrize("device", ["cuda", "mps", "xpu:0"])
@pytest.mark.parametrize("backend", ["openvino", "opencv", "onnx", "auto"])
def test_a_device_that_a_runtime_does_not_know(
    device: str, backend: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    with caplog.at_level("WARNING", logger="facekit"):
        Detector.bundled(device=device, backend=backend)
    (said,) = caplog.messages
    assert said.startswith(f"device {device}: ") and "the CPU" in said


def test_the_cpu_is_known_everywhere(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING", logger="facekit"):
        Detector.bundled(device="cpu", backend="openvino")
    assert not caplog.messages


@pytest.mark.parametrize(("backend", "runtime"), [("opencv", "cv2.dnn"), ("facedetectoryn", "cv2.FaceDetectorYN")])
def test_opencv_does_not_suppress_in_the_graph(backend: str, runtime: str, tmp_path: Path) -> None:
    model = onnx.load(BUNDLED_WEIGHTS)
    model.graph.node.append(helper.make_node("NonMaxSuppression", ["bbox_8", "cls_8"], ["kept"]))
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(FacekitError, match=rf"which {runtime} can't run\. Export it without"):
        Detector.open(tmp_path / "model.onnx", backend=backend)


@pytest.mark.parametrize("backend", ["opencv", "facedetectoryn"])
def test_opencv_keeps_its_own_lines_to_itself(backend: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert len(Detector.bundled(backend=backend).detect(PORTRAIT).above(0.5)) == 1
    assert capfd.readouterr() == ("", "")


def test_the_command_line_knows_every_backend() -> None:
    assert get_args(Runtime) == BACKENDS


def test_the_file_names_its_template() -> None:
    assert Detector.open(BUNDLED_WEIGHTS).template.name == "yunet-n"


class TestOthersFiles:
    @pytest.mark.parametrize(
        ("file", "template"),
        [
            ("openvino/face-detection-retail-0005.xml", "tiny-ssd-300"),
            ("openvino/face-detection-0205.xml", "face-detection-0205"),
            ("openvino/face-detection-0200.xml", "face-detection-0200"),
            ("peers/scrfd_500m.onnx", "scrfd-0.5g"),
            ("peers/scrfd_500m_kps.onnx", "scrfd-0.5g"),
            ("ultralight/version-RFB-320.onnx", "ultralight-rfb-320"),
            ("yunet/yunet_n_320_320.onnx", "yunet-n"),
            ("yunet/yunet_n_dynamic.onnx", "yunet-n"),
        ],
    )
    def test_they_run_as_they_are(self, shared_dir: Path, file: str, template: str) -> None:
        faces = Detector.open(shared_dir / "weights" / file, template, threads=1).detect(PORTRAIT).above(0.5)
        assert overlap(faces[0].box_xyxy, FACE_XYXY) > 0.5
        if faces.landmarks_xy is not None:
            (left, right), nose = faces.landmarks_xy[0, :2, 0], faces.landmarks_xy[0, 2]
            assert left < nose[0] < right

    def test_a_graph_of_one_size_is_fed_fitted_pictures(self, shared_dir: Path) -> None:
        weights = shared_dir / "weights/yunet"
        fixed = Detector.open(weights / "yunet_n_320_320.onnx", "yunet-n", threads=1)
        assert fixed.protocol().startswith("fit into 320x320, zero-padded to it")
        expected = Detector.open(weights / "yunet_n_dynamic.onnx", "yunet-n", threads=1)
        small = cv2.resize(cv2.imread(str(PORTRAIT)), (320, 320))
        np.testing.assert_allclose(fixed.detect(small).boxes_xyxy[0], expected.detect(small).boxes_xyxy[0], atol=0.1)


def graph_file(path: Path, cell: float, columns: dict[str, int] | None = None, **changes: object) -> Path:
    """An ONNX file with yunet's twelve outputs, all numbers being `cell`: for inputs of any size."""
    kinds = columns or {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}
    nodes, outputs, constants = [], [], []
    for stride in (8, 16, 32):
        for kind, width in kinds.items():
            # A pooled picture has the level's cells; the mean over channels, times zero, plus the number.
            base = f"{kind}_{stride}"
            constants += [
                numpy_helper.from_array(np.zeros(1, np.float32), base + "z"),
                numpy_helper.from_array(np.full(width, cell, np.float32), base + "c"),
                numpy_helper.from_array(np.array([1, -1, 1], np.int64), base + "s"),
            ]
            nodes += [
                helper.make_node("MaxPool", ["image"], [base + "p"], kernel_shape=[stride] * 2, strides=[stride] * 2),
                helper.make_node("ReduceMean", [base + "p"], [base + "m"], axes=[1], keepdims=1),
                helper.make_node("Reshape", [base + "m", base + "s"], [base + "r"]),
                helper.make_node("Mul", [base + "r", base + "z"], [base + "0"]),
                helper.make_node("Add", [base + "0", base + "c"], [base]),
            ]
            outputs.append(helper.make_tensor_value_info(base, TensorProto.FLOAT, [1, None, width]))
    shape = changes.get("shape", [1, 3, "height", "width"])
    image = helper.make_tensor_value_info("image", changes.get("type", TensorProto.FLOAT), shape)
    graph = helper.make_graph(nodes, "made", [image], outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, path)
    return path


class TestContract:
    """Graphs that break it are refused when they are opened, in one line."""

    def test_a_graph_that_keeps_it(self, tmp_path: Path) -> None:
        detector = Detector.open(graph_file(tmp_path / "a.onnx", 0.0), "yunet-n", threads=1)
        assert len(detector.detect(np.zeros((64, 64, 3), np.uint8))) == 0

    @pytest.mark.parametrize("columns", [{"cls": 1, "obj": 1, "bbox": 5, "kps": 10}, {"cls": 1, "obj": 1, "bbox": 4},
                                         {"cls": 1, "obj": 2, "bbox": 4, "kps": 10}])  # fmt: skip
    def test_other_columns(self, tmp_path: Path, columns: dict[str, int]) -> None:
        with pytest.raises(FacekitError, match=r"expected cls_8, cls_16.*; got") as caught:
            Detector.open(graph_file(tmp_path / "a.onnx", 0.0, columns), "yunet-n", threads=1)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("shape", [[3, 3, "h", "w"], [1, 3, 64, "w"]])
    def test_other_inputs(self, tmp_path: Path, shape: list[object]) -> None:
        with pytest.raises(FacekitError, match="a detector has one input, float32"):
            Detector.open(graph_file(tmp_path / "a.onnx", 0.0, shape=shape), "yunet-n", threads=1)

    @pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf"), 1e30])
    def test_numbers_that_are_no_faces(self, tmp_path: Path, number: float, caplog: pytest.LogCaptureFixture) -> None:
        detector = Detector.open(graph_file(tmp_path / "a.onnx", number), "yunet-n", threads=1)
        with caplog.at_level("WARNING", logger="facekit"):
            faces = detector.detect(np.zeros((64, 64, 3), np.uint8))
        assert len(faces) == 0
        assert "84 candidates of a picture: a score is no number from 0 to 1" in caplog.text
        detector.detect(np.zeros((64, 64, 3), np.uint8))
        assert "168 candidates" in str(detector.losses()[0])

    @pytest.mark.parametrize("kind", ["bbox", "kps"])
    def test_boxes_and_landmarks_that_are_no_numbers(
        self, capsys: pytest.CaptureFixture[str], project_dir: Path, tmp_path: Path, kind: str
    ) -> None:
        graph = onnx.load(project_dir / "model_templates" / "face-detection" / "yunet-n" / "facekit.onnx")
        for tensor in graph.graph.initializer:
            if re.search(rf"multi_level_{kind}\.\d\.conv2\.bias", tensor.name):
                broken = np.full_like(numpy_helper.to_array(tensor), np.nan)
                tensor.CopyFrom(numpy_helper.from_array(broken, tensor.name))
        onnx.save(graph, tmp_path / "a.onnx")
        picture = project_dir / "data" / "demo" / "astronaut.jpg"
        assert run("detect", picture, "--model", tmp_path / "a.onnx", "--json", tmp_path / "a.json") == 3
        assert "or a box or landmark none at all: no faces there" in capsys.readouterr().err
        faces = json.loads((tmp_path / "a.json").read_text(), parse_constant=pytest.fail)["rows"][0]["faces"]
        assert all(np.isfinite(face["box_xyxy"]).all() for face in faces)

    @pytest.mark.parametrize(
        "content", [b"", b"\x00" * 100, b"<html>", b"version https://git-lfs.github.com/spec/v1\n"]
    )
    def test_no_onnx_at_all(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "a.onnx").write_bytes(content)
        with pytest.raises(FacekitError, match=r"a\.onnx") as caught:
            Detector.open(tmp_path / "a.onnx", "yunet-n")
        assert "\n" not in str(caught.value)


def test_detections_are_a_sequence_of_faces() -> None:
    faces = Detector.bundled(threads=1).detect(PORTRAIT).above(0.5)
    (face,) = faces
    assert face.score == pytest.approx(float(faces.scores[0]))
    assert faces[0].box_xyxy.tolist() == faces.boxes_xyxy[0].tolist()
    (row,) = faces.to_dicts()
    assert list(row) == ["box_xyxy", "score", "landmarks_xy"]
    assert list(row["landmarks_xy"]) == ["left_eye", "right_eye", "nose", "left_mouth", "right_mouth"]
    with pytest.raises(IndexError):
        faces[1]
