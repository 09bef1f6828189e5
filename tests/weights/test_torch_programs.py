"""TorchScript and torch.export's programs are code: what is no plain network is refused before PyTorch loads it."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from facekit.errors import FacekitError
from facekit.weights.torch_programs import check_exported_program, check_torchscript

CODE = "class Net(Module):\n  def forward(self: __torch__.Net, image: Tensor) -> Tensor:\n    return {}\n"


class Runs:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("ran"),))


def script(path: Path, **changed: bytes) -> Path:
    """A TorchScript archive by hand; entries' names with / as two underscores, dots as one."""
    entries = {
        "data.pkl": b"\x80\x02N.", "constants.pkl": b"\x80\x02N.", "version": b"3", "byteorder": b"little",
        "code/__torch__.py".replace("__torch__", "__torch__/net"): CODE.format("torch.relu(image)").encode(),
    }  # fmt: skip
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in {**entries, **{NAMES[key]: value for key, value in changed.items()}}.items():
            archive.writestr(f"net/{name}", data)
    return path


NAMES = {
    "data": "data.pkl", "constants": "constants.pkl", "code": "code/__torch__/net.py", "said": "extra/facekit",
    "other": "code/__torch__/../../x.py", "content": "models/model.json",
    "weights": "data/weights/model_weights_config.json",
    "examples": "data/sample_inputs/model.pt",
}  # fmt: skip


def program(path: Path, model: Any = None, **changed: bytes) -> Path:
    content = {"graph_module": {"graph": {"nodes": [{"target": "torch.ops.aten.relu.default"}]}}} | (model or {})
    with zipfile.ZipFile(path, "w") as archive:
        for key, data in {"content": json.dumps(content).encode(), "said": b"{}", **changed}.items():
            archive.writestr(f"net/{NAMES[key]}", data)
    return path


def refused(check: Callable[[Path], Any], path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(path.parent)
    with pytest.raises(FacekitError) as caught:
        check(path)
    assert not (path.parent / "ran").exists()
    message = str(caught.value)
    assert message.startswith(str(path)) and "\n" not in message and len(message) < 500
    return message


def test_plain_ones_pass(tmp_path: Path) -> None:
    assert check_torchscript(script(tmp_path / "a.ts", said=b"{}")) == "{}"
    assert check_torchscript(script(tmp_path / "a.ts")) is None
    assert check_exported_program(program(tmp_path / "a.pt2")) == "{}"


@pytest.mark.parametrize(
    "expression",
    [
        "torch.from_file('x', True, 1)", "torch.save(image, 'x')", "ops.aten.from_file('x')",
        "ops.image.read_file('x')",
        "__import__('os').system('touch ran')", "open('x')", "ops.prim.PythonOp()", "torch.ops.load_library('x')",
        "torch.classes.fb.X()", "(image).forward(image)", "getattr(image, 'x')()", "self.other(image)",
    ],
)  # fmt: skip
def test_code_that_calls_anything_but_operations_of_networks(
    expression: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = script(tmp_path / "a.ts", code=CODE.format(expression).encode())
    assert "which no detector of facekit's does" in refused(check_torchscript, path, monkeypatch)


@pytest.mark.parametrize("key", ["data", "constants"])
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_pickles_that_run_something(key: str, protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = script(tmp_path / "a.ts", **{key: pickle.dumps(Runs(), protocol)})
    assert "could run code" in refused(check_torchscript, path, monkeypatch)


@pytest.mark.parametrize("data", [b"", b"not a pickle", b"\x80\x02}", b"\xff" * 50])
def test_damaged_pickles(data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "damaged" in refused(check_torchscript, script(tmp_path / "a.ts", data=data), monkeypatch)


@pytest.mark.parametrize(
    "changed",
    [
        {"other": b""}, {"code": b"\xff"}, {"code": b"def ("}, {"code": b"(" * 10_000}, {"examples": b"x"},
        {"content": b"{}"},
    ],
)  # fmt: skip
def test_other_entries_of_a_script(changed: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(check_torchscript, script(tmp_path / "a.ts", **changed), monkeypatch)


@pytest.mark.parametrize("check", [check_torchscript, check_exported_program])
class TestArchive:
    def test_zip_bomb(self, check: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with zipfile.ZipFile(tmp_path / "a.ts", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("net/data/0", bytes(64 << 20))
        assert "that unpack to" in refused(check, tmp_path / "a.ts", monkeypatch)

    def test_many_entries(self, check: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with zipfile.ZipFile(tmp_path / "a.ts", "w") as archive:
            for number in range(20_001):
                archive.writestr(f"net/data/{number}", b"")
        assert "20001 entries" in refused(check, tmp_path / "a.ts", monkeypatch)

    def test_no_archive(self, check: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for data in (b"", b"PK\x03\x04", b"\x00" * 100, b"<html>"):
            (tmp_path / "a.ts").write_bytes(data)
            refused(check, tmp_path / "a.ts", monkeypatch)

    def test_twice_the_same_name(self, check: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with zipfile.ZipFile(tmp_path / "a.ts", "w") as archive:
            archive.writestr("net/version", b"1")
            archive.writestr("other/version", b"2")
        refused(check, tmp_path / "a.ts", monkeypatch)

    def test_a_changed_byte(self, check: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = script(tmp_path / "a.ts") if check is check_torchscript else program(tmp_path / "a.ts")
        data = bytearray(path.read_bytes())
        at = data.index(b"relu")
        data[at] ^= 1
        path.write_bytes(data)
        assert "damaged" in refused(check, path, monkeypatch)


@pytest.mark.parametrize(
    "model",
    [
        {"a": {"target": "torch.ops.aten.from_file.default"}}, {"a": {"target": "os.system"}},
        {"a": {"target": "torch.ops.higher_order.cond"}}, {"a": {"target": "_operator.call"}}, {"a": {"target": 7}},
        {"guards_code": ["__import__('os').system('touch ran')"]}, {"a": [{"custom_obj_values": {"x": 1}}]},
        {"treespec_namedtuple_fields": {"os.system": []}}, {"a": {"as_custom_obj": {"name": "x"}}},
        {"a": {"expr_str": "__import__('os').system('touch ran')"}}, {"a": {"expr_str": "exec"}},
        {"a": {"expr_str": "Symbol('s0').__class__"}}, {"a": {"expr_str": ["s0"]}}, {"a": {"expr_str": "s0" * 10_000}},
        {"range_constraints": {"lambda: s0": {}}}, {"a": {"in_spec": '[1, {"type": "os.system"}]'}},
        {"a": {"in_spec": 3}},
    ],
    ids=str,
)  # fmt: skip
def test_programs_that_loading_would_run(
    model: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = program(tmp_path / "a.pt2", model)
    assert "could run code" in refused(check_exported_program, path, monkeypatch)


@pytest.mark.parametrize(
    "changed",
    [
        {"weights": b'{"config": {"w": {"use_pickle": true}}}'}, {"weights": b'{"config": {"w": {"use_pickle": 1}}}'},
        {"examples": pickle.dumps(Runs())}, {"content": b"{"}, {"content": b"[" * 100_000}, {"data": b""},
    ],
)  # fmt: skip
def test_other_entries_of_a_program(changed: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(check_exported_program, program(tmp_path / "a.pt2", **changed), monkeypatch)


def test_a_script_of_somebody_elses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that PyTorch itself wrote, and that reads a file."""

    class Reads(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return image + torch.from_file("/etc/hostname", size=1, dtype=torch.uint8)

    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(Reads()), buffer)
    (tmp_path / "a.ts").write_bytes(buffer.getvalue())
    assert "torch.from_file" in refused(check_torchscript, tmp_path / "a.ts", monkeypatch)
