"""An OpenVINO graph as its convolutions: what each computes, and which feeds which."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facekit.base.extras import optional_packages
from facekit.errors import FacekitError
from facekit.template import Template
from facekit.weights.ir_file import check_ir_files

INT64_MIN = -(2**63)  # where ONNX's slice ends that runs backwards through everything

Array = NDArray[np.float32]


@dataclass(frozen=True)
class IrConvolution:
    """A convolution with the batch norm that was folded into it, or the group norm behind it."""

    name: str
    weight: Array  # (O, I / groups, kh, kw)
    bias: Array  # (O,)
    group_norm: tuple[Array, Array] | None  # (O,) scale and (O,) shift
    feeds_on: tuple[str, ...]  # names of the nearest convolutions upstream


@dataclass(frozen=True)
class IrGraph:
    source: Path
    convolutions: dict[str, IrConvolution]  # upstream first
    # What the first convolution sees of BGR pixels 0..255: gain * pixel + offset, its channels turned if reversed.
    input_gain: Array  # (3,), in the convolution's channel order
    input_offset: Array  # (3,)
    is_reversed: bool
    products: list[tuple[tuple[str, ...], tuple[str, ...]]]  # nearest convolutions upstream of both factors

    def consumers(self, convolution: IrConvolution) -> list[IrConvolution]:
        """The convolutions that it feeds directly."""
        return [other for other in self.convolutions.values() if convolution.name in other.feeds_on]


def open_ir(source: Path, template: Template) -> IrGraph:
    """Reads .xml and .bin. Raises FacekitError for files that are missing, damaged, compressed, or take pictures of
    another size than the template's."""
    model = _read_model(source, template)
    convolutions: dict[str, IrConvolution] = {}
    upstream: dict[str, tuple[str, ...]] = {}
    products = []
    gain, offset, is_reversed = np.ones(3, np.float32), np.zeros(3, np.float32), False
    for node in model.get_ordered_ops():
        name, kind = node.get_friendly_name(), node.get_type_name()
        sources = _sources(node)
        above = [upstream.get(each.get_friendly_name(), ()) for each in sources]
        upstream[name] = tuple(dict.fromkeys(each for names in above for each in names))
        if kind == "Multiply" and all(above):
            products.append((above[0], above[1]))
        if kind not in ("Convolution", "GroupConvolution"):
            continue
        weight = _constant(sources[1], source)
        if kind == "GroupConvolution":
            weight = weight.reshape(-1, *weight.shape[2:])
        if not convolutions:
            gain, offset, is_reversed = _preprocessing(sources[0], source)
        weight = np.ascontiguousarray(weight)
        bias = _bias(node, len(weight), source)
        convolutions[name] = IrConvolution(name, weight, bias, _group_norm(node, len(weight), source), upstream[name])
        upstream[name] = (name,)
    return IrGraph(source, convolutions, gain, offset, is_reversed, products)


def _read_model(source: Path, template: Template) -> Any:
    with optional_packages():
        import openvino as ov

    files = check_ir_files(source)
    xml = files.xml
    try:
        model = ov.Core().read_model(xml, files.binary)
    except RuntimeError as error:
        raise FacekitError(f"{xml}: not an OpenVINO IR that can be read, or its .bin is cut off.") from error
    height, width = template.input.size_hw
    shapes = [value.partial_shape for value in model.inputs]
    if len(shapes) != 1 or shapes[0] not in [ov.PartialShape([batch, 3, height, width]) for batch in (1, -1)]:
        takes = " and ".join(str(shape) for shape in shapes) or "nothing"
        raise FacekitError(
            f"{xml}: takes {takes}, template {template.name!r} [1,3,{height},{width}] (batch, channels, h, w): "
            f"another detector's weights."
        )
    return model


def _sources(node: Any) -> list[Any]:
    return [value.get_source_output().get_node() for value in node.inputs()]


def _preprocessing(node: Any, source: Path) -> tuple[Array, Array, bool]:
    """Gain, offset and reversal between the picture and the output of `node`, which feeds the first convolution."""
    gain, offset, is_reversed = np.ones(3, np.float32), np.zeros(3, np.float32), False
    while (kind := node.get_type_name()) != "Parameter":
        sources = _sources(node)
        constants = [_constant(each, source).reshape(-1) for each in sources[1:]]
        lists = [constant.tolist() for constant in constants]
        if kind in ("Multiply", "Add") and len(constants[0]) in (1, 3):
            # Going up: what this node does, it did before all that was seen so far.
            channels = constants[0][::-1] if is_reversed else constants[0]
            if kind == "Multiply":
                gain = gain * channels
            else:
                offset = offset + gain * channels
        elif (kind, lists) in (("Gather", [[2, 1, 0], [1]]), ("Slice", [[-1], [INT64_MIN], [-1], [1]])):
            is_reversed = not is_reversed
        elif kind != "Convert":
            raise FacekitError(
                f"{source}: {node.get_friendly_name()}: does {kind} to the picture, which can't be imported. Give an "
                f"IR that only scales and shifts it and reverses its channels, as those of the Open Model Zoo."
            )
        node = sources[0]
    return gain, offset, is_reversed


def _consumer(node: Any, kind: str) -> Any:
    """The one node of that kind that reads `node`'s output, or None."""
    consumers = [target.get_node() for target in node.output(0).get_target_inputs()]
    return consumers[0] if len(consumers) == 1 and consumers[0].get_type_name() == kind else None


def _bias(node: Any, channels: int, source: Path) -> Array:
    add = _consumer(node, "Add")
    if add is not None:
        bias = _constant(_sources(add)[1], source).reshape(-1)
        if len(bias) == channels:
            return np.ascontiguousarray(bias)
    return np.zeros(channels, dtype=np.float32)


def _group_norm(node: Any, channels: int, source: Path) -> tuple[Array, Array] | None:
    """Scale and shift of a normalisation of each channel by itself (a group a channel), if one follows."""
    norm = _consumer(node, "MVN")
    scaled = norm and _consumer(norm, "Multiply")
    shifted = scaled and _consumer(scaled, "Add")
    if shifted is None:
        return None
    scale, shift = (_constant(_sources(each)[1], source).reshape(-1) for each in (scaled, shifted))
    return (scale, shift) if len(scale) == len(shift) == channels else None


def _constant(node: Any, source: Path) -> Array:
    """The value of a constant behind the conversions that a 16-bit IR puts after it."""
    kind = node.get_type_name()
    if kind == "Constant":
        return np.array(node.data, dtype=np.float32)
    if kind not in ("Convert", "Reshape", "Gather"):
        raise FacekitError(
            f"{source}: {node.get_friendly_name()}: a weight that is computed by {kind}, as in a compressed graph. "
            f"Give the IR that it was made from."
        )
    value = _constant(node.input(0).get_source_output().get_node(), source)
    if kind == "Reshape":
        return value.reshape(tuple(node.output(0).shape))
    if kind == "Gather":
        indices = _constant(node.input(1).get_source_output().get_node(), source).astype(int)
        axis = int(_constant(node.input(2).get_source_output().get_node(), source))
        return np.take(value, indices, axis=axis)
    return value
