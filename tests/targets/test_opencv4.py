"""ONNX for OpenCV 4: no operation that it can't read, and PyTorch's faces by the engine that it has."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

from facekit.detector import BUNDLED_WEIGHTS, Detector
from facekit.errors import FacekitError
from facekit.pictures.read import read_picture
from facekit.targets import open_backend
from facekit.targets.onnx import write as write_onnx
from facekit.targets.opencv4 import open_weights, unreadable_nodes, write
from facekit.targets.pytorch import PyTorchBackend
from facekit.targets.writing.export import ExportSettings, export_weights
from facekit.targets.writing.verify import Tolerance, compare_faces
from facekit.template import find_template, load_template
from tests.targets.support import check_equal, decoded, draft_of, lively_network

# Of each architecture.
WEIGHTS = {
    "ultralight-rfb-320": "ultralight/version-RFB-320.pth",
    "face-detection-0200": "openvino/face-detection-0200.xml",
    "face-detection-0205": "openvino/face-detection-0205.xml",
    "retinaface-mobilenetv1-0.25-p3": "retinaface/mobilenet0.25_p3.pth",
    "scrfd-0.5g": "peers/scrfd_500m_kps.onnx",
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("opencv4")
    settings = ExportSettings(("opencv4",), size_hw=(256, 320))
    template = load_template(find_template("yunet-n"))
    return export_weights(BUNDLED_WEIGHTS.with_suffix(".pth"), template, folder, settings).files[0]


def test_finds_the_portraits_face(exported: Path, project_dir: Path) -> None:
    assert exported.name == "model-opencv4.onnx"
    picture = read_picture(project_dir / "data" / "demo" / "astronaut.jpg")
    picture = np.asarray(cv2.resize(picture, (320, 256)), dtype=np.uint8)
    expected = Detector.bundled().detect(picture)
    assert len(expected.above(0.5)) == 1
    for backend in (open_weights(exported, None, None, 1), open_backend(exported, threads=1)):
        assert backend.fixed_size_hw == (256, 320)
        found = compare_faces(expected, Detector(backend).detect(picture), 0.0)
        assert found.within(Tolerance(1e-3, 0.5)), str(found)


def test_squeeze_and_excitation(tmp_path: Path) -> None:
    """Its gates are HardSigmoids, and OpenCV takes any product with one for a HardSwish."""
    template = load_template(find_template("retinaface-mobilenetv3-small"))
    network = lively_network(template)
    write(draft_of(network, template, (128, 160)), tmp_path / "model-opencv4.onnx")
    picture = np.random.default_rng(0).integers(0, 256, (1, 128, 160, 3), dtype=np.uint8)
    got = decoded(open_weights(tmp_path / "model-opencv4.onnx", None, None, 1), picture)
    expected = decoded(PyTorchBackend(network, template), picture)
    check_equal(got, expected, scores_atol=1e-4, places_atol=5e-2)
    write_onnx(draft_of(network, template, (128, 160)), tmp_path / "model.onnx")
    got = decoded(open_backend(tmp_path / "model.onnx", template, backend="opencv"), picture)
    check_equal(got, expected, scores_atol=1e-4, places_atol=5e-2)


def test_what_takes_any_size_could_not_be_read() -> None:
    assert any(node.startswith("Shape") for node in unreadable_nodes(onnx.load(BUNDLED_WEIGHTS)))
    with pytest.raises(FacekitError, match="not what facekit exports for OpenCV 4"):
        open_weights(BUNDLED_WEIGHTS, load_template(find_template("yunet-n")), None, 1)


@pytest.mark.parametrize("name", WEIGHTS)
def test_every_architecture(name: str, shared_dir: Path, tmp_path: Path) -> None:
    template, weights = load_template(find_template(name)), shared_dir / "weights" / WEIGHTS[name]
    size_hw = (192, 256) if template.evaluation.resize in ("none", "fit") else None  # else it takes its own alone
    written = export_weights(weights, template, tmp_path, ExportSettings(("opencv4",), size_hw)).written[0]
    assert not unreadable_nodes(onnx.load(written.files[0]))
    assert written.differences is not None
    assert written.differences.within(Tolerance(1e-3, 0.5)), str(written.differences)
