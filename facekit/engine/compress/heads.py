"""The layers of a graph that say what is found: rounding them moves boxes and landmarks, and gains next to nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

FEW_CHANNELS = 16  # of a layer that is a head's own, and no feature


@dataclass(frozen=True)
class Node:
    """Of a graph of any format."""

    inputs: tuple[str, ...]  # names of the nodes that it takes something from
    channels: tuple[int, int] | None = None  # of a convolution: in all groups together, in and out


def head_layers(nodes: dict[str, Node], outputs: list[str]) -> list[str]:
    """Names of the convolutions behind which none is left, and of those that only serve one of them: that have as few
    channels as it takes and gives (YuNet's heads: 1x1, then 3x3 depthwise)."""
    found: dict[str, None] = {}
    for last in _nearest(nodes, outputs):
        found[last] = None
        takes, gives = nodes[last].channels or (0, 0)
        if takes == gives <= FEW_CHANNELS:
            found.update(dict.fromkeys(_nearest(nodes, list(nodes[last].inputs))))
    return list(found)


def _nearest(nodes: dict[str, Node], starts: list[str]) -> list[str]:
    """The convolutions that are met first on every way back from there."""
    met, seen, waiting = [], set[str](), list(starts)
    while waiting:
        name = waiting.pop()
        if name in seen or name not in nodes:
            continue
        seen.add(name)
        if nodes[name].channels is not None:
            met.append(name)
        else:
            waiting += nodes[name].inputs
    return met


def nodes_of_onnx(model: Any) -> tuple[dict[str, Node], list[str]]:
    """Of an onnx.ModelProto."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    names = [node.name or f"unnamed {place}" for place, node in enumerate(model.graph.node)]
    makers = {output: name for name, node in zip(names, model.graph.node, strict=True) for output in node.output}
    nodes = {}
    for name, node in zip(names, model.graph.node, strict=True):
        channels = None
        if node.op_type == "Conv" and node.name and len(shape := shapes.get(node.input[1], ())) == 4:
            groups = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
            channels = (shape[1] * groups, shape[0])
        nodes[name] = Node(tuple(makers[value] for value in node.input if value in makers), channels)
    return nodes, [makers[value.name] for value in model.graph.output if value.name in makers]


def nodes_of_tflite(network: Any) -> tuple[dict[str, Node], list[str]]:
    """Of an ai_edge_litert.interpreter.Interpreter without delegates, which stand in for the operations that they do. A
    node is called as the tensor that it makes."""
    tensors = {tensor["index"]: tensor for tensor in network.get_tensor_details()}
    operations = network._get_ops_details()
    makers = {place: tensors[made["outputs"][0]]["name"] for made in operations for place in made["outputs"]}
    nodes = {}
    for operation in operations:
        channels = None
        if operation["op_name"] in ("CONV_2D", "DEPTHWISE_CONV_2D"):  # (batch, rows, columns, channels)
            first, made = (tensors[operation[key][0]]["shape"] for key in ("inputs", "outputs"))
            channels = (int(first[-1]), int(made[-1]))
        sources = tuple(makers[place] for place in operation["inputs"] if place in makers)
        nodes[tensors[operation["outputs"][0]]["name"]] = Node(sources, channels)
    return nodes, [makers[value["index"]] for value in network.get_output_details() if value["index"] in makers]


def nodes_of_openvino(model: Any) -> tuple[dict[str, Node], list[str]]:
    """Of an openvino.Model."""
    nodes = {}
    for node in model.get_ops():
        sources = tuple(value.get_source_output().get_node().get_friendly_name() for value in node.inputs())
        channels = None
        if node.get_type_name() in ("Convolution", "GroupConvolution"):
            kernel = [side.get_length() for side in node.input(1).get_partial_shape()]
            is_grouped = node.get_type_name() == "GroupConvolution"  # (groups, out, in, rows, columns)
            groups = kernel.pop(0) if is_grouped else 1
            channels = (groups * kernel[1], groups * kernel[0])
        nodes[node.get_friendly_name()] = Node(sources, channels)
    return nodes, [result.get_friendly_name() for result in model.get_results()]
