"""Which layers are left in float: the heads', in either format."""

from __future__ import annotations

import onnx
import openvino as ov
from onnx import TensorProto, helper

from facekit.detector import BUNDLED_WEIGHTS
from facekit.engine.compress.heads import Node, head_layers, nodes_of_onnx, nodes_of_openvino

YUNETS_HEADS = 4 * 3 * 2  # cls, obj, bbox, kps; three levels; a 1x1 convolution and a 3x3 one behind it


def test_by_hand() -> None:
    nodes = {
        "stem": Node((), (3, 8)),
        "relu": Node(("stem",)),
        "feature": Node(("relu",), (8, 8)),  # few channels, but two heads take from it
        "boxes": Node(("feature",), (8, 4)),
        "point": Node(("feature",), (8, 1)),
        "depth": Node(("point",), (1, 1)),
        "reshaped": Node(("boxes",)),
        "loop": Node(("loop", "reshaped")),
    }
    assert sorted(head_layers(nodes, ["loop", "depth", "absent"])) == ["boxes", "depth", "point"]
    assert head_layers({}, ["absent"]) == []


def test_of_yunet_in_both_formats() -> None:
    model = onnx.load(BUNDLED_WEIGHTS)
    of_onnx = head_layers(*nodes_of_onnx(model))
    assert len(of_onnx) == YUNETS_HEADS
    kernels = {node.name: node.input[1] for node in model.graph.node if node.op_type == "Conv"}
    shapes = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    assert {shapes[kernels[name]][0] for name in of_onnx} == {1, 4, 10}
    of_ir = head_layers(*nodes_of_openvino(ov.convert_model(BUNDLED_WEIGHTS)))
    assert {name.partition("/")[0] for name in of_ir} == set(of_onnx)


def test_nodes_without_names_are_passed() -> None:
    kernel = helper.make_tensor("kernel", TensorProto.FLOAT, [4, 3, 1, 1], [0.0] * 12)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["image", "kernel"], ["maps"]), helper.make_node("Relu", ["maps"], ["out"])],
        "two", [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 4, 8, 8])], [kernel],
    )  # fmt: skip
    assert head_layers(*nodes_of_onnx(helper.make_model(graph))) == []
