"""ONNX and IR files looked at before a runtime opens them, and the template that weights name."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from facekit.errors import FacekitError
from facekit.template import TEMPLATES_DIR
from facekit.weights.identify import template_of_weights
from facekit.weights.ir_file import check_ir_files
from facekit.weights.onnx_file import MAX_ELEMENTS, check_onnx_file


def model(nodes: list[Any], initializers: list[Any] | None = None, shape: tuple[int, ...] = (1, 3, 32, 32)) -> Any:
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", [given], [result], initializer=initializers or [])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])


def plain() -> Any:
    weight = numpy_helper.from_array(np.zeros((4, 3, 3, 3), np.float32), "w")
    return model([helper.make_node("Conv", ["x", "w"], ["y"], name="first")], [weight])


def onnx_complaint(folder: Path, content: Any) -> str:
    path = folder / "a.onnx"
    path.write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
    start = time.monotonic()
    with pytest.raises(FacekitError) as caught:
        check_onnx_file(path)
    assert time.monotonic() - start < 5
    text = str(caught.value)
    assert text.startswith(f"{path}: ") and "\n" not in text
    return text


def external(location: str, offset: str = "0", length: str = "432") -> Any:
    content = plain()
    tensor = content.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return content


class TestExternalData:
    @pytest.mark.parametrize(
        "location",
        ["../w.bin", "a/../../w.bin", "/etc/passwd", "/dev/zero", "..", "", "C:\\w.bin", "..\\w.bin", "C:w.bin"],
    )
    def test_outside(self, tmp_path: Path, location: str) -> None:
        (tmp_path.parent / "w.bin").write_bytes(bytes(432))
        assert "w: its values lie in '" in (text := onnx_complaint(tmp_path, external(location)))
        assert "outside the model's folder: not opened" in text

    @pytest.mark.parametrize("kind", ["link", "link to a folder", "pipe", "folder", "missing"])
    def test_no_file(self, tmp_path: Path, kind: str) -> None:
        (tmp_path / "sound").mkdir()
        (tmp_path / "sound" / "w.bin").write_bytes(bytes(432))
        location = "w.bin"
        if kind == "link":
            (tmp_path / "w.bin").symlink_to(tmp_path / "sound" / "w.bin")
        elif kind == "link to a folder":
            (tmp_path / "there").symlink_to(tmp_path / "sound")
            location = "there/w.bin"
        elif kind == "pipe":
            os.mkfifo(tmp_path / "w.bin")  # opening it would wait without end
        elif kind == "folder":
            (tmp_path / "w.bin").mkdir()
        text = onnx_complaint(tmp_path, external(location))
        assert "behind the link" in text or "which is no file" in text or "which is missing" in text

    @pytest.mark.parametrize(
        ("offset", "length"), [("0", "433"), ("1", "432"), ("0", "9" * 18), ("-1", "1"), ("0", "9" * 5000)]
    )
    def test_past_the_end(self, tmp_path: Path, offset: str, length: str) -> None:
        (tmp_path / "w.bin").write_bytes(bytes(432))
        text = onnx_complaint(tmp_path, external("w.bin", offset, length))
        assert "end behind the end of 'w.bin' (432 bytes)" in text or "at no place that can be read" in text

    def test_beside_the_model(self, tmp_path: Path) -> None:
        (tmp_path / "parts").mkdir()
        (tmp_path / "parts" / "w.bin").write_bytes(bytes(432))
        (tmp_path / "a.onnx").write_bytes(external("parts/w.bin").SerializeToString())
        assert check_onnx_file(tmp_path / "a.onnx").external == ["w"]

    @pytest.mark.parametrize("where", ["constant", "graph in a node"])
    def test_wherever_tensors_stand(self, tmp_path: Path, where: str) -> None:
        tensor = external("/etc/passwd").graph.initializer[0]
        node = helper.make_node("Constant", [], ["c"], value=tensor)
        if where == "graph in a node":
            inner = helper.make_graph(
                [node], "inner", [], [helper.make_tensor_value_info("c", TensorProto.FLOAT, None)]
            )
            node = helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner)
        assert "not opened" in onnx_complaint(tmp_path, model([node]))


def constant(name: str, *values: float) -> Any:
    return numpy_helper.from_array(np.array(values, np.int64 if isinstance(values[0], int) else np.float32), name)


BOMBS = {
    "constant of shape": model(
        [helper.make_node("ConstantOfShape", ["s"], ["y"], name="n")], [constant("s", 50_000, 100_000)]
    ),
    "shape from a constant node": model(
        [helper.make_node("Constant", [], ["s"], value=constant("", 1 << 40)),
         helper.make_node("ConstantOfShape", ["s"], ["y"], name="n")]
    ),
    "ints of a constant node": model(
        [helper.make_node("Constant", [], ["s"], value_ints=[1 << 20, 1 << 20]),
         helper.make_node("Expand", ["x", "s"], ["y"], name="n")]
    ),
    "expand": model([helper.make_node("Expand", ["x", "s"], ["y"], name="n")], [constant("s", 1 << 20, 1 << 10)]),
    "tile": model([helper.make_node("Tile", ["x", "s"], ["y"], name="n")], [constant("s", 1, 1, 1 << 14, 1 << 14)]),
    "range": model(
        [helper.make_node("Range", ["a", "b", "c"], ["y"], name="n")],
        [constant("a", 0), constant("b", 1 << 40), constant("c", 1)],
    ),
    "resize": model(
        [helper.make_node("Resize", ["x", "", "s"], ["y"], name="n")], [constant("s", 1.0, 1.0, 1e5, 1e5)]
    ),
    "pad": model(
        [helper.make_node("Pad", ["x", "s"], ["y"], name="n")], [constant("s", 0, 0, 0, 0, 0, 0, 50_000, 50_000)]
    ),
    "one hot": model(
        [helper.make_node("OneHot", ["x", "d", "v"], ["y"], name="n")], [constant("d", 1 << 40), constant("v", 0, 1)]
    ),
    "pads of a convolution": model(
        [helper.make_node("Conv", ["x", "w"], ["y"], name="n", pads=[1 << 30] * 4)], [constant("w", 0.0)]
    ),
    "random": model([helper.make_node("RandomNormal", [], ["y"], name="n", shape=[1 << 20, 1 << 20])]),
}  # fmt: skip


class TestOnnxBombs:
    @pytest.mark.parametrize("kind", BOMBS)
    def test_refused_by_the_nodes_name(self, tmp_path: Path, kind: str) -> None:
        assert ": n: " in onnx_complaint(tmp_path, BOMBS[kind])

    def test_input(self, tmp_path: Path) -> None:
        assert f"x: of the shape [1, 3, 100000, 100000], more than {MAX_ELEMENTS}" in onnx_complaint(
            tmp_path, model([helper.make_node("Relu", ["x"], ["y"])], shape=(1, 3, 100_000, 100_000))
        )

    @pytest.mark.parametrize("dims", [[1 << 40], [1 << 20, 1 << 20], [-1], [1 << 62] * 9, [1000]])
    def test_tensor_larger_than_its_values(self, tmp_path: Path, dims: list[int]) -> None:
        content = plain()
        content.graph.initializer[0].dims[:] = dims
        assert ": w: of the shape [" in onnx_complaint(tmp_path, content)

    @pytest.mark.parametrize("kind", ["Loop", "Scan"])
    def test_what_may_never_end(self, tmp_path: Path, kind: str) -> None:
        inner = helper.make_graph([], "inner", [], [])
        node = helper.make_node(kind, ["x"], ["y"], name="n", body=inner)
        assert f"n: a {kind}, which may never end" in onnx_complaint(tmp_path, model([node]))

    @pytest.mark.parametrize(
        "data", [b"", b"\xff" * 100, b"hello", b"\x08\x07", b"\x3a" + b"\xff" * 8 + b"\x7f", b"\x38\x01", b"PK\x03\x04"]
    )
    def test_no_onnx(self, tmp_path: Path, data: bytes) -> None:
        assert "not an ONNX file, cut off or damaged" in onnx_complaint(tmp_path, data)

    def test_cut_off(self, tmp_path: Path) -> None:
        data = plain().SerializeToString()
        path = tmp_path / "a.onnx"
        for length in range(0, len(data), 7):
            path.write_bytes(data[:length])
            try:  # protocol buffers have no end of their own: where a field ends, a shorter file is a file
                check_onnx_file(path)
            except FacekitError as error:
                assert "cut off or damaged" in str(error)

    def test_published_ones_pass(self, shared_dir: Path) -> None:
        files = sorted((shared_dir / "weights").rglob("*.onnx"))
        assert len(files) >= 8
        for path in files:
            assert check_onnx_file(path).nodes == len(onnx.load(path).graph.node)


LAYER = '<layer name="c" type="Const"><data element_type="f32" offset="0" size="8"/><output>{}</output></layer>'
PORT = '<port id="0"><dim>2</dim></port>'


def ir(folder: Path, layers: str, before: str = "", after: str = "", data: bytes = bytes(8)) -> Path:
    (folder / "a.xml").write_text(f'<?xml version="1.0"?>{before}<net><layers>{layers}</layers>{after}</net>')
    (folder / "a.bin").write_bytes(data)
    return folder / "a.xml"


class TestIr:
    def complaint(self, path: Path) -> str:
        with pytest.raises(FacekitError) as caught:
            check_ir_files(path)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    def test_good(self, tmp_path: Path) -> None:
        after = '<rt_info><facekit><template value="yunet-n"/></facekit></rt_info>'
        found = check_ir_files(ir(tmp_path, LAYER.format(PORT), after=after).with_suffix(".bin"))
        assert (found.layers, found.template, found.binary_bytes) == (1, "yunet-n", 8)

    @pytest.mark.parametrize(
        "before",
        ['<!DOCTYPE a [<!ENTITY b "c">]>', '<!DOCTYPE a SYSTEM "file:///etc/passwd">', "<!DOCTYPE a>",
         '<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'],
    )  # fmt: skip
    def test_entities(self, tmp_path: Path, before: str) -> None:
        assert "declares entities or a document type" in self.complaint(ir(tmp_path, LAYER.format(PORT), before))

    @pytest.mark.parametrize(
        ("layer", "expected"),
        [
            (LAYER.replace('size="8"', 'size="9"').format(PORT), "c: ends at byte 9 of a.bin, which has 8"),
            (LAYER.replace('offset="0"', 'offset="-1"').format(PORT), "c: offset and size are -1 and 8, expected numb"),
            (LAYER.replace('size="8"', f'size="{"9" * 5000}"').format(PORT), "c: offset and size are 0 and 999"),
            (LAYER.format("<port><dim>100000</dim><dim>100000</dim></port>"), "c: a tensor of the shape [100000, 1000"),
            (LAYER.format(f"<port><dim>{'9' * 5000}</dim></port>"), "c: a side of 999"),
            ('<layer name="l" type="Loop"></layer>', "l: a Loop, which may never end"),
            ("<a>" * 100 + "</a>" * 100, "nested over 60 deep"),
            ("", "it has no layers"),
            ("<layer>", "not an OpenVINO IR that can be read"),
        ],
    )
    def test_refused(self, tmp_path: Path, layer: str, expected: str) -> None:
        assert expected in self.complaint(ir(tmp_path, layer))

    def test_missing_half(self, tmp_path: Path) -> None:
        ir(tmp_path, LAYER.format(PORT))
        (tmp_path / "a.bin").unlink()
        assert "a.bin: there is no such file. Check the path; an OpenVINO IR is a pair" in self.complaint(
            tmp_path / "a.xml"
        )

    def test_pointer(self, tmp_path: Path) -> None:
        ir(tmp_path, LAYER.format(PORT), data=b"version https://git-lfs.github.com/spec/v1\n")
        assert "a.bin: is a Git LFS pointer" in self.complaint(tmp_path / "a.xml")

    def test_published_ones_pass(self, shared_dir: Path) -> None:
        files = sorted((shared_dir / "weights" / "openvino").glob("*.xml"))
        assert len(files) >= 6
        for path in files:
            assert check_ir_files(path).layers > 100


class TestTemplateOfWeights:
    def test_onnx(self, tmp_path: Path) -> None:
        content = plain()
        helper.set_model_props(content, {"facekit_template": "yunet-s"})
        (tmp_path / "a.onnx").write_bytes(content.SerializeToString())
        assert template_of_weights(tmp_path / "a.onnx") == "yunet-s"

    def test_onnx_of_others(self, tmp_path: Path) -> None:
        (tmp_path / "a.onnx").write_bytes(plain().SerializeToString())
        assert template_of_weights(tmp_path / "a.onnx") is None

    @pytest.mark.parametrize("name", ["a.xml", "a.bin"])
    def test_ir(self, tmp_path: Path, name: str) -> None:
        ir(tmp_path, LAYER.format(PORT), after='<rt_info><facekit><template value="yunet-n"/></facekit></rt_info>')
        assert template_of_weights(tmp_path / name) == "yunet-n"

    def test_checkpoint(self) -> None:
        assert template_of_weights(TEMPLATES_DIR / "yunet-n" / "facekit.pth") == "yunet-n"

    def test_published(self, shared_dir: Path) -> None:
        weights = shared_dir / "weights"
        assert template_of_weights(weights / "yunet" / "yunet_s.pth") == "yunet-s"
        assert template_of_weights(weights / "openvino" / "face-detection-0202.xml") == "face-detection-0202"
        assert template_of_weights(weights / "openvino" / "face-detection-0202.bin") == "face-detection-0202"

    def test_without_torch(self, tmp_path: Path) -> None:
        (tmp_path / "a.onnx").write_bytes(plain().SerializeToString())
        ir(tmp_path, LAYER.format(PORT))
        code = (
            "import sys; from pathlib import Path; from facekit.weights.identify import template_of_weights as f\n"
            "f(Path('a.onnx')); f(Path('a.xml')); assert not {'torch', 'onnx', 'openvino'} & set(sys.modules)"
        )
        project = Path(__file__).resolve().parents[2]
        subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(project)}, check=True
        )
