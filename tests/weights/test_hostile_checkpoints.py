"""Checkpoints whose tensors or records are not what they claim, and those of other programs."""

from __future__ import annotations

import argparse
import collections
import copy
import io
import os
import pathlib
import pickle
import types
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from facekit.commands.instantiate import instantiate
from facekit.errors import FacekitError
from facekit.models import build_model
from facekit.template import TEMPLATES_DIR, Template, load_template
from facekit.weights.checkpoint import Checkpoint, content_digest, new_meta, save_checkpoint
from facekit.weights.load import load_weights
from facekit.weights.torch_file import DamagedCheckpointError, read_torch_file

NAME = "bbox_head.multi_level_cls.0.conv1.weight"  # (1, 64, 1, 1)
NORM = "backbone.model0.bn1"


@pytest.fixture(scope="module")
def template() -> Template:
    return load_template(TEMPLATES_DIR / "yunet-n" / "template.yaml")


@pytest.fixture(scope="module")
def network_state(template: Template) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return dict(build_model(template).state_dict())


@pytest.fixture
def state(network_state: dict[str, Tensor]) -> dict[str, Tensor]:
    return dict(network_state)


def ours(template: Template, state: dict[str, Any], **meta: Any) -> dict[str, Any]:
    """A checkpoint's content as save_checkpoint lays it out, without the digest."""
    return {"meta": new_meta(template, 3, 30) | meta, "state_dict": state, "optimizer": None, "extra": {}}


def complaint(content: Any, folder: Path, template: Template) -> str:
    path = folder / "a.pth"
    torch.save(content, path)
    with pytest.raises(FacekitError) as caught:
        load_weights(path, template)
    text = str(caught.value)
    assert text.startswith(str(path))
    assert "\n" not in text
    return text


def loads(content: Any, folder: Path, template: Template) -> Checkpoint:
    path = folder / "a.pth"
    torch.save(content, path)
    return load_weights(path, template)


SHAPE = (1, 64, 1, 1)
BAD_TENSORS = {
    "sparse": (torch.zeros(SHAPE).to_sparse(), "is sparse"),
    "csr": (torch.zeros(64, 64).to_sparse_csr(), "is sparse"),
    "quantised": (torch.quantize_per_tensor(torch.zeros(SHAPE), 0.1, 0, torch.qint8), "is of the type torch.qint8"),
    "meta": (torch.zeros(SHAPE, device="meta"), "is a meta tensor"),
    "nested": (torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]), "is a nested tensor"),
    "terabytes of one number": (torch.zeros(1).expand(1, 64, 1 << 18, 1 << 18), "asks for 17592186044416 bytes, its"),
    "one number, expanded": (torch.zeros(1).expand(SHAPE), "asks for 256 bytes, its storage holds 4"),
    "windows on the same numbers": (torch.zeros(40).as_strided(SHAPE, (1, 0, 0, 0)), "its storage holds 160"),
    "a view of far more": (torch.zeros(1 << 20)[:64].view(SHAPE), "with a storage of 4194304 bytes"),
    "complex": (torch.zeros(SHAPE, dtype=torch.complex64), "is of the type torch.complex64"),
    "eight-bit floats": (torch.zeros(SHAPE).to(torch.float8_e4m3fn), "is of the type torch.float8"),
    "bytes": (torch.zeros(SHAPE, dtype=torch.int8), "expected real floating numbers, got torch.int8"),
    "flags": (torch.zeros(SHAPE, dtype=torch.bool), "expected real floating numbers, got torch.bool"),
    "not a number": (torch.full(SHAPE, torch.nan), "not finite"),
    "infinite": (torch.full(SHAPE, -torch.inf), "not finite"),
    "too large for the network's floats": (torch.full(SHAPE, 1e300, dtype=torch.float64), "not finite"),
}


@pytest.mark.filterwarnings("ignore")
class TestTensors:
    @pytest.mark.parametrize("is_ours", [True, False], ids=["ours", "foreign"])
    @pytest.mark.parametrize("kind", BAD_TENSORS)
    def test_refused_by_name(
        self, tmp_path: Path, template: Template, state: dict[str, Tensor], kind: str, is_ours: bool
    ) -> None:
        tensor, expected = BAD_TENSORS[kind]
        state[NAME] = tensor
        text = complaint(ours(template, state) if is_ours else state, tmp_path, template)
        assert NAME in text
        assert expected in text

    @pytest.mark.parametrize("kind", ["sparse", "meta", "not a number"])
    @pytest.mark.parametrize("where", ["optimizer", "average"])
    def test_beside_the_weights(
        self, tmp_path: Path, template: Template, state: dict[str, Tensor], kind: str, where: str
    ) -> None:
        tensor, expected = BAD_TENSORS[kind]
        content = ours(template, state)
        if where == "optimizer":
            content["optimizer"] = {"state": {7: {"momentum_buffer": tensor}}, "param_groups": []}
            expected = "finite" if kind == "not a number" else expected
        else:
            content["extra"] = {"average": {"steps": 3, "stepped": state | {NAME: tensor}}}
        text = complaint(content, tmp_path, template)
        assert expected in text
        assert ("optimizer.state.7.momentum_buffer" if where == "optimizer" else NAME) in text

    def test_negative_variance(self, tmp_path: Path, template: Template, state: dict[str, Tensor]) -> None:
        state[f"{NORM}.running_var"] = torch.full((16,), -0.5)
        assert f"{NORM}.running_var: holds -0.5, expected 0 or more" in complaint(
            ours(template, state), tmp_path, template
        )

    @pytest.mark.parametrize("count", [torch.tensor(-1), torch.tensor(1.5), torch.tensor(True)])
    def test_counters(self, tmp_path: Path, template: Template, state: dict[str, Tensor], count: Tensor) -> None:
        state[f"{NORM}.num_batches_tracked"] = count
        assert f"{NORM}.num_batches_tracked: " in complaint(state, tmp_path, template)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
    def test_other_real_types_are_read(
        self, tmp_path: Path, template: Template, state: dict[str, Tensor], dtype: torch.dtype
    ) -> None:
        given = {name: t.to(dtype) if t.is_floating_point() else t for name, t in state.items()}
        assert loads(given, tmp_path, template).state_dict[NAME].dtype == torch.float32

    def test_weights_that_share_one_storage_are_read(
        self, tmp_path: Path, template: Template, state: dict[str, Tensor]
    ) -> None:
        flat = torch.cat([tensor.flatten() for tensor in state.values() if tensor.is_floating_point()])
        given, at = dict(state), 0
        for name, tensor in state.items():
            if tensor.is_floating_point():
                given[name] = flat[at : at + tensor.numel()].view(tensor.shape)
                at += tensor.numel()
        assert torch.equal(loads(given, tmp_path, template).state_dict[NAME], state[NAME])

    def test_channels_last_is_dense(self, tmp_path: Path, template: Template, state: dict[str, Tensor]) -> None:
        given = {n: t.to(memory_format=torch.channels_last) if t.dim() == 4 else t for n, t in state.items()}
        loads(ours(template, given), tmp_path, template)

    def test_names_that_a_tensor_has_not(self, tmp_path: Path, template: Template) -> None:
        path = tmp_path / "a.pth"
        torch.save(ours(template, {}), path)
        with pytest.raises(FacekitError, match=r"a\.pth: the weights don't fit .*\n  missing \(\d+\): backbone"):
            load_weights(path, template)


class TestOursIsRefusedAtImport:
    @pytest.mark.parametrize("kind", ["empty", "misshapen", "more"])
    def test_instantiate(self, tmp_path: Path, template: Template, state: dict[str, Tensor], kind: str) -> None:
        state |= {"misshapen": {NAME: torch.zeros(1, 3, 1, 1)}, "more": {"new": torch.zeros(1)}}.get(kind, {})
        path = tmp_path / "a.pth"
        save_checkpoint(path, Checkpoint(new_meta(template, 1, 1), {} if kind == "empty" else state))
        with pytest.raises(FacekitError, match=r"a\.pth: the weights don't fit"):
            instantiate("yunet-n", tmp_path / "work", snapshot=path)
        assert not (tmp_path / "work" / "snapshot.pth").exists()


META = [
    ({"epoch": -1}, "meta.epoch: expected 0 to 10000000, got -1"),
    ({"epoch": 10**18}, "meta.epoch: expected 0 to 10000000"),
    ({"epoch": 10**40}, "meta.epoch: expected a whole number"),
    ({"epoch": "3"}, "meta.epoch: expected a whole number, got '3'"),
    ({"epoch": True}, "meta.epoch: expected a whole number, got True"),
    ({"epoch": None}, "meta.epoch: expected a whole number, got None"),
    ({"iteration": -5}, "meta.iteration: expected 0 to 1000000000000, got -5"),
    ({"epoch_iteration": 1.5}, "meta.epoch_iteration: expected a whole number, got 1.5"),
    ({"best_ap": "70"}, "meta.best_ap: expected a number, got '70'"),
    ({"best_ap": [70.0]}, "meta.best_ap: expected a number"),
    ({"best_ap": None}, "meta.best_ap: expected a number, got None"),
    ({"best_ap": float("nan")}, "meta: holds what is no plain data"),
    ({"best_ap": 700.0}, "meta.best_ap: expected -1 to 100, got 700"),
    ({"batch_norm_folded": "no"}, "meta.batch_norm_folded: expected true or false, got 'no'"),
    ({"compression": "int8"}, "meta.compression: expected dict, got 'int8'"),
    ({"compression": ["int8"]}, "meta.compression: expected dict"),
    ({"training": {3: 4}}, "meta: holds what is no plain data"),
    ({"training": {"batch_size": "4"}}, "meta.training.batch_size: expected a number, got '4'"),
    ({"training": [4]}, "meta.training: expected dict"),
    ({"stagnation": {"ap": 1.0}}, "meta.stagnation: gain_epoch, epoch missing"),
    ({"model": "yunet"}, "meta.model: expected dict"),
    ({"model": {"input": torch.zeros(3)}}, "meta: holds what is no plain data"),
    ({"note": torch.zeros(3)}, "meta: holds what is no plain data"),
]
PARTS: list[tuple[dict[str, Any], str]] = [
    ({"state_dict": None}, "checkpoint.state_dict: expected dict, got None"),
    ({"state_dict": {"a": 1}}, "checkpoint.state_dict.a: expected Tensor, got 1"),
    ({"state_dict": {1: torch.zeros(1)}}, "checkpoint.state_dict: a key: expected text, got 1"),
    ({"optimizer": "sgd"}, "checkpoint.optimizer: expected dict, got 'sgd'"),
    ({"extra": [1]}, "checkpoint.extra: expected dict"),
    ({"extra": {"average": {"steps": 3}}}, "extra.average: stepped missing"),
    ({"extra": {"average": {"steps": -3, "stepped": {}}}}, "extra.average.steps: expected 0 to"),
    ({"extra": {"scaler": 7}}, "extra.scaler: expected dict"),
    ({"extra": {"scaler": {"scale": "x"}}}, "extra.scaler.scale: expected a number"),
    ({"extra": {"random": {"cpu": 1}}}, "extra.random: expected tuple"),
    ({"extra": {"random": [{"cpu": 1}]}}, "extra.random[0].cpu: expected Tensor"),
]


class TestRecords:
    @pytest.mark.parametrize(("meta", "expected"), META, ids=[str(meta)[:40] for meta, _ in META])
    def test_meta(
        self, tmp_path: Path, template: Template, state: dict[str, Tensor], meta: dict[str, Any], expected: str
    ) -> None:
        assert expected in complaint(ours(template, state, **meta), tmp_path, template)

    @pytest.mark.parametrize(("part", "expected"), PARTS, ids=[str(part)[:40] for part, _ in PARTS])
    def test_parts(
        self, tmp_path: Path, template: Template, state: dict[str, Tensor], part: dict[str, Any], expected: str
    ) -> None:
        assert expected in complaint(ours(template, state) | part, tmp_path, template)

    @pytest.mark.parametrize("key", ["template", "model", "epoch", "iteration"])
    def test_missing(self, tmp_path: Path, template: Template, state: dict[str, Tensor], key: str) -> None:
        content = ours(template, state)
        del content["meta"][key]
        assert f"meta: {key} missing" in complaint(content, tmp_path, template)

    def test_average_without_tensors(self, tmp_path: Path, template: Template, state: dict[str, Tensor]) -> None:
        path = tmp_path / "a.pth"
        torch.save(ours(template, state) | {"extra": {"average": {"steps": 3, "stepped": {}}}}, path)
        with pytest.raises(FacekitError, match=r"extra\.average\.stepped: the weights don't fit"):
            load_weights(path, template)

    def test_of_facekit_0_3(self, tmp_path: Path, template: Template, state: dict[str, Tensor]) -> None:
        content = ours(template, state)
        del content["meta"]["epoch_iteration"], content["extra"]
        content["digest"] = content_digest(content)
        assert loads(content, tmp_path, template).epoch_iteration == 0

    def test_newer_keys_are_let_be(self, tmp_path: Path, template: Template, state: dict[str, Tensor]) -> None:
        assert loads(ours(template, state, mood="good"), tmp_path, template).meta["mood"] == "good"

    @pytest.mark.parametrize("kind", ["a billion", "in itself", "deep", "long texts"])
    def test_values_without_end(self, tmp_path: Path, template: Template, kind: str) -> None:
        bomb: Any = []
        if kind == "a billion":
            for _ in range(30):
                bomb = [bomb, bomb]
        elif kind == "in itself":
            bomb.append(bomb)
        elif kind == "deep":
            for _ in range(400):
                bomb = [bomb]
        else:
            bomb = ["x" * 1_000_000] * 1000
        content = ours(template, {}) | {"extra": {"more": bomb}}
        assert "more values than any checkpoint has" in complaint(content, tmp_path, template)


def reprefixed(state: dict[str, Tensor], *prefixes: str) -> dict[str, Tensor]:
    return {prefixes[i % len(prefixes)] + name: tensor for i, (name, tensor) in enumerate(state.items())}


class TestOtherPrograms:
    """P13: read as their makers meant them."""

    def same(self, content: Any, tmp_path: Path, template: Template, state: dict[str, Tensor]) -> None:
        got = loads(content, tmp_path, template).state_dict
        assert got.keys() == state.keys()
        assert all(torch.equal(got[name], state[name]) for name in state)

    @pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model", "net", "network", "weights", "params"])
    def test_wrapped(self, tmp_path: Path, template: Template, state: dict[str, Tensor], key: str) -> None:
        self.same(
            {key: state, "epoch": 7, "optimizer": {"state": {0: {"a": torch.zeros(1)}}}}, tmp_path, template, state
        )

    def test_wrapped_twice(self, tmp_path: Path, template: Template, state: dict[str, Tensor]) -> None:
        self.same({"checkpoint": {"model": state}, "args": [1]}, tmp_path, template, state)

    def test_unknown_wrapper(self, tmp_path: Path, template: Template, state: dict[str, Tensor]) -> None:
        self.same({"yunet_weights": state}, tmp_path, template, state)

    def test_the_model_before_its_average(self, tmp_path: Path, template: Template, state: dict[str, Tensor]) -> None:
        average = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
        self.same({"ema": average, "model": state}, tmp_path, template, state)

    @pytest.mark.parametrize(
        "prefixes",
        [("module.",), ("_orig_mod.",), ("module.module.",), ("_orig_mod.module.",), ("module._orig_mod.module.",),
         ("module.", "module.module.", "_orig_mod.", ""), ("model.",), ("module.model._orig_mod.",)],
        ids=str,
    )  # fmt: skip
    def test_prefixes(
        self, tmp_path: Path, template: Template, state: dict[str, Tensor], prefixes: tuple[str, ...]
    ) -> None:
        self.same(reprefixed(state, *prefixes), tmp_path, template, state)

    def test_a_part_that_was_compiled(self, tmp_path: Path, template: Template, state: dict[str, Tensor]) -> None:
        given = {name.replace("backbone.", "backbone._orig_mod."): tensor for name, tensor in state.items()}
        self.same(given, tmp_path, template, state)

    def test_torchs_averaged_model(self, tmp_path: Path, template: Template, state: dict[str, Tensor]) -> None:
        given = {"n_averaged": torch.tensor(3)} | reprefixed(state, "module.")
        self.same(given, tmp_path, template, state)

    def test_without_counters(self, tmp_path: Path, template: Template, state: dict[str, Tensor]) -> None:
        given = {name: tensor for name, tensor in state.items() if "num_batches" not in name}
        self.same({"state_dict": given}, tmp_path, template, state)

    @pytest.mark.parametrize(
        "beside",
        [
            np.float64(0.83), np.int64(7), np.float32(1.5), np.bool_(True), argparse.Namespace(lr=0.1, tags=["a"]),
            types.SimpleNamespace(a=1), pathlib.PurePosixPath("/a/b"), pathlib.PureWindowsPath("c:\\a"), Path("x"),
            collections.defaultdict(list, {"a": [1]}), torch.__version__,
        ],
        ids=lambda value: type(value).__name__,
    )  # fmt: skip
    @pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
    def test_harmless_objects_beside(
        self, tmp_path: Path, template: Template, state: dict[str, Tensor], beside: Any, zipped: bool
    ) -> None:
        path = tmp_path / "a.pth"
        content = {"model": state, "best": beside, "args": {"deep": [beside]}}
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
        assert torch.equal(load_weights(path, template).state_dict[NAME], state[NAME])

    @pytest.mark.parametrize(("value", "wanted"), [(np.float64(0.5), 0.5), (np.int32(-7), -7), (np.bool_(True), True)])
    def test_numpys_numbers_keep_their_value(self, tmp_path: Path, value: Any, wanted: Any) -> None:
        torch.save({"a": value}, tmp_path / "a.pth")
        assert read_torch_file(tmp_path / "a.pth") == {"a": wanted}

    def test_what_safe_loading_refuses_is_named(
        self, tmp_path: Path, template: Template, state: dict[str, Tensor]
    ) -> None:
        text = complaint({"model": state, "scores": np.zeros(3), "config": Checkpoint({}, {})}, tmp_path, template)
        assert "an object of the type numpy._core.multiarray._reconstruct" in text
        assert "torch.save(model.state_dict(), 'weights.pth')" in text
        assert "cut off" not in text

    def test_a_whole_module(self, tmp_path: Path, template: Template) -> None:
        text = complaint(build_model(template), tmp_path, template)
        assert "an object of the type facekit.models.yunet.YuNet" in text

    @pytest.mark.parametrize("how", ["bytearray", "Counter"])
    def test_objects_of_any_size(self, tmp_path: Path, template: Template, how: str) -> None:
        class Bomb:
            def __reduce__(self) -> Any:
                return (bytearray, (1 << 36,)) if how == "bytearray" else (collections.Counter, ("a",))

        assert how in complaint({"model": Bomb()}, tmp_path, template)

    @pytest.mark.parametrize("content", [[], {}, 3, {"a": 1}, {"model": {}}, {"optimizer": {"a": torch.zeros(1)}}])
    def test_no_weights(self, tmp_path: Path, template: Template, content: Any) -> None:
        assert "holds no state_dict of tensors: it" in complaint(content, tmp_path, template)

    def test_safetensors(self, tmp_path: Path, template: Template, state: dict[str, Tensor]) -> None:
        safetensors = pytest.importorskip("safetensors.torch")
        path = tmp_path / "a.safetensors"
        safetensors.save_file(state, path)
        assert torch.equal(load_weights(path, template).state_dict[NAME], state[NAME])
        data = path.read_bytes()
        for bad in (data[:100], data[: len(data) // 2], b"\xff" * 64, b"", data[:8] + b"[" + data[9:]):
            path.write_bytes(bad)
            with pytest.raises(FacekitError, match=r"a\.safetensors: not a safetensors file, or cut off"):
                load_weights(path, template)

    def test_a_bin_of_torchs(self, tmp_path: Path, template: Template, state: dict[str, Tensor]) -> None:
        torch.save(state, tmp_path / "pytorch_model.bin")
        assert torch.equal(load_weights(tmp_path / "pytorch_model.bin", template).state_dict[NAME], state[NAME])


class TestFilesInItsPlace:
    @pytest.mark.parametrize(
        ("data", "expected"),
        [
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "a Git LFS pointer.*git lfs pull"),
            (b"\n<!DOCTYPE html>\n<html><head>", "a web page"),
            (b"<html><body>404", "a web page"),
            (b'<?xml version="1.0"?><Error><Code>NoSuchKey</Code></Error>', "a server's error message"),
            (b"\x1f\x8b\x08\x00", "a gzip archive: unpack it first"),
            (b"\x89PNG\r\n\x1a\n", "a PNG picture"),
        ],
    )
    @pytest.mark.parametrize("name", ["a.pth", "a.pt", "a.onnx", "a.xml", "a.bin", "a.safetensors"])
    def test_is_called_what_it_is(self, tmp_path: Path, name: str, data: bytes, expected: str) -> None:
        template = load_template(TEMPLATES_DIR / "scrfd-0.5g" / "template.yaml")
        path = tmp_path / name
        path.write_bytes(data)
        if name.endswith((".xml", ".bin")):
            template = load_template(TEMPLATES_DIR / "face-detection-0200" / "template.yaml")
            path.with_suffix(".bin" if name == "a.xml" else ".xml").write_bytes(data)
        with pytest.raises(FacekitError, match=rf"a\.\w+: is {expected}"):
            load_weights(path, template)

    @pytest.mark.parametrize("kind", ["pipe", "device", "folder", "missing", "no name"])
    def test_no_file(self, tmp_path: Path, template: Template, kind: str) -> None:
        path = tmp_path / "a.pth"
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "folder":
            path.mkdir()
        path = {"device": Path("/dev/zero"), "no name": tmp_path / "a\0.pth"}.get(kind, path)
        with pytest.raises(FacekitError, match=r"is a pipe|is a device|is a folder|no such file|can't be read"):
            load_weights(path, template)

    def test_zip_that_unpacks_to_far_more(self, tmp_path: Path, template: Template) -> None:
        path = tmp_path / "a.pth"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a/data.pkl", pickle.dumps({}, protocol=2))
            archive.writestr("a/data/0", bytes(64 << 20))
        with pytest.raises(FacekitError, match=r"a\.pth: \d+ bytes that unpack to \d+: no checkpoint"):
            load_weights(path, template)

    def test_torchscript(self, tmp_path: Path, template: Template) -> None:
        path = tmp_path / "a.pth"
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)
        with pytest.raises(FacekitError, match=r"a\.pth: is a TorchScript archive"):
            load_weights(path, template)

    def test_a_sound_file_is_never_called_damaged(
        self, tmp_path: Path, template: Template, state: dict[str, Tensor]
    ) -> None:
        buffer = io.BytesIO()
        torch.save({"model": copy.deepcopy(state), "x": np.zeros(2)}, buffer)
        (tmp_path / "a.pth").write_bytes(buffer.getvalue())
        with pytest.raises(FacekitError) as caught:
            load_weights(tmp_path / "a.pth", template)
        assert not isinstance(caught.value, DamagedCheckpointError)
