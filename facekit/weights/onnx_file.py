"""An ONNX file looked at before any runtime opens it, by the few fields that can do harm, without loading a library.

Field numbers are those of onnx.proto (onnx.ai), the coding that of protocol buffers.
"""

from __future__ import annotations

import math
import os
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from facekit.base.reading import HEAD_BYTES, read_bytes, shown, stand_in
from facekit.errors import FacekitError

MAX_BYTES = 1 << 30
MAX_ELEMENTS = 1 << 26  # of one tensor that the graph states or asks for
MAX_OPSET = 30  # of ONNX's own operations: newer ones may mean something else
MAX_NODES = 100_000
MAX_DEPTH = 20  # of graphs in graphs
MAX_SIDE = 1 << 14  # of kernels, strides, borders

Entry = tuple[int, Any]  # number and value of a field: a whole number, or the bytes of text or of a message

_SIDES = ("pads", "strides", "kernel_shape", "dilations", "output_padding")
_SHAPES = ("shape", "output_shape")
# Operations whose output is as large as one of their inputs says, and which.
_SIZED_BY = {"ConstantOfShape": 0, "Expand": 1, "Tile": 1, "Upsample": 1, "Pad": 1}
_ENDLESS = ("Loop", "Scan", "SequenceMap")


@dataclass
class OnnxFile:
    """What was seen on the way."""

    path: Path
    metadata: dict[str, str] = field(default_factory=dict)
    external: list[str] = field(default_factory=list)  # names of tensors that lie in other files
    external_files: set[Path] = field(default_factory=set)  # these files
    nodes: int = 0
    kinds: set[str] = field(default_factory=set)  # of the nodes, such as Conv
    inputs: list[tuple[int, list[int | None]]] = field(default_factory=list)  # type (1: float32) and sides; None: free

    def refusal(self, name: str, problem: str) -> FacekitError:
        """The complaint about a node or a tensor."""
        return FacekitError(f"{self.path}: {shown(name) or 'a tensor'}: {problem}")


def check_onnx_file(path: Path) -> OnnxFile:
    """Raises FacekitError, in one line, for a file that is no ONNX model, whose tensors lie where they must not, or
    that asks for absurdly much memory. Files beside it are measured, never opened."""
    data = read_bytes(path, MAX_BYTES, "Check the path.")
    if (what := stand_in(data[:HEAD_BYTES])) is not None:
        raise FacekitError(f"{path}: is {what}.")
    found = OnnxFile(path)
    has_graph = False
    try:
        for number, value in _entries(memoryview(data)):
            if number == 7:
                _check_graph(_entries(value), found, {}, 0)
                has_graph = True
            elif number == 25:  # functions
                _check_nodes([item for number, item in _entries(value) if number == 7], found, {}, 0)
            elif number == 8:
                _check_opset(dict(_entries(value)), found)
            elif number == 14:
                pair = dict(_entries(value))
                found.metadata[_text(pair.get(1, b""))] = _text(pair.get(2, b""))
    except (ValueError, TypeError, AttributeError, struct.error) as error:  # a number where a message is due
        raise FacekitError(f"{path}: not an ONNX file, cut off or damaged. Bring the file again.") from error
    if not has_graph:
        raise FacekitError(f"{path}: not an ONNX file, cut off or damaged: it holds no graph. Bring the file again.")
    return found


def _check_opset(entry: dict[int, Any], found: OnnxFile) -> None:
    domain, version = _text(entry.get(1, b"")), _signed(entry.get(2, 0))
    if domain in ("", "ai.onnx") and not 1 <= version <= MAX_OPSET:
        raise FacekitError(f"{found.path}: of opset {version}, expected 1 to {MAX_OPSET}. Export it again.")


def _entries(data: memoryview) -> Iterator[Entry]:
    """The fields of a message. Raises ValueError for bytes that are none."""
    at, end = 0, len(data)
    while at < end:
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield number, value
        elif kind == 2:
            length, at = _varint(data, at)
            if length > end - at:
                raise ValueError("cut off")
            yield number, data[at : at + length]
            at += length
        elif kind in (1, 5):
            width = 8 if kind == 1 else 4
            if width > end - at:
                raise ValueError("cut off")
            yield number, data[at : at + width]
            at += width
        else:
            raise ValueError(f"no kind of field: {kind}")


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError("cut off")
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _integers(values: list[Any], most: int = 64) -> list[int]:
    """Repeated whole numbers, packed or not; the first ones."""
    found: list[int] = []
    for value in values:
        if isinstance(value, int):
            found.append(_signed(value))
            continue
        at = 0
        while at < len(value) and len(found) < most:
            number, at = _varint(value, at)
            found.append(_signed(number))
    return found[:most]


def _text(value: Any) -> str:
    return bytes(value).decode("utf-8", "replace")


def _grouped(entries: Iterator[Entry]) -> dict[int, list[Any]]:
    groups: dict[int, list[Any]] = {}
    for number, value in entries:
        groups.setdefault(number, []).append(value)
    return groups


def _check_graph(entries: Iterator[Entry], found: OnnxFile, outer: dict[str, list[float]], depth: int) -> None:
    if depth > MAX_DEPTH:
        raise found.refusal("graph", f"graphs in graphs over {MAX_DEPTH} deep.")
    graph, known = _grouped(entries), dict(outer)
    for tensor in graph.get(5, []):
        _check_tensor(tensor, found, known)
    for sparse in graph.get(15, []):
        _check_sparse(sparse, found, known)
    for number in (11, 12, 13):  # inputs, outputs, values between
        for declared in graph.get(number, []):
            name, kind, sides = _check_declared(declared, found)
            if number == 11 and depth == 0 and name not in known:
                found.inputs.append((kind, sides))
    _check_nodes(graph.get(1, []), found, known, depth)


def _check_declared(entry: Any, found: OnnxFile) -> tuple[str, int, list[int | None]]:
    """The name, type and shape of an input or an output that the graph states."""
    value = dict(_entries(entry))
    tensor = dict(_entries(dict(_entries(value.get(2, memoryview(b"")))).get(1, memoryview(b""))))
    shape = [item for number, item in _entries(tensor.get(2, memoryview(b""))) if number == 1]
    stated = [dict(_entries(side)).get(1) for side in shape]
    sides = [None if side is None else _signed(side) for side in stated]
    name = _text(value.get(1, b""))
    if math.prod(max(side or 1, 1) for side in sides) > MAX_ELEMENTS:
        raise found.refusal(name, f"of the shape {sides}, more than {MAX_ELEMENTS} elements.")
    return name, tensor.get(1, 0), [None if side is None or side <= 0 else side for side in sides]


def _check_tensor(entry: Any, found: OnnxFile, known: dict[str, list[float]]) -> list[float]:
    """Returns the first values of a small one of whole numbers or floats."""
    tensor = _grouped(_entries(entry))
    name = _text(tensor.get(8, [b""])[-1])
    sides = _integers(tensor.get(1, []))
    if any(side < 0 for side in sides) or math.prod(sides) > MAX_ELEMENTS:
        raise found.refusal(name, f"of the shape {sides}, expected at most {MAX_ELEMENTS} elements.")
    count = math.prod(sides)
    if tensor.get(14, [0])[-1] == 1 or 13 in tensor:
        pairs = [dict(_entries(item)) for item in tensor.get(13, [])]
        _check_external({_text(pair.get(1, b"")): _text(pair.get(2, b"")) for pair in pairs}, name, found)
        return []
    given = sum(
        len(part) if not isinstance(part, int) else 1 for n in (4, 5, 6, 7, 9, 10, 11) for part in tensor.get(n, [])
    )
    if count > 2 * given:  # two values of four bits share a byte
        raise found.refusal(name, f"of the shape {sides}, with {given} bytes of values.")
    values = _first_values(tensor, tensor.get(2, [0])[-1]) if count <= 64 else []
    known[name] = values
    return values


def _first_values(tensor: dict[int, list[Any]], dtype: int) -> list[float]:
    raw = b"".join(bytes(part) for part in tensor.get(9, []))[:512]
    kinds = {7: ("q", 8), 6: ("i", 4), 1: ("f", 4), 11: ("d", 8)}
    if raw and dtype in kinds:
        letter, width = kinds[dtype]
        return [
            float(value) for value in struct.unpack(f"<{len(raw) // width}{letter}", raw[: len(raw) // width * width])
        ]
    floats = b"".join(bytes(part) for part in tensor.get(4, []))[:256]
    if floats:
        return list(struct.unpack(f"<{len(floats) // 4}f", floats[: len(floats) // 4 * 4]))
    return [float(value) for value in _integers([*tensor.get(7, []), *tensor.get(5, [])])]


def _check_sparse(entry: Any, found: OnnxFile, known: dict[str, list[float]]) -> None:
    sparse = _grouped(_entries(entry))
    for tensor in (*sparse.get(1, []), *sparse.get(2, [])):
        _check_tensor(tensor, found, known)
    sides = _integers(sparse.get(3, []))
    if any(side < 0 for side in sides) or math.prod(sides) > MAX_ELEMENTS:
        raise found.refusal("a sparse tensor", f"of the shape {sides}, expected at most {MAX_ELEMENTS} elements.")


def _check_nodes(nodes: list[Any], found: OnnxFile, known: dict[str, list[float]], depth: int) -> None:
    found.nodes += len(nodes)
    if found.nodes > MAX_NODES:
        raise FacekitError(f"{found.path}: over {MAX_NODES} nodes, too many for a face detector.")
    for entry in nodes:
        node = _grouped(_entries(entry))
        inputs, outputs = ([_text(item) for item in node.get(number, [])] for number in (1, 2))
        kind = _text(node.get(4, [b""])[-1])
        found.kinds.add(kind)
        name = _text(node.get(3, [b""])[-1]) or (outputs[0] if outputs else kind)
        if kind in _ENDLESS:
            raise found.refusal(name, f"a {kind}, which may never end. Export the network without its post-processing.")
        for attribute in node.get(5, []):
            values = _check_attribute(_grouped(_entries(attribute)), name, found, known, depth)
            if kind == "Constant" and outputs and values:
                known[outputs[0]] = values
        _check_size(kind, name, [known.get(each) for each in inputs], found)


def _check_attribute(
    attribute: dict[int, list[Any]], node: str, found: OnnxFile, known: dict[str, list[float]], depth: int
) -> list[float]:
    """Returns the values of a constant."""
    name, values = _text(attribute.get(1, [b""])[-1]), list[float]()
    for tensor in (*attribute.get(5, []), *attribute.get(10, [])):
        values = _check_tensor(tensor, found, dict(known))
    for sparse in (*attribute.get(22, []), *attribute.get(23, [])):
        _check_sparse(sparse, found, dict(known))
    for graph in (*attribute.get(6, []), *attribute.get(11, [])):
        _check_graph(_entries(graph), found, known, depth + 1)
    integers = _integers(attribute.get(8, []))
    if name in _SIDES and any(abs(value) > MAX_SIDE for value in integers):
        raise found.refusal(node, f"{name} {integers[:8]}, expected at most {MAX_SIDE}.")
    if name in _SHAPES and math.prod(max(1, value) for value in integers) > MAX_ELEMENTS:
        raise found.refusal(node, f"{name} {integers[:8]}, more than {MAX_ELEMENTS} elements.")
    if name == "value_ints":
        return [float(value) for value in integers]
    return values


def _check_size(kind: str, node: str, inputs: list[list[float] | None], found: OnnxFile) -> None:
    """How much an operation asks for whose size is a constant."""
    asked = 0.0
    if kind == "Range" and len(inputs) == 3 and all(inputs):
        start, limit, step = (float((values or [0])[0]) for values in inputs)
        asked = abs(limit - start) / abs(step) if step else math.inf
    elif kind == "OneHot" and len(inputs) > 1 and inputs[1]:
        asked = inputs[1][0]
    elif kind == "Resize":
        asked = max((math.prod(max(1.0, value) for value in values) for values in inputs[2:] if values), default=0)
    elif kind in _SIZED_BY and len(inputs) > _SIZED_BY[kind]:
        values = inputs[_SIZED_BY[kind]] or []
        asked = sum(map(abs, values)) ** 2 if kind == "Pad" else math.prod(max(1.0, abs(value)) for value in values)
    if not asked <= MAX_ELEMENTS:
        raise found.refusal(node, f"{kind} asks for {asked:.4g} elements, expected at most {MAX_ELEMENTS}.")


def _check_external(where: dict[str, str], name: str, found: OnnxFile) -> None:
    """That the file beside the model lies beside it, is a file, and as long as is said."""
    location = where.get("location", "")
    parts = PurePosixPath(location).parts
    if (
        not parts
        or location.startswith("/")
        or ".." in parts
        or "\\" in location
        or "\0" in location
        or PureWindowsPath(location).drive
    ):
        raise found.refusal(name, f"its values lie in {shown(location)!r}, outside the model's folder: not opened.")
    path = found.path.parent
    for part in parts:
        path = path / part
        try:
            status = os.lstat(path)
        except OSError as error:
            raise found.refusal(name, f"its values lie in {shown(location)!r}, which is missing.") from error
        if stat.S_ISLNK(status.st_mode):
            raise found.refusal(name, f"its values lie behind the link {shown(location)!r}: not opened.")
    if not stat.S_ISREG(status.st_mode):
        raise found.refusal(name, f"its values lie in {shown(location)!r}, which is no file: not opened.")
    numbers = [where.get(key, "0") for key in ("offset", "length")]
    if not all(number.isascii() and number.isdigit() and len(number) < 19 for number in numbers):
        raise found.refusal(name, "its values lie at no place that can be read.")
    if sum(map(int, numbers)) > min(status.st_size, MAX_BYTES):
        raise found.refusal(name, f"its values end behind the end of {shown(location)!r} ({status.st_size} bytes).")
    found.external.append(name)
    found.external_files.add(path)
