"""How large and how costly the network in an .onnx or .xml is, where there is no PyTorch network of it to count.

Multiply-accumulates of convolutions and matrix products alone, by the shapes that OpenVINO works out: the tables' way
(facekit.ops.complexity) but for norms, which files have folded, and activations; these weigh a few per cent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facekit.base.extras import optional_packages
from facekit.errors import FacekitError
from facekit.weights.ir_file import check_ir_files, check_tensor_sizes
from facekit.weights.onnx_file import check_onnx_file

CONVOLUTIONS = ("Convolution", "GroupConvolution")
# Between a constant and the layer that it weighs: other types, other shapes, dequantisation.
PASSED = ("Convert", "Multiply", "Subtract", "Reshape", "FakeQuantize", "Transpose", "Unsqueeze")


@dataclass(frozen=True)
class Complexity:
    """Of one picture."""

    parameters: int  # weights and biases of the layers that count
    macs: int


def file_complexity(path: Path, size_hw: tuple[int, int]) -> Complexity:
    """Counts a graph, fed with one picture of that size where its file leaves that open.

    Raises FacekitError for a file that OpenVINO can't read, or where it isn't installed.
    """
    with optional_packages():
        import openvino as ov
    if path.suffix.lower() == ".onnx":
        check_onnx_file(path)
    else:
        path = path.with_suffix(".xml")
        check_ir_files(path)
    try:
        model = ov.Core().read_model(path)
        check_tensor_sizes(model, path)
        model.reshape([1, 3, *_sides(model.inputs[0].partial_shape, size_hw)])
        return _count(model)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1][:200]
        raise FacekitError(f"{path}: can't be counted: {reason}") from error


def _sides(shape: Any, size_hw: tuple[int, int]) -> list[int]:
    return [
        wanted if shape[axis].is_dynamic else shape[axis].get_length()
        for axis, wanted in zip((2, 3), size_hw, strict=True)
    ]


def _count(model: Any) -> Complexity:
    parameters: dict[str, int] = {}  # by the constant's name: what several layers share counts once
    macs = 0
    for layer in model.get_ordered_ops():
        kind = layer.get_type_name()
        if kind not in (*CONVOLUTIONS, "MatMul"):
            continue
        weights = _constant(layer.input_value(1).get_node())
        if weights is None:
            continue
        elements = math.prod(weights.shape)
        parameters[weights.get_friendly_name()] = elements
        cells = math.prod(layer.output(0).shape[2:]) if kind in CONVOLUTIONS else math.prod(layer.output(0).shape[:-1])
        macs += elements * cells
        for consumer in layer.output(0).get_target_inputs():
            added = consumer.get_node()
            if added.get_type_name() != "Add":
                continue
            bias = _constant(added.input_value(1 - consumer.get_index()).get_node())
            if bias is not None:
                parameters[bias.get_friendly_name()] = math.prod(bias.shape)
                macs += math.prod(layer.output(0).shape)
    return Complexity(sum(parameters.values()), macs)


def _constant(node: Any) -> Any | None:
    """The constant that a layer's input comes from; None where it is worked out of the picture."""
    while node.get_type_name() in PASSED:
        node = node.input_value(0).get_node()
    return node if node.get_type_name() == "Constant" else None
