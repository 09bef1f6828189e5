"""libfacedetection's data file: read back, and run by a plain interpreter of its table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from facekit.detector import BUNDLED_WEIGHTS, Detector
from facekit.models import build_model
from facekit.pictures.read import read_picture
from facekit.targets.libfacedetection import Row, read_data
from facekit.targets.table import TARGETS
from facekit.targets.writing.export import ExportSettings, check_places, export_weights
from facekit.template import find_template, load_template
from facekit.weights.load import load_weights

Map = NDArray[np.float64]


def convolved(row: Row, x: Map) -> Map:
    """(channels, height, width) through one row of the table."""
    if not row.depthwise:
        weights = row.weights.reshape(row.filters, row.channels).astype(np.float64)
        return np.einsum("oi,ihw->ohw", weights, x) + row.biases[:, None, None]
    taps = row.weights.reshape(9, row.filters)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    height, width = x.shape[1:]
    out = np.zeros_like(x) + row.biases[:, None, None]
    for tap in range(9):
        y, z = divmod(tap, 3)
        out += taps[tap][:, None, None] * padded[:, y : y + height, z : z + width]
    return out


class Interpreter:
    """libfacedetection's objectdetect_cnn, slowly: it says itself where a ReLU comes, and so do these lines."""

    def __init__(self, rows: list[Row]) -> None:
        self.rows = rows

    def unit(self, first: int, x: Map, relu: bool = True) -> Map:
        out = convolved(self.rows[first + 1], convolved(self.rows[first], x))
        return np.maximum(out, 0) if relu else out

    def __call__(self, image_bgr: NDArray[np.uint8]) -> tuple[Map, Map, Map]:
        """Boxes xyxy, scores (as libfacedetection has them) and points of all cells."""
        levels = self._levels(image_bgr)
        shared = (len(self.rows) - 53) // 6
        heads = 29 + 6 * shared
        boxes, scores, points = [], [], []
        for level, stride in enumerate((8, 16, 32)):
            x = levels[level]
            for place in range(shared):
                x = self.unit(29 + 2 * (level * shared + place), x)
            cls, box, obj, kps = (self.unit(heads + 6 * branch + 2 * level, x, relu=False) for branch in range(4))
            rows, columns = x.shape[1:]
            cells = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)))
            centre, half = (cells + box[:2]) * stride, np.exp(box[2:]) * stride / 2
            boxes.append(np.concatenate([centre - half, centre + half]).reshape(4, -1).T)
            scores.append(np.sqrt(1 / (1 + np.exp(-cls[0])) / (1 + np.exp(-obj[0]))).reshape(-1))
            points.append(((kps.reshape(5, 2, rows, columns) + cells) * stride).reshape(10, -1).T)
        return np.concatenate(boxes), np.concatenate(scores), np.concatenate(points)

    def _levels(self, image_bgr: NDArray[np.uint8]) -> list[Map]:
        height, width = image_bgr.shape[:2]
        padded = np.pad(image_bgr.astype(np.float64), ((1, -height % 32 + 1), (1, -width % 32 + 1), (0, 0)))
        patches = [padded[y : y + padded.shape[0] - 2 : 2, x : x + padded.shape[1] - 2 : 2] for y in range(3)
                   for x in range(3)]  # fmt: skip
        inputs = np.concatenate([*patches, np.zeros((*patches[0].shape[:2], 5))], axis=2).transpose(2, 0, 1)
        x = self.unit(1, np.maximum(convolved(self.rows[0], inputs), 0))
        taps = []
        for stage in range(6):
            if stage:
                x = self.unit(4 * stage + 1, self.unit(4 * stage - 1, x))
            if stage in (3, 4, 5):
                taps.append(x)
            if stage in (0, 2, 3, 4):
                channels, rows, columns = x.shape
                x = x.reshape(channels, rows // 2, 2, columns // 2, 2).max(axis=(2, 4))
        levels: list[Map] = [np.zeros(0)] * 3
        levels[2] = self.unit(27, taps[2])
        for level in (1, 0):
            doubled = levels[level + 1].repeat(2, axis=1).repeat(2, axis=2)
            levels[level] = self.unit(23 + 2 * level, taps[level] + doubled)
        return levels


def export(name: str, weights: Path, folder: Path) -> Path:
    settings = ExportSettings(("libfacedetection",))
    written = export_weights(weights, load_template(find_template(name)), folder, settings).written[0]
    check_places([TARGETS["libfacedetection"]], folder, load_template(find_template(name)))  # of the next export
    assert written.differences is None
    return written.files[0]


@pytest.mark.parametrize(("name", "rows"), [("yunet-s", 53), ("yunet-n", 59)])
def test_finds_the_portraits_face(name: str, rows: int, shared_dir: Path, project_dir: Path, tmp_path: Path) -> None:
    weights = shared_dir / "weights" / "yunet" / f"{name.replace('-', '_')}.pth"
    table = read_data(export(name, weights, tmp_path))
    assert len(table) == rows
    image_bgr = read_picture(project_dir / "data" / "demo" / "astronaut.jpg")[::2, ::2]
    boxes_xyxy, scores, points_xy = Interpreter(table)(image_bgr)
    best = int(scores.argmax())
    face = Detector.open(weights, name, "cpu").detect(np.ascontiguousarray(image_bgr))[0]
    assert face.score > 0.5 and face.landmarks_xy is not None
    assert scores[best] ** 2 == pytest.approx(face.score, abs=0.02)  # three digits are left of the weights
    np.testing.assert_allclose(boxes_xyxy[best], face.box_xyxy, atol=0.5)
    np.testing.assert_allclose(points_xy[best], face.landmarks_xy.reshape(-1), atol=0.5)


def test_three_digits_of_the_folded_weights_in_the_documented_order(tmp_path: Path) -> None:
    template = load_template(find_template("yunet-n"))
    weights = BUNDLED_WEIGHTS.with_suffix(".pth")
    path = export("yunet-n", weights, tmp_path)
    table = read_data(path)
    names = [row.name for row in table]
    assert names[:5] == ["backbone__model0_pw", "backbone__model0_dp_pw", "backbone__model0_dp_dw",
                         "backbone__model1_dp1_pw", "backbone__model1_dp1_dw"]  # fmt: skip
    assert names[23::6][:2] == ["neck__lateral_convs__0_pw", "bbox_head__multi_level_share_convs__0__0_pw"]
    assert [name.split("__")[1] for name in names[35::6]] == [f"multi_level_{kind}" for kind in
                                                              ("cls", "bbox", "obj", "kps")]  # fmt: skip
    state = load_weights(weights, template).state_dict
    build_model(template).load_state_dict(state)  # names are the network's

    def folded(conv: str, norm: str) -> tuple[torch.Tensor, torch.Tensor]:
        gain = state[f"{norm}.weight"] / (state[f"{norm}.running_var"] + 1e-5).sqrt()
        bias = (state[f"{conv}.bias"] - state[f"{norm}.running_mean"]) * gain + state[f"{norm}.bias"]
        return state[f"{conv}.weight"] * gain[:, None, None, None], bias

    stem, stem_bias = folded("backbone.model0.conv1", "backbone.model0.bn1")
    depthwise, depthwise_bias = folded("backbone.model2.conv1.conv2", "backbone.model2.conv1.bn")
    pointwise = state["backbone.model2.conv1.conv1.weight"]
    row = table[7]
    assert row.name == "backbone__model2_dp1_pw" and (row.channels, row.filters, row.relu) == (64, 64, False)
    close = {"rtol": 5.01e-3, "atol": 1e-12}
    np.testing.assert_allclose(row.weights.reshape(64, 64), pointwise[:, :, 0, 0], **close)
    np.testing.assert_allclose(table[8].weights.reshape(3, 3, 64), depthwise[:, 0].permute(1, 2, 0), **close)
    np.testing.assert_allclose(table[8].biases, depthwise_bias, **close)
    first = table[0].weights.reshape(16, 32)
    np.testing.assert_allclose(first[:, :27].reshape(16, 3, 3, 3), stem.permute(0, 2, 3, 1), **close)
    assert not first[:, 27:].any() and table[0].relu
    np.testing.assert_allclose(table[0].biases, stem_bias, **close)
    text = path.read_text()
    assert "ConvInfoStruct param_pConvInfo[59]" in text and "NUM_CONV_LAYER becomes 59" in text
    assert "{32, 16, false, true, true, backbone__model0_pw_weight, backbone__model0_pw_bias}" in text
