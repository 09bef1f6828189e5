"""An OpenVINO IR looked at before OpenVINO opens it: an .xml without entities, whose numbers lie within its .bin."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.parsers import expat

from facekit.base.reading import HEAD_BYTES, open_file, read_bytes, shown, stand_in
from facekit.errors import FacekitError

MAX_XML_BYTES = 32 << 20
MAX_BIN_BYTES = 1 << 30
MAX_ELEMENTS = 1 << 26  # of one tensor that the graph states
MAX_LAYERS = 100_000
MAX_DEPTH = 60  # of elements in elements
PAIR = "an OpenVINO IR is a pair of .xml and .bin"
_ENDLESS = ("Loop", "TensorIterator")


@dataclass
class IrFiles:
    """What was seen on the way."""

    xml: Path
    binary: Path
    binary_bytes: int
    layers: int = 0
    template: str | None = None  # that the .xml names, if facekit wrote it
    about: str | None = None  # what it says of itself besides, as JSON
    bin_sha256: str | None = None  # of the .bin that it was written with
    _open: list[str] = field(default_factory=list)  # elements around the current one
    _layer: str = ""
    _dims: list[int] = field(default_factory=list)
    _digits: str = ""


def check_ir_files(source: Path) -> IrFiles:
    """Both files of an IR, given either. Raises FacekitError, in one line, for files that are missing, something else,
    or ask for what isn't there or for absurdly much memory."""
    xml, binary = source.with_suffix(".xml"), source.with_suffix(".bin")
    text = read_bytes(xml, MAX_XML_BYTES, f"Check the path; {PAIR}.")
    if (what := stand_in(text[:HEAD_BYTES])) is not None:
        raise FacekitError(f"{xml}: is {what}.")
    with open_file(binary, MAX_BIN_BYTES, f"Check the path; {PAIR}.") as file:
        head = file.read(HEAD_BYTES)
        size = file.seek(0, 2)
    if (what := stand_in(head)) is not None:
        raise FacekitError(f"{binary}: is {what}.")
    found = IrFiles(xml, binary, size)
    _scan(text, found)
    if not found.layers:
        raise FacekitError(f"{xml}: not an OpenVINO IR that can be read: it has no layers. Bring both files again.")
    return found


def check_tensor_sizes(model: Any, source: Path) -> None:
    """Raises FacekitError for a tensor of absurd size in an ov.Model that was read, and is to be compiled, which works
    out whatever is constant."""
    for operation in model.get_ops():
        for output in operation.outputs():
            shape = output.partial_shape
            if shape.is_static and math.prod(map(int, shape.to_shape())) > MAX_ELEMENTS:
                raise FacekitError(
                    f"{source}: {shown(operation.get_friendly_name())}: a tensor of the shape {shown(shape)}, expected "
                    f"at most {MAX_ELEMENTS} elements."
                )


def _scan(text: bytes, found: IrFiles) -> None:
    parser = expat.ParserCreate()

    def refuse(*_: object) -> None:
        raise FacekitError(f"{found.xml}: declares entities or a document type, which no IR has: not read.")

    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    parser.StartElementHandler = lambda name, attributes: _start(name, attributes, found)
    parser.EndElementHandler = lambda name: _end(name, found)
    parser.CharacterDataHandler = lambda data: _read(data, found)
    try:
        parser.Parse(text, True)
    except (expat.ExpatError, ValueError) as error:
        raise FacekitError(
            f"{found.xml}: not an OpenVINO IR that can be read ({shown(error, 80)}). Bring both files again."
        ) from error


def _refusal(found: IrFiles, problem: str) -> FacekitError:
    return FacekitError(f"{found.xml}: {shown(found._layer) or 'a layer'}: {problem}")


def _start(name: str, attributes: dict[str, str], found: IrFiles) -> None:
    if len(found._open) >= MAX_DEPTH:
        raise FacekitError(f"{found.xml}: nested over {MAX_DEPTH} deep: not an OpenVINO IR.")
    if name == "layer":
        found.layers += 1
        found._layer = attributes.get("name", "")
        if found.layers > MAX_LAYERS:
            raise FacekitError(f"{found.xml}: over {MAX_LAYERS} layers, too many for a face detector.")
        if attributes.get("type") in _ENDLESS:
            raise _refusal(found, f"a {attributes['type']}, which may never end. Export without the post-processing.")
    elif name == "data" and found._open[-1:] == ["layer"]:
        _check_data(attributes, found)
    elif name == "port":
        found._dims = []
    elif name == "dim":
        found._digits = ""
    elif name == "template" and found._open[-2:] == ["rt_info", "facekit"]:
        found.template = attributes.get("value")
    elif name == "about" and found._open[-2:] == ["rt_info", "facekit"]:
        found.about = attributes.get("value")
    elif name == "bin_sha256" and found._open[-2:] == ["rt_info", "facekit"]:
        found.bin_sha256 = attributes.get("value")
    found._open.append(name)


def _end(name: str, found: IrFiles) -> None:
    found._open.pop()
    if name == "dim":
        digits = found._digits.strip()
        if digits.isascii() and digits.isdigit():  # else -1, or a range: any size
            if len(digits) > 12:
                raise _refusal(found, f"a side of {shown(digits, 30)}.")
            found._dims.append(int(digits))
    elif name == "port" and math.prod(max(1, side) for side in found._dims) > MAX_ELEMENTS:
        raise _refusal(found, f"a tensor of the shape {found._dims}, expected at most {MAX_ELEMENTS} elements.")


def _read(data: str, found: IrFiles) -> None:
    if found._open[-1:] == ["dim"] and len(found._digits) < 100:
        found._digits += data


def _check_data(attributes: dict[str, str], found: IrFiles) -> None:
    """That a constant lies within the .bin."""
    if "offset" not in attributes or "size" not in attributes:
        return
    numbers = [attributes[key] for key in ("offset", "size")]
    if not all(number.isascii() and number.isdigit() and len(number) < 19 for number in numbers):
        raise _refusal(found, f"offset and size are {shown(numbers[0])} and {shown(numbers[1])}, expected numbers.")
    end = sum(map(int, numbers))
    if end > found.binary_bytes:
        raise _refusal(
            found,
            f"ends at byte {end} of {found.binary.name}, which has {found.binary_bytes}: cut off, or another .xml's.",
        )
