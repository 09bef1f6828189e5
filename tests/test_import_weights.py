from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from facekit.backends.pytorch import PyTorchBackend
from facekit.checkpoint import Checkpoint, load_state, new_meta, save_checkpoint
from facekit.errors import FacekitError
from facekit.import_weights import _preprocessing, load_weights
from facekit.models import build_model
from facekit.template import TEMPLATES_DIR, Template, load_template


def bundled(name: str) -> Template:
    return load_template(TEMPLATES_DIR / name / "template.yaml")


@pytest.fixture(scope="module")
def ssd() -> Template:
    return bundled("face-detection-0200")


@pytest.fixture(scope="module")
def yunet() -> Template:
    return bundled("yunet-n")


# The published naming, written down from its own side: (expansion, channels, units) a run of MobileNetV2 blocks, and
# the stage of pytorchcv that the run belongs to (a stage starts where the picture is halved, the stem's apart).
RUNS = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 3), (6, 64, 4, 4), (6, 96, 3, 4), (6, 160, 3, 5), (6, 320, 1, 5)]
NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def convolution(theirs: str, ours: str, shape: tuple[int, ...]) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    yield f"{theirs}.weight", f"{ours}.weight", shape


def norm(theirs: str, ours: str, channels: int) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    for part in NORM:
        yield f"{theirs}.{part}", f"{ours}.{part}", () if part == "num_batches_tracked" else (channels,)


def names_and_shapes() -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Published name, our name, shape, of every tensor of a MobileNetV2-SSD."""
    theirs, ours = "backbone.features", "backbone.features"
    yield from convolution(f"{theirs}.init_block.conv", f"{ours}.0.0", (32, 3, 3, 3))
    yield from norm(f"{theirs}.init_block.bn", f"{ours}.0.1", 32)
    channels, block, units = 32, 0, dict.fromkeys(range(1, 6), 0)
    for expansion, out, count, stage in RUNS:
        for _ in range(count):
            block, units[stage] = block + 1, units[stage] + 1
            unit, wide = f"{theirs}.stage{stage}.unit{units[stage]}", channels * expansion
            mine = f"{ours}.{block}" if expansion == 1 else f"{ours}.{block}.conv"
            yield from convolution(f"{unit}.conv1.conv", f"{mine}.0.0", (wide, channels, 1, 1))
            yield from norm(f"{unit}.conv1.bn", f"{mine}.0.1", wide)
            yield from convolution(f"{unit}.conv2.conv", f"{mine}.1.0", (wide, 1, 3, 3))
            yield from norm(f"{unit}.conv2.bn", f"{mine}.1.1", wide)
            yield from convolution(f"{unit}.conv3.conv", f"{mine}.2", (out, wide, 1, 1))
            yield from norm(f"{unit}.conv3.bn", f"{mine}.3", out)
            channels = out
    for head, mine, columns in (("reg", "box", 4), ("cls", "class", 2)):
        for level, (channels, priors) in enumerate(((96, 4), (320, 5))):
            before, after = f"bbox_head.{head}_convs.{level}", f"{mine}_heads.{level}"
            yield from convolution(f"{before}.0", f"{after}.0", (channels, 1, 3, 3))
            yield f"{before}.0.bias", f"{after}.0.bias", (channels,)
            yield from norm(f"{before}.1", f"{after}.1", channels)
            yield from convolution(f"{before}.3", f"{after}.3", (columns * priors, channels, 1, 1))
            yield f"{before}.3.bias", f"{after}.3.bias", (columns * priors,)
    yield "bbox_head.loss_weights", "loss_log_variances", (2,)


# The unexpanded first block's number shows that units were counted as pytorchcv does.
def test_the_map_of_this_test_itself() -> None:
    names = {theirs: ours for theirs, ours, _ in names_and_shapes()}
    assert names["backbone.features.stage1.unit1.conv3.conv.weight"] == "backbone.features.1.2.weight"
    assert names["backbone.features.stage4.unit7.conv3.bn.bias"] == "backbone.features.13.conv.3.bias"
    assert names["backbone.features.stage5.unit4.conv1.conv.weight"] == "backbone.features.17.conv.0.0.weight"


def published(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for theirs, _, shape in names_and_shapes():
        if theirs.endswith("num_batches_tracked"):
            state[theirs] = torch.randint(1, 10**6, shape, generator=generator)
        else:
            state[theirs] = torch.rand(shape, generator=generator) + 0.1
    return state


def save(folder: Path, state: dict[str, Tensor], prefix: str = "") -> Path:
    content = {
        "meta": {"epoch": 12, "iter": 5, "config": "x"},
        "state_dict": {prefix + name: tensor for name, tensor in state.items()},
        "optimizer": {"state": {}, "param_groups": []},
    }
    torch.save(content, folder / "foreign.pth")
    return folder / "foreign.pth"


def complaint(path: Path, template: Template) -> str:
    with pytest.raises(FacekitError) as caught:
        load_weights(path, template)
    assert str(path.with_suffix("")) in str(caught.value)
    return str(caught.value)


class TestOwn:
    def test_comes_back_with_its_epoch(self, tmp_path: Path, ssd: Template) -> None:
        network = build_model(ssd)
        save_checkpoint(tmp_path / "a.pth", Checkpoint(new_meta(ssd, 5, 50), network.state_dict(), {"state": {}}))
        checkpoint = load_weights(tmp_path / "a.pth", ssd)
        assert checkpoint.epoch == 5
        assert checkpoint.optimizer == {"state": {}}

    def test_of_another_template(self, tmp_path: Path, ssd: Template) -> None:
        other = bundled("face-detection-0204")
        save_checkpoint(tmp_path / "a.pth", Checkpoint(new_meta(other, 5, 50), {}))
        assert "made for template 'face-detection-0204'" in complaint(tmp_path / "a.pth", ssd)

    def test_missing(self, tmp_path: Path, ssd: Template) -> None:
        assert "no such checkpoint" in complaint(tmp_path / "a.pth", ssd)


class TestMobileNetV2Ssd:
    @pytest.mark.parametrize("prefix", ["", "module."])
    def test_every_tensor_lands_where_it_should(self, tmp_path: Path, ssd: Template, prefix: str) -> None:
        state = published()
        checkpoint = load_weights(save(tmp_path, state, prefix), ssd)
        wanted = {ours: state[theirs] for theirs, ours, _ in names_and_shapes()}
        assert checkpoint.state_dict.keys() == wanted.keys()
        different = [name for name in wanted if not torch.equal(checkpoint.state_dict[name], wanted[name])]
        assert not different

    def test_epoch_is_the_templates_and_there_is_no_optimiser(self, tmp_path: Path, ssd: Template) -> None:
        checkpoint = load_weights(save(tmp_path, published()), ssd)
        assert checkpoint.epoch == 70
        assert checkpoint.optimizer is None
        assert checkpoint.meta["template"] == "face-detection-0200"
        assert checkpoint.meta["batch_norm_folded"] is False

    def test_bare_state_dict(self, tmp_path: Path, ssd: Template) -> None:
        torch.save(published(), tmp_path / "bare.pth")
        assert load_weights(tmp_path / "bare.pth", ssd).epoch == 70

    def test_imported_can_be_saved_and_read_again(self, tmp_path: Path, ssd: Template) -> None:
        save_checkpoint(tmp_path / "snapshot.pth", load_weights(save(tmp_path, published()), ssd))
        assert load_weights(tmp_path / "snapshot.pth", ssd).epoch == 70

    def test_missing_unexpected_and_misshapen_are_listed(self, tmp_path: Path, ssd: Template) -> None:
        state = published()
        del state["backbone.features.stage3.unit2.conv2.conv.weight"], state["bbox_head.loss_weights"]
        state["bbox_head.cls_convs.0.3.bias"] = torch.zeros(9)
        state |= {"backbone.features.final_block.conv.weight": torch.zeros(1), "unknown": torch.zeros(1)}
        text = complaint(save(tmp_path, state), ssd)
        assert "missing (2): loss_log_variances, backbone.features.5.conv.1.0.weight" in text
        assert "unexpected (2): backbone.features.final_block.conv.weight, unknown" in text
        assert "wrong shape (1): class_heads.0.3.bias (expected (8,), got (9,))" in text
        assert "face-detection-0200" in text

    def test_the_same_tensor_twice(self, tmp_path: Path, ssd: Template) -> None:
        state = published()
        state["module.bbox_head.loss_weights"] = torch.zeros(2)
        assert "loss_log_variances" in complaint(save(tmp_path, state), ssd)

    @pytest.mark.parametrize(
        "content",
        [[1, 2], {"state_dict": [1]}, {"state_dict": {"a": 1}}, {"state_dict": None}, {"epoch": 3},
         {"state_dict": {3: torch.zeros(1)}}, torch.zeros(3)],
    )  # fmt: skip
    def test_no_state_dict(self, tmp_path: Path, ssd: Template, content: Any) -> None:
        torch.save(content, tmp_path / "a.pth")
        assert "holds no state_dict of tensors" in complaint(tmp_path / "a.pth", ssd)

    def test_empty_state_dict(self, tmp_path: Path, ssd: Template) -> None:
        assert f"missing ({len(list(names_and_shapes()))})" in complaint(save(tmp_path, {}), ssd)


@pytest.fixture
def irs(shared_dir: Path) -> Path:
    return shared_dir / "weights" / "openvino"


class TestPublishedYuNet:
    @pytest.fixture
    def folder(self, shared_dir: Path) -> Path:
        return shared_dir / "weights" / "yunet"

    def test_imports_whole(self, folder: Path, yunet: Template) -> None:
        checkpoint = load_weights(folder / "yunet_n.pth", yunet)
        theirs = torch.load(folder / "yunet_n.pth", map_location="cpu", weights_only=True)["state_dict"]
        assert checkpoint.epoch == 640
        assert checkpoint.optimizer is None
        assert checkpoint.state_dict.keys() == theirs.keys()
        assert all(torch.equal(checkpoint.state_dict[name], theirs[name]) for name in theirs)

    def test_refused_for_an_ssd(self, folder: Path, ssd: Template) -> None:
        text = complaint(folder / "yunet_n.pth", ssd)
        assert "published weights of 'yunet-n', not of 'face-detection-0200'" in text
        assert "--template yunet-n" in text

    def test_s_refused_for_n(self, folder: Path, yunet: Template) -> None:
        complaint(folder / "yunet_s.pth", yunet)

    def test_cut_off(self, folder: Path, tmp_path: Path, yunet: Template) -> None:
        data = (folder / "yunet_n.pth").read_bytes()
        (tmp_path / "a.pth").write_bytes(data[:-1000])
        assert "cut off" in complaint(tmp_path / "a.pth", yunet)


class TestOpenVinoIr:
    @pytest.mark.parametrize("name", ["face-detection-0200", "face-detection-0202", "face-detection-0204"])
    @pytest.mark.parametrize("suffix", [".xml", ".bin"])
    def test_imports_whole(self, irs: Path, name: str, suffix: str) -> None:
        template = bundled(name)
        checkpoint = load_weights(irs / f"{name}{suffix}", template)
        assert checkpoint.epoch == 70
        assert checkpoint.meta["batch_norm_folded"] is True
        assert checkpoint.state_dict.keys() == build_model(template).state_dict().keys()
        weights = [
            tensor for key, tensor in checkpoint.state_dict.items() if key.endswith("weight") and tensor.dim() == 4
        ]
        assert len(weights) == 1 + 17 * 3 + 8  # stem, blocks, head
        assert all(tensor.abs().max() > 0 and tensor.isfinite().all() for tensor in weights)

    def test_all_tensors_differ(self, irs: Path, ssd: Template) -> None:
        """No two convolutions were filled from the same constant."""
        state = load_weights(irs / "face-detection-0200.xml", ssd).state_dict
        sums = [
            float(tensor.double().sum())
            for name, tensor in state.items()
            if name.endswith("weight") and tensor.dim() > 1
        ]
        assert len(set(sums)) == len(sums)

    def test_gives_what_openvino_gives(self, irs: Path, ssd: Template) -> None:
        import openvino as ov

        image_bgr = np.random.default_rng(0).integers(0, 255, (1, 256, 256, 3), dtype=np.uint8)
        image_bgr = cv2.resize(image_bgr[0, ::32, ::32], (256, 256), interpolation=cv2.INTER_CUBIC)[None]
        compiled = ov.Core().compile_model(
            str(irs / "face-detection-0200.xml"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
        )
        theirs = compiled(image_bgr.transpose(0, 3, 1, 2).astype(np.float32))[0].reshape(-1, 7)
        network = build_model(ssd)
        load_state(network, load_weights(irs / "face-detection-0200.xml", ssd).state_dict, "IR")
        ours = PyTorchBackend(network.eval(), ssd)(image_bgr)
        best = ours.scores[0].argmax()
        assert ours.scores[0, best] == pytest.approx(theirs[0, 2], abs=1e-4)
        np.testing.assert_allclose(ours.boxes_xyxy[0, best], theirs[0, 3:] * 256, atol=0.05)

    @pytest.mark.parametrize("how", ["gather", "slice", "twice"])
    def test_ways_to_reverse_the_channels(self, how: str) -> None:
        """Open Model Zoo graphs gather, exported ONNX graphs slice backwards."""
        from openvino import opset13 as ops

        image = ops.parameter([1, 3, 8, 8], name="image")
        gathered = ops.gather(image, np.array([2, 1, 0]), 1)
        one, everything = np.array([1]), np.array([-(2**63)])
        sliced = ops.slice(image if how == "slice" else gathered, -one, everything, -one, one)
        node = {"gather": gathered, "slice": sliced, "twice": sliced}[how]
        scaled = ops.multiply(ops.convert(node, "f32"), np.array([0.25], np.float32))
        assert _preprocessing(scaled, Path("a.xml")) == (0.25, how != "twice")

    @pytest.mark.parametrize("kind", ["subtract", "tanh", "multiply"])
    def test_other_treatment_of_the_picture(self, tmp_path: Path, ssd: Template, kind: str) -> None:
        import openvino as ov
        from openvino import opset13 as ops

        image = ops.parameter([1, 3, 256, 256], name="image")
        mean = np.array([1, 2, 3], np.float32).reshape(1, 3, 1, 1)
        treated = ops.tanh(image) if kind == "tanh" else getattr(ops, kind)(image, mean)
        convolved = ops.convolution(treated, np.ones((4, 3, 3, 3), np.float32), [2, 2], [1, 1], [1, 1], [1, 1])
        ov.save_model(ov.Model([convolved], [image]), tmp_path / "a.xml", compress_to_fp16=False)
        text = complaint(tmp_path / "a.xml", ssd)
        assert f"does {kind.title()} to the picture" in text

    def test_of_another_size(self, irs: Path, ssd: Template) -> None:
        text = complaint(irs / "face-detection-0202.xml", ssd)
        assert "takes [1,3,384,384], template 'face-detection-0200' [1,3,256,256]" in text

    @pytest.mark.parametrize("other", ["face-detection-0205", "face-detection-retail-0005", "face-detection-0200-int8"])
    def test_of_another_detector(self, irs: Path, ssd: Template, other: str) -> None:
        complaint(irs / f"{other}.xml", ssd)

    def test_for_yunet(self, irs: Path, yunet: Template) -> None:
        assert "no OpenVINO IR is published for 'yunet-n'" in complaint(irs / "face-detection-0200.xml", yunet)

    @pytest.mark.parametrize("missing", [".xml", ".bin"])
    def test_half_of_the_pair(self, irs: Path, tmp_path: Path, ssd: Template, missing: str) -> None:
        kept = ".bin" if missing == ".xml" else ".xml"
        shutil.copy(irs / f"face-detection-0200{kept}", tmp_path / f"a{kept}")
        text = complaint(tmp_path / f"a{kept}", ssd)
        assert f"{tmp_path / f'a{missing}'}: there is no such file" in text

    @pytest.mark.parametrize("kept", [0, 1000, 2_000_000, -1])
    def test_cut_off_bin(self, irs: Path, tmp_path: Path, ssd: Template, kept: int) -> None:
        shutil.copy(irs / "face-detection-0200.xml", tmp_path / "a.xml")
        (tmp_path / "a.bin").write_bytes((irs / "face-detection-0200.bin").read_bytes()[:kept])
        assert "cut off" in complaint(tmp_path / "a.bin", ssd)

    @pytest.mark.parametrize("text", ["", "<net>", "hello", '<?xml version="1.0"?><net name="a" version="11"></net>'])
    def test_no_xml(self, tmp_path: Path, ssd: Template, text: str) -> None:
        (tmp_path / "a.xml").write_text(text)
        (tmp_path / "a.bin").write_bytes(bytes(100))
        complaint(tmp_path / "a.xml", ssd)

    @pytest.mark.parametrize("shape", [[1, 3, -1, -1], [-1, 3, 256, 256], [1, 3], [1, 3, 256, 256], [1, 8, 8, 3]])
    def test_graphs_of_any_other_shape(self, tmp_path: Path, ssd: Template, shape: list[int]) -> None:
        import openvino as ov
        from openvino import opset13 as ops

        image = ops.parameter(shape, name="image")
        ov.save_model(ov.Model([ops.relu(image)], [image]), tmp_path / "a.xml")
        complaint(tmp_path / "a.xml", ssd)
