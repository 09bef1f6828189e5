from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from facekit.detector import Detector
from facekit.errors import FacekitError
from facekit.feed import prepare
from facekit.models import build_model
from facekit.ops.pixels import normalise
from facekit.pictures.read import read_picture
from facekit.targets.pytorch import PyTorchBackend
from facekit.template import Template, find_template, load_template
from facekit.weights.checkpoint import load_state
from facekit.weights.load import load_weights


@pytest.fixture(scope="module")
def scrfd() -> Template:
    return load_template(find_template("scrfd-0.5g"))


def some_pictures(shared_dir: Path) -> list[NDArray[np.uint8]]:
    paths = sorted((shared_dir / "data/widerface/WIDER_val/images").glob("*/*.jpg"))[:300:100]
    return [read_picture(path) for path in paths]


def published_outputs(source: Path, blob: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Scores, boxes, landmarks of strides 8, 16, 32 as ONNX Runtime gives them, (rows, columns) each."""
    session = onnxruntime.InferenceSession(source)
    outputs = session.run(None, {session.get_inputs()[0].name: blob})
    return [array.reshape(-1, array.shape[-1]) for array in outputs]


def blob_of(image_bgr: NDArray[np.uint8], template: Template) -> Tensor:
    pixels = torch.from_numpy(prepare(image_bgr, template)[0]).permute(2, 0, 1)[None]
    return normalise(pixels, template.input)


def test_network_gives_what_the_published_file_gives(scrfd: Template, shared_dir: Path) -> None:
    source = shared_dir / "weights/peers/scrfd_500m_kps.onnx"
    network = build_model(scrfd).eval()
    load_state(network, load_weights(source, scrfd).state_dict, str(source))
    head = network.head
    for image_bgr in some_pictures(shared_dir):
        blob = blob_of(image_bgr, scrfd)
        with torch.no_grad():
            ours = head.activate(network(blob))
        theirs = published_outputs(source, blob.numpy())
        for number, tensor in enumerate((ours.class_probabilities, ours.box_deltas, ours.landmark_deltas)):
            assert tensor is not None
            expected = torch.from_numpy(np.concatenate(theirs[3 * number : 3 * number + 3]))
            torch.testing.assert_close(tensor[0], expected, rtol=1e-3, atol=1e-3)


def test_faces_are_those_of_the_published_file(scrfd: Template, shared_dir: Path) -> None:
    source = shared_dir / "weights/peers/scrfd_500m_kps.onnx"
    network = build_model(scrfd)
    load_state(network, load_weights(source, scrfd).state_dict, str(source))
    detector = Detector(PyTorchBackend(network.eval(), scrfd), scrfd)
    compared = 0
    for image_bgr in some_pictures(shared_dir):
        found = detector.detect(image_bgr)
        assert found.landmarks_xy is not None
        factor = max(image_bgr.shape[:2]) / 640
        outputs = published_outputs(source, blob_of(image_bgr, scrfd).numpy())
        for level, stride in enumerate((8, 16, 32)):
            scores, distances, offsets = (outputs[3 * kind + level] for kind in range(3))
            for row in np.flatnonzero(scores[:, 0] > 0.6):
                # Two priors a cell, cells row by row, 640 / stride in a row; distances and offsets count in strides.
                y, x = divmod(row // 2, 640 // stride)
                left, top, right, bottom = distances[row]
                box = np.array([x - left, y - top, x + right, y + bottom]) * stride * factor
                same = np.abs(found.boxes_xyxy - box).max(axis=1) < 0.1
                if not same.any():  # suppressed by a better one
                    assert best_overlap(found.boxes_xyxy[found.scores >= scores[row, 0] - 1e-5], box) > 0.45
                    continue
                compared += 1
                points = (offsets[row].reshape(5, 2) + np.array([x, y])) * stride * factor
                np.testing.assert_allclose(found.landmarks_xy[same][0], points, atol=0.1)
                np.testing.assert_allclose(found.scores[same][0], scores[row, 0], atol=1e-4)
    assert compared > 5


def best_overlap(boxes_xyxy: NDArray[np.float32], box: NDArray[np.float64]) -> float:
    low, high = np.maximum(boxes_xyxy[:, :2], box[:2]), np.minimum(boxes_xyxy[:, 2:], box[2:])
    shared = np.clip(high - low, 0, None).prod(axis=1)
    areas = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).prod(axis=1) + (box[2:] - box[:2]).prod()
    return float((shared / (areas - shared)).max())


class TestRefused:
    def test_without_landmarks(self, scrfd: Template, shared_dir: Path) -> None:
        with pytest.raises(FacekitError, match=r"scrfd_500m\.onnx.*without weights or bias"):
            load_weights(shared_dir / "weights/peers/scrfd_500m.onnx", scrfd)

    def test_another_network(self, scrfd: Template, shared_dir: Path) -> None:
        with pytest.raises(FacekitError, match="convolutions are not"):
            load_weights(shared_dir / "weights/yunet/yunet_n_dynamic.onnx", scrfd)

    def test_for_another_template(self, shared_dir: Path) -> None:
        template = load_template(find_template("yunet-n"))
        with pytest.raises(FacekitError, match="for scrfd alone"):
            load_weights(shared_dir / "weights/peers/scrfd_500m_kps.onnx", template)

    def test_missing(self, scrfd: Template, tmp_path: Path) -> None:
        with pytest.raises(FacekitError, match="no such file"):
            load_weights(tmp_path / "none.onnx", scrfd)

    @pytest.mark.parametrize("content", [b"", b"not an ONNX file", bytes(range(256))])
    def test_damaged(self, scrfd: Template, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "damaged.onnx"
        path.write_bytes(content)
        with pytest.raises(FacekitError, match=r"damaged\.onnx"):
            load_weights(path, scrfd)

    def test_convolution_without_its_weights(self, scrfd: Template, tmp_path: Path) -> None:
        node = onnx.helper.make_node("Conv", ["image", "weight"], ["out"])
        model = onnx.helper.make_model(onnx.helper.make_graph([node], "graph", [], []))
        onnx.save(model, tmp_path / "empty.onnx")
        with pytest.raises(FacekitError, match="without weights"):
            load_weights(tmp_path / "empty.onnx", scrfd)
