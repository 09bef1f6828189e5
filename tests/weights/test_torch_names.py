"""Checkpoints in each family's official naming land whole. The naming is written down here from its own side: that of
pytorchcv for backbones, of mmdetection for pyramids and heads."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from facekit.errors import FacekitError
from facekit.template import TEMPLATES_DIR, Template, load_template
from facekit.weights.checkpoint import save_checkpoint
from facekit.weights.load import load_weights
from facekit.weights.torch_names import our_names


class Entry(NamedTuple):
    """One tensor: its published name, ours, its shape."""

    theirs: str
    ours: str
    shape: tuple[int, ...]


Entries = Iterator[Entry]
# Runs of MobileNetV2 blocks: expansion, channels, units, and the stage of pytorchcv that the run belongs to (a stage
# starts where the picture is halved, the stem's apart).
RUNS = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 3), (6, 64, 4, 4), (6, 96, 3, 4), (6, 160, 3, 5), (6, 320, 1, 5)]
NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def bundled(name: str) -> Template:
    return load_template(TEMPLATES_DIR / name / "template.yaml")


def convolution(theirs: str, ours: str, *shape: int, bias: bool = False) -> Entries:
    yield Entry(f"{theirs}.weight", f"{ours}.weight", shape)
    if bias:
        yield Entry(f"{theirs}.bias", f"{ours}.bias", shape[:1])


def norm(theirs: str, ours: str, channels: int) -> Entries:
    for part in NORM:
        yield Entry(f"{theirs}.{part}", f"{ours}.{part}", () if part == "num_batches_tracked" else (channels,))


def mobilenetv2() -> Entries:
    theirs = ours = "backbone.features"
    yield from convolution(f"{theirs}.init_block.conv", f"{ours}.0.0", 32, 3, 3, 3)
    yield from norm(f"{theirs}.init_block.bn", f"{ours}.0.1", 32)
    channels, block, units = 32, 0, dict.fromkeys(range(1, 6), 0)
    for expansion, out, count, stage in RUNS:
        for _ in range(count):
            block, units[stage] = block + 1, units[stage] + 1
            unit, wide = f"{theirs}.stage{stage}.unit{units[stage]}", channels * expansion
            mine = f"{ours}.{block}" if expansion == 1 else f"{ours}.{block}.conv"
            yield from convolution(f"{unit}.conv1.conv", f"{mine}.0.0", wide, channels, 1, 1)
            yield from norm(f"{unit}.conv1.bn", f"{mine}.0.1", wide)
            yield from convolution(f"{unit}.conv2.conv", f"{mine}.1.0", wide, 1, 3, 3)
            yield from norm(f"{unit}.conv2.bn", f"{mine}.1.1", wide)
            yield from convolution(f"{unit}.conv3.conv", f"{mine}.2", out, wide, 1, 1)
            yield from norm(f"{unit}.conv3.bn", f"{mine}.3", out)
            channels = out


def shufflenetv2() -> Entries:
    theirs = "backbone.features"
    yield from convolution(f"{theirs}.init_block.conv.conv", "backbone.conv1.0", 24, 3, 3, 3)
    yield from norm(f"{theirs}.init_block.conv.bn", "backbone.conv1.1", 24)
    channels = 24
    for stage, (units, out) in enumerate(((4, 116), (8, 232), (4, 464)), start=1):
        half = out // 2
        for number in range(1, units + 1):
            unit, mine = f"{theirs}.stage{stage}.unit{number}", f"backbone.stage{stage + 1}.{number - 1}"
            reads = channels if number == 1 else half
            yield from convolution(f"{unit}.compress_conv1", f"{mine}.branch2.0", half, reads, 1, 1)
            yield from norm(f"{unit}.compress_bn1", f"{mine}.branch2.1", half)
            yield from convolution(f"{unit}.dw_conv2", f"{mine}.branch2.3", half, 1, 3, 3)
            yield from norm(f"{unit}.dw_bn2", f"{mine}.branch2.4", half)
            yield from convolution(f"{unit}.expand_conv3", f"{mine}.branch2.5", half, half, 1, 1)
            yield from norm(f"{unit}.expand_bn3", f"{mine}.branch2.6", half)
            if number == 1:
                yield from convolution(f"{unit}.dw_conv4", f"{mine}.branch1.0", reads, 1, 3, 3)
                yield from norm(f"{unit}.dw_bn4", f"{mine}.branch1.1", reads)
                yield from convolution(f"{unit}.expand_conv5", f"{mine}.branch1.2", half, reads, 1, 1)
                yield from norm(f"{unit}.expand_bn5", f"{mine}.branch1.3", half)
        channels = out


def resnet152() -> Entries:
    theirs = "backbone.features"
    yield from convolution(f"{theirs}.init_block.conv.conv", "backbone.conv1", 64, 3, 7, 7)
    yield from norm(f"{theirs}.init_block.conv.bn", "backbone.bn1", 64)
    channels = 64
    for stage, (units, mid) in enumerate(((3, 64), (8, 128), (36, 256), (3, 512)), start=1):
        for number in range(1, units + 1):
            unit, mine = f"{theirs}.stage{stage}.unit{number}", f"backbone.layer{stage}.{number - 1}"
            for part, shape in ((1, (mid, channels, 1, 1)), (2, (mid, mid, 3, 3)), (3, (4 * mid, mid, 1, 1))):
                yield from convolution(f"{unit}.body.conv{part}.conv", f"{mine}.conv{part}", *shape)
                yield from norm(f"{unit}.body.conv{part}.bn", f"{mine}.bn{part}", shape[0])
            if number == 1:
                yield from convolution(f"{unit}.identity_conv.conv", f"{mine}.downsample.0", 4 * mid, channels, 1, 1)
                yield from norm(f"{unit}.identity_conv.bn", f"{mine}.downsample.1", 4 * mid)
            channels = 4 * mid


def ssd_head(tap_channels: tuple[int, int]) -> Entries:
    for head, mine, columns in (("reg", "box", 4), ("cls", "class", 2)):
        for level, (channels, priors) in enumerate(zip(tap_channels, (4, 5), strict=True)):
            before, after = f"bbox_head.{head}_convs.{level}", f"{mine}_heads.{level}"
            yield from convolution(f"{before}.0", f"{after}.0", channels, 1, 3, 3, bias=True)
            yield from norm(f"{before}.1", f"{after}.1", channels)
            yield from convolution(f"{before}.3", f"{after}.3", columns * priors, channels, 1, 1, bias=True)
    yield Entry("bbox_head.loss_weights", "loss_log_variances", (2,))


def pyramid(tap_channels: tuple[int, ...], channels: int) -> Entries:
    for level, taps in enumerate(tap_channels):
        name = f"neck.lateral_convs.{level}"
        yield from convolution(f"{name}.conv", name, channels, taps, 1, 1, bias=True)
    for level in range(5):
        name = f"neck.fpn_convs.{level}"
        yield from convolution(f"{name}.conv", name, channels, channels, 3, 3, bias=True)


def dense_head(channels: int, tower: int, ends: str) -> Entries:
    """`ends`: what the three last convolutions' names start with, which changed in mmdetection 2.2."""
    for theirs, ours in (("cls", "class"), ("reg", "box")):
        for number in range(4):
            before, after = f"bbox_head.{theirs}_convs.{number}", f"bbox_head.{ours}_tower"
            reads = tower if number else channels
            yield from convolution(f"{before}.conv", f"{after}.{3 * number}", tower, reads, 3, 3)
            for part in ("weight", "bias"):
                yield Entry(f"{before}.gn.{part}", f"{after}.{3 * number + 1}.{part}", (tower,))
    for theirs, ours, columns in (("cls", "class", 1), ("reg", "box", 4), ("centerness", "centre_ness", 1)):
        before, after = f"bbox_head.{ends}_{theirs}", f"bbox_head.{ours}_conv"
        yield from convolution(before, after, columns, tower, 3, 3, bias=True)
    for level in range(5):
        yield Entry(f"bbox_head.scales.{level}.scale", f"bbox_head.scales.{level}", ())


def of_0200() -> Entries:
    yield from mobilenetv2()
    yield from ssd_head((96, 320))


def of_0205(ends: str) -> Entries:
    yield from mobilenetv2()
    yield from pyramid((32, 96, 320), 48)
    yield from dense_head(48, 32, ends)


def of_0206() -> Entries:
    yield from resnet152()
    yield from pyramid((256, 512, 1024, 2048), 256)
    for level in range(5):
        theirs, ours = f"neck.context_modules.{level}", f"context_modules.{level}"
        for part, (out, reads) in enumerate(((128, 256), (64, 128), (64, 64)), start=1):
            yield from convolution(f"{theirs}.conv{part}.conv", f"{ours}.conv{part}", out, reads, 1, 1, bias=True)
    yield from dense_head(256, 128, "atss")


def of_0207() -> Entries:
    yield from shufflenetv2()
    yield from ssd_head((232, 464))


# Template, its official entries, their number.
OFFICIAL: dict[str, tuple[str, Callable[[], Entries], int]] = {
    "0200": ("face-detection-0200", of_0200, 349),
    "0205-before-2.2": ("face-detection-0205", lambda: of_0205("fcos"), 363),
    "0205-since-2.2": ("face-detection-0205", lambda: of_0205("conv"), 363),
    "0206": ("face-detection-0206", of_0206, 1013),
    "0207": ("face-detection-0207", of_0207, 367),
}


def published(entries: Entries) -> dict[str, Tensor]:
    """A state_dict of them. Each tensor is one number of its own, held once whatever the shape: the file is small."""
    state = {}
    for number, entry in enumerate(entries, start=1):
        is_count = entry.theirs.endswith("num_batches_tracked")
        state[entry.theirs] = torch.full(entry.shape, number if is_count else number / 1024)
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
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.fixture(scope="module")
def ssd() -> Template:
    return bundled("face-detection-0200")


class TestTheMapOfThisTestItself:
    @pytest.mark.parametrize("case", OFFICIAL)
    def test_has_as_many_tensors_as_the_official_file(self, case: str) -> None:
        _, entries, count = OFFICIAL[case]
        names = [entry.theirs for entry in entries()]
        assert len(names) == len(set(names)) == count

    def test_units_were_counted_as_pytorchcv_does(self) -> None:
        names = {theirs: ours for theirs, ours, _ in of_0200()}
        assert names["backbone.features.stage1.unit1.conv3.conv.weight"] == "backbone.features.1.2.weight"
        assert names["backbone.features.stage4.unit7.conv3.bn.bias"] == "backbone.features.13.conv.3.bias"
        assert names["backbone.features.stage5.unit4.conv1.conv.weight"] == "backbone.features.17.conv.0.0.weight"


class TestOfficialNames:
    @pytest.mark.parametrize("case", OFFICIAL)
    def test_every_tensor_lands_where_it_should(self, tmp_path: Path, case: str) -> None:
        name, entries, count = OFFICIAL[case]
        state = published(entries())
        checkpoint = load_weights(save(tmp_path, state), bundled(name))
        assert len(checkpoint.state_dict) == count
        wanted = {ours: state[theirs] for theirs, ours, _ in entries()}
        assert checkpoint.state_dict.keys() == wanted.keys()
        different = [ours for ours in wanted if not torch.equal(checkpoint.state_dict[ours], wanted[ours])]
        assert not different

    @pytest.mark.parametrize("case", ["0200", "0205-since-2.2"])
    def test_names_of_parallel_training(self, tmp_path: Path, case: str) -> None:
        name, entries, count = OFFICIAL[case]
        state = published(entries())
        checkpoint = load_weights(save(tmp_path, state, prefix="module."), bundled(name))
        assert len(checkpoint.state_dict) == count
        assert all(torch.equal(checkpoint.state_dict[ours], state[theirs]) for theirs, ours, _ in entries())

    def test_becomes_a_snapshot_of_the_templates_epoch(self, tmp_path: Path, ssd: Template) -> None:
        torch.save(published(of_0200()), tmp_path / "bare.pth")  # a state_dict without anything around it
        checkpoint = load_weights(tmp_path / "bare.pth", ssd)
        assert checkpoint.epoch == 70
        assert checkpoint.optimizer is None
        assert checkpoint.meta["template"] == "face-detection-0200"
        assert checkpoint.meta["batch_norm_folded"] is False
        save_checkpoint(tmp_path / "snapshot.pth", checkpoint)
        assert load_weights(tmp_path / "snapshot.pth", ssd).epoch == 70


class TestComplaints:
    def test_missing_unexpected_and_misshapen_are_listed(self, tmp_path: Path, ssd: Template) -> None:
        state = published(of_0200())
        del state["backbone.features.stage3.unit2.conv2.conv.weight"], state["bbox_head.loss_weights"]
        state["bbox_head.cls_convs.0.3.bias"] = torch.zeros(9)
        state |= {"backbone.features.final_block.conv.weight": torch.zeros(1), "unknown": torch.zeros(1)}
        text = complaint(save(tmp_path, state), ssd)
        assert "missing (2): loss_log_variances, backbone.features.5.conv.1.0.weight" in text
        assert "unexpected (2): backbone.features.final_block.conv.weight, unknown" in text
        assert "wrong shape (1): class_heads.0.3.bias (expected (8,), got (9,))" in text
        assert "face-detection-0200" in text

    def test_names_with_and_without_module(self, tmp_path: Path, ssd: Template) -> None:
        state = published(of_0200())
        state["module.bbox_head.loss_weights"] = torch.zeros(2)
        assert "with and without 'module.'" in complaint(save(tmp_path, state), ssd)

    def test_old_and_new_name_of_one_tensor(self, tmp_path: Path) -> None:
        state = published(of_0205("fcos"))
        state["bbox_head.conv_cls.weight"] = state["bbox_head.fcos_cls.weight"]
        text = complaint(save(tmp_path, state), bundled("face-detection-0205"))
        assert "holds bbox_head.class_conv.weight twice, once as bbox_head.conv_cls.weight" in text

    @pytest.mark.parametrize(
        ("case", "name"),
        [
            ("0207", "face-detection-0204"),
            ("0205-since-2.2", "face-detection-0200"),
            ("0200", "tiny-ssd-300"),
            ("0200", "scrfd-0.5g"),
        ],
    )
    def test_of_another_detector(self, tmp_path: Path, case: str, name: str) -> None:
        text = complaint(save(tmp_path, published(OFFICIAL[case][1]())), bundled(name))
        assert f"(for template {name}): the weights don't fit" in text

    @pytest.mark.parametrize(
        "content",
        [[1, 2], {"state_dict": [1]}, {"state_dict": {"a": 1}}, {"state_dict": None}, {"epoch": 3},
         {"state_dict": {3: torch.zeros(1)}}, torch.zeros(3)],
    )  # fmt: skip
    def test_no_state_dict(self, tmp_path: Path, ssd: Template, content: Any) -> None:
        torch.save(content, tmp_path / "a.pth")
        assert "holds no state_dict of tensors" in complaint(tmp_path / "a.pth", ssd)

    def test_empty_state_dict(self, tmp_path: Path, ssd: Template) -> None:
        assert "holds no state_dict of tensors" in complaint(save(tmp_path, {}), ssd)


def test_an_architecture_without_rules_has_its_own_names(tmp_path: Path, ssd: Template) -> None:
    new = dataclasses.replace(ssd, model=dataclasses.replace(ssd.model, architecture="new"))
    state = {"layer.weight": torch.zeros(2)}
    assert our_names(state, tmp_path / "a.pth", new) == state
