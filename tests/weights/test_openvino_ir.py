"""The Open Model Zoo's graphs as weights of ours, and what becomes of everything else that ends in .xml."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import openvino as ov
import pytest
import torch
from openvino import opset13 as ops
from torch import Tensor

from facekit.errors import FacekitError
from facekit.models import build_model
from facekit.ops.nms import select_detections
from facekit.ops.pixels import normalise
from facekit.targets.openvino import OpenVinoBackend
from facekit.targets.pytorch import PyTorchBackend
from facekit.template import TEMPLATES_DIR, Template, load_template
from facekit.weights.checkpoint import load_state
from facekit.weights.load import load_weights
from facekit.weights.openvino_graph import _preprocessing
from tests.targets.support import decoded

TEMPLATES = sorted(path.parent.name for path in TEMPLATES_DIR.glob("*/template.yaml"))
# The IR of each template that has one, and its convolutions: backbone, and the rest that is not repeated.
OWN = {
    "face-detection-0200": ("face-detection-0200", 52 + 8),
    "face-detection-0202": ("face-detection-0202", 52 + 8),
    "face-detection-0204": ("face-detection-0204", 52 + 8),
    "face-detection-0205": ("face-detection-0205", 52 + 3 + 5 + 8 + 3),
    "tiny-ssd-300": ("face-detection-retail-0005", 51 + 4),
}
SIDES = {
    "face-detection-0200": 256,
    "face-detection-0202": 384,
    "face-detection-0204": 448,
    "face-detection-0205": 416,
    "face-detection-retail-0005": 300,
}


def bundled(name: str) -> Template:
    return load_template(TEMPLATES_DIR / name / "template.yaml")


def of_size(template: Template, side: int) -> Template:
    """The same detector on pictures of another size: what remains is the graph's structure to be judged."""
    return dataclasses.replace(template, input=dataclasses.replace(template.input, size_hw=(side, side)))


@pytest.fixture(scope="module")
def ssd() -> Template:
    return bundled("face-detection-0200")


@pytest.fixture(scope="module")
def irs(shared_dir: Path) -> Path:
    return shared_dir / "weights" / "openvino"


def complaint(path: Path, template: Template) -> str:
    with pytest.raises(FacekitError) as caught:
        load_weights(path, template)
    assert str(path.with_suffix("")) in str(caught.value)
    return str(caught.value)


def convolution_weights(state: dict[str, Tensor]) -> list[Tensor]:
    return [tensor for name, tensor in state.items() if name.endswith("weight") and tensor.dim() == 4]


class TestOwnGraph:
    @pytest.mark.parametrize("suffix", [".xml", ".bin"])
    @pytest.mark.parametrize("name", OWN)
    def test_every_tensor_is_filled(self, irs: Path, name: str, suffix: str) -> None:
        template, (file, convolutions) = bundled(name), OWN[name]
        checkpoint = load_weights(irs / f"{file}{suffix}", template)
        assert checkpoint.epoch == 70
        assert checkpoint.meta["batch_norm_folded"] is True
        assert checkpoint.state_dict.keys() == build_model(template).state_dict().keys()
        weights = convolution_weights(checkpoint.state_dict)
        assert len(weights) == convolutions
        assert all(tensor.abs().max() > 0 and tensor.isfinite().all() for tensor in weights)

    @pytest.mark.parametrize("name", OWN)
    def test_no_two_convolutions_are_filled_from_one(self, irs: Path, name: str) -> None:
        weights = convolution_weights(load_weights(irs / f"{OWN[name][0]}.xml", bundled(name)).state_dict)
        sums = [float(tensor.double().sum()) for tensor in weights]
        assert len(set(sums)) == len(sums)

    def test_scales_of_the_levels(self, irs: Path) -> None:
        """The graph has multiplied them into the weights, where only their ratios are left."""
        state = load_weights(irs / "face-detection-0205.xml", bundled("face-detection-0205")).state_dict
        scales = [float(state[f"bbox_head.scales.{level}"]) for level in range(5)]
        assert scales[0] == pytest.approx(1)
        assert all(0 < scale < 20 for scale in scales)
        assert len(set(scales)) == 5

    def test_class_and_centre_ness_are_not_mixed_up(self, shared_dir: Path, irs: Path) -> None:
        """Their product is the score, so that boxes and scores are the same either way; training on is not."""
        template = bundled("face-detection-0205")
        network: Any = build_model(template)
        load_state(network, load_weights(irs / "face-detection-0205.xml", template).state_dict, "IR")
        pictures = sorted((shared_dir / "data" / "airport" / "train").glob("*.jpg"))[:2]
        read: Any = [cv2.imread(str(path)) for path in pictures]
        images: Any = np.stack([cv2.resize(picture, (416, 416)) for picture in read])
        with torch.no_grad():
            raw = network.eval()(normalise(torch.from_numpy(images).permute(0, 3, 1, 2), template.input))
        # Nearly everything is background, which the class knows and the centre-ness was never taught.
        assert raw.class_logits.sigmoid().median() < 0.1
        assert raw.objectness_logits.sigmoid().median() > 0.2

    @pytest.mark.parametrize("name", ["face-detection-0200", "face-detection-0202", "face-detection-0204"])
    def test_gives_what_openvino_gives(self, irs: Path, name: str) -> None:
        """On noise, where every score counts: the best faces of the published graph, whose suppression is its own."""
        template, rule = bundled(name), bundled(name).evaluation
        file = irs / f"{OWN[name][0]}.xml"
        height, width = template.input.size_hw
        noise = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)
        picture: Any = cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)[None]
        network = build_model(template)
        load_state(network, load_weights(file, template).state_dict, "IR")
        theirs, ours = (
            select_detections(
                decoded(backend, picture).of(0), 1e-4, rule.nms_iou_threshold, rule.max_candidates, rule.max_detections
            )
            for backend in (OpenVinoBackend(file, template, None), PyTorchBackend(network.eval(), template))
        )
        best = int((theirs.scores > 0.7 * theirs.scores[0]).sum())
        np.testing.assert_allclose(ours.scores[:best], theirs.scores[:best], atol=1e-4)
        np.testing.assert_allclose(ours.boxes_xyxy[:best], theirs.boxes_xyxy[:best], atol=0.1)


class TestForeignGraphs:
    def test_every_ir_with_every_template(self, irs: Path) -> None:
        """The owner takes its own; all others say why not."""
        owners = {file: name for name, (file, _) in OWN.items()}
        files = sorted(irs.glob("*.xml"))
        assert len(files) == 6
        for file in files:
            for name in TEMPLATES:
                if owners.get(file.stem) != name:
                    text = complaint(file, bundled(name))
                    reasons = ("another detector's weights", "no OpenVINO IR is published", "not the graph of",
                               "compressed graph")  # fmt: skip
                    assert any(reason in text for reason in reasons), text

    @pytest.mark.parametrize(
        ("file", "name"),
        [
            ("face-detection-0200", "face-detection-0205"),
            ("face-detection-0200", "face-detection-0207"),
            ("face-detection-0200", "tiny-ssd-300"),
            ("face-detection-0205", "face-detection-0200"),
            ("face-detection-0205", "face-detection-0207"),
            ("face-detection-0205", "tiny-ssd-300"),
            ("face-detection-retail-0005", "face-detection-0200"),
            ("face-detection-retail-0005", "face-detection-0205"),
        ],
    )
    def test_of_the_right_size(self, irs: Path, file: str, name: str) -> None:
        """Nothing but the structure tells these apart."""
        text = complaint(irs / f"{file}.xml", of_size(bundled(name), SIDES[file]))
        assert f"not the graph of {name}. Is this its Open Model Zoo IR?" in text

    def test_of_another_size(self, irs: Path, ssd: Template) -> None:
        text = complaint(irs / "face-detection-0202.xml", ssd)
        assert "takes [1,3,384,384], template 'face-detection-0200' [1,3,256,256]" in text

    def test_int8(self, irs: Path, ssd: Template) -> None:
        assert "compressed graph. Give the IR that it was made from" in complaint(
            irs / "face-detection-0200-int8.xml", ssd
        )

    def test_for_a_template_without_one(self, irs: Path) -> None:
        text = complaint(irs / "face-detection-0200.xml", bundled("yunet-n"))
        assert "no OpenVINO IR is published for 'yunet-n'" in text

    @pytest.mark.parametrize("name", ["face-detection-0200", "face-detection-0205", "tiny-ssd-300"])
    @pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.9])
    def test_cut_short(self, irs: Path, tmp_path: Path, name: str, share: float) -> None:
        """A graph that ends somewhere on the way."""
        model = ov.Core().read_model(irs / f"{OWN[name][0]}.xml")
        convolutions = [node for node in model.get_ordered_ops() if node.get_type_name() == "Convolution"]
        end = convolutions[int(share * len(convolutions))]
        ov.save_model(ov.Model([end.output(0)], model.get_parameters()), tmp_path / "a.xml", compress_to_fp16=False)
        assert f"not the graph of {name}" in complaint(tmp_path / "a.xml", bundled(name))

    @pytest.mark.parametrize("shape", [[1, 3, -1, -1], [-1, 3, 256, 256], [1, 3], [1, 3, 256, 256], [1, 8, 8, 3]])
    def test_graphs_of_any_other_shape(self, tmp_path: Path, ssd: Template, shape: list[int]) -> None:
        image = ops.parameter(shape, name="image")
        ov.save_model(ov.Model([ops.relu(image)], [image]), tmp_path / "a.xml")
        complaint(tmp_path / "a.xml", ssd)


class TestDamagedFiles:
    @pytest.mark.parametrize("missing", [".xml", ".bin"])
    def test_half_of_the_pair(self, irs: Path, tmp_path: Path, ssd: Template, missing: str) -> None:
        kept = ".bin" if missing == ".xml" else ".xml"
        shutil.copy(irs / f"face-detection-0200{kept}", tmp_path / f"a{kept}")
        text = complaint(tmp_path / f"a{kept}", ssd)
        assert f"{tmp_path / f'a{missing}'}: there is no such file" in text

    @pytest.mark.parametrize("name", ["face-detection-0200", "face-detection-0205", "tiny-ssd-300"])
    @pytest.mark.parametrize("kept", [0, 1000, 2_000_000, -1])
    def test_cut_off_bin(self, irs: Path, tmp_path: Path, name: str, kept: int) -> None:
        file = irs / OWN[name][0]
        shutil.copy(file.with_suffix(".xml"), tmp_path / "a.xml")
        (tmp_path / "a.bin").write_bytes(file.with_suffix(".bin").read_bytes()[:kept])
        assert "cut off" in complaint(tmp_path / "a.bin", bundled(name))

    def test_weights_of_another_graph(self, irs: Path, tmp_path: Path) -> None:
        """0202's weights under 0205's structure: enough bytes for neither more nor less than what the .xml asks."""
        shutil.copy(irs / "face-detection-0205.xml", tmp_path / "a.xml")
        shutil.copy(irs / "face-detection-0202.bin", tmp_path / "a.bin")
        complaint(tmp_path / "a.xml", bundled("face-detection-0205"))

    @pytest.mark.parametrize("text", ["", "<net>", "hello", '<?xml version="1.0"?><net name="a" version="11"></net>'])
    def test_no_xml(self, tmp_path: Path, ssd: Template, text: str) -> None:
        (tmp_path / "a.xml").write_text(text)
        (tmp_path / "a.bin").write_bytes(bytes(100))
        complaint(tmp_path / "a.xml", ssd)


class TestTreatmentOfThePicture:
    """Between the raw picture and the first convolution."""

    @pytest.mark.parametrize("how", ["gather", "slice", "twice"])
    def test_ways_to_reverse_the_channels(self, how: str) -> None:
        """Open Model Zoo graphs gather, exported ONNX graphs slice backwards."""
        image = ops.parameter([1, 3, 8, 8], name="image")
        gathered = ops.gather(image, np.array([2, 1, 0]), 1)
        one, everything = np.array([1]), np.array([-(2**63)])
        sliced = ops.slice(image if how == "slice" else gathered, -one, everything, -one, one)
        node = {"gather": gathered, "slice": sliced, "twice": sliced}[how]
        scaled = ops.multiply(ops.convert(node, "f32"), np.array([0.25], np.float32))
        gain, offset, is_reversed = _preprocessing(scaled, Path("a.xml"))
        assert (gain.tolist(), offset.tolist(), is_reversed) == ([0.25] * 3, [0.0] * 3, how != "twice")

    def test_scales_and_shifts_add_up(self) -> None:
        # ((p * 2 + b) turned round, times g) + 1, by hand: channel 0 sees the last channel's numbers.
        image = ops.parameter([1, 3, 8, 8], name="image")
        doubled = ops.multiply(image, np.array([2], np.float32))
        shifted = ops.add(doubled, np.array([10, 20, 30], np.float32).reshape(1, 3, 1, 1))
        turned = ops.gather(shifted, np.array([2, 1, 0]), 1)
        scaled = ops.multiply(turned, np.array([1, 3, 5], np.float32).reshape(1, 3, 1, 1))
        gain, offset, is_reversed = _preprocessing(ops.add(scaled, np.array([1], np.float32)), Path("a.xml"))
        assert is_reversed
        assert gain.tolist() == [2, 6, 10]
        assert offset.tolist() == [31, 61, 51]

    @pytest.mark.parametrize("kind", ["subtract", "tanh", "divide", "relu"])
    def test_that_can_not_be_imported(self, tmp_path: Path, ssd: Template, kind: str) -> None:
        image = ops.parameter([1, 3, 256, 256], name="image")
        mean = np.array([1, 2, 3], np.float32).reshape(1, 3, 1, 1)
        apply = getattr(ops, kind)
        treated = apply(image) if kind in ("tanh", "relu") else apply(image, mean)
        save_with_convolution(treated, image, tmp_path / "a.xml")
        text = complaint(tmp_path / "a.xml", ssd)
        assert f"does {kind.title()} to the picture" in text

    def test_shifted_colours(self, irs: Path, tmp_path: Path, ssd: Template) -> None:
        """The template's network has no place for them, and nowhere to put them: its borders are padded with zeros."""
        model = ov.Core().read_model(irs / "face-detection-0200.xml")
        image = model.get_parameters()[0]
        readers = list(image.output(0).get_target_inputs())
        shifted = ops.add(image, np.array([5], np.float32))
        for reader in readers:
            reader.replace_source_output(shifted.output(0))
        model.validate_nodes_and_infer_types()
        ov.save_model(model, tmp_path / "a.xml", compress_to_fp16=False)
        assert "shifts the picture's colours" in complaint(tmp_path / "a.xml", ssd)


def save_with_convolution(node: Any, image: Any, path: Path) -> None:
    convolved = ops.convolution(node, np.ones((4, 3, 3, 3), np.float32), [2, 2], [1, 1], [1, 1], [1, 1])
    ov.save_model(ov.Model([convolved], [image]), path, compress_to_fp16=False)


def test_the_tiny_ssds_picture_norm_holds_the_graphs_scale(irs: Path) -> None:
    """Its graph scales raw pixels; ours sees them divided by the template's 255 first."""
    state = load_weights(irs / "face-detection-retail-0005.xml", bundled("tiny-ssd-300")).state_dict
    raw = torch.tensor([10.0, 100, 250])
    mean, var = state["backbone.input_norm.running_mean"], state["backbone.input_norm.running_var"]
    seen = (raw / 255 - mean) / (var + 1e-5).sqrt() * state["backbone.input_norm.weight"]
    seen = seen + state["backbone.input_norm.bias"]
    model = ov.Core().read_model(irs / "face-detection-retail-0005.xml")
    first = next(node for node in model.get_ordered_ops() if node.get_type_name() == "Convolution")
    gain, offset, is_reversed = _preprocessing(first.input_value(0).get_node(), Path("a.xml"))
    order = [2, 1, 0] if not is_reversed else [0, 1, 2]  # ours is fed RGB
    expected = torch.tensor(gain[order]) * raw + torch.tensor(offset[order])
    torch.testing.assert_close(seen, expected, rtol=1e-4, atol=1e-4)
