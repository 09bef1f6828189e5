"""ncnn's .param and .bin looked at before the runtime opens them: it trusts every number in them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

from facekit.base.reading import HEAD_BYTES, open_file, read_bytes, shown, stand_in
from facekit.errors import FacekitError

MAGIC = "7767517"
MAX_PARAM_BYTES = 4 << 20
MAX_BIN_BYTES = 1 << 30
MAX_LAYERS = 10_000
MAX_BLOBS = 64  # that one layer reads or gives
MAX_NUMBER = 1 << 26  # elements, channels, sides
PAIR = "a network is a .param and the .bin of the same name beside it"
AGAIN = "Bring both files again."

# What facekit's own exports are made of. Others are refused: each kind reads the .bin in its own way.
LAYERS = {
    "Input", "Split", "Convolution", "ConvolutionDepthWise", "Pooling", "Interp", "BinaryOp", "UnaryOp", "ReLU",
    "Sigmoid", "Softmax", "Clip", "HardSwish", "HardSigmoid", "Swish", "Concat", "Slice", "Crop", "Reshape", "Permute",
    "Flatten", "ExpandDims", "Squeeze", "MemoryData", "Flip", "GroupNorm", "InnerProduct", "BatchNorm", "Scale", "GLU",
    "Exp", "Reduction", "Noop", "Padding", "Normalize", "Power", "Eltwise", "ShuffleChannel",
}  # fmt: skip


@dataclass(frozen=True)
class NcnnFiles:
    """What was seen."""

    param: Path
    binary: Path
    outputs: int  # blobs out0, out1, ...


def check_ncnn_files(source: Path) -> NcnnFiles:
    """Both files of a network, given either. Raises FacekitError, in one line, for files that are missing, something
    else, cut off, or hold what facekit's exports don't."""
    param, binary = source.with_suffix(".param"), source.with_suffix(".bin")
    data = read_bytes(param, MAX_PARAM_BYTES, f"Check the path; {PAIR}.")
    if (what := stand_in(data[:HEAD_BYTES])) is not None:
        raise FacekitError(f"{param}: is {what}.")
    with open_file(binary, MAX_BIN_BYTES, f"Check the path; {PAIR}.") as file:
        size = file.seek(0, 2)
    lines = data.decode("utf-8", "replace").split("\n")
    if lines[0].strip() != MAGIC:
        raise FacekitError(f"{param}: not an ncnn network: it does not begin with {MAGIC}. {AGAIN}")
    try:
        if lines[-1]:
            raise ValueError("the last line does not end")
        names, expected = _look(lines, param)
    except (ValueError, IndexError) as error:
        raise FacekitError(f"{param}: not an ncnn network that can be read, cut off or damaged. {AGAIN}") from error
    if size != expected:
        raise FacekitError(
            f"{binary}: {size} bytes, {param.name} describes {expected}: cut off, damaged, or another's. {AGAIN}"
        )
    outputs = sum(1 for name in names if name.startswith("out") and name[3:].isdigit())
    if "in0" not in names or any(f"out{number}" not in names for number in range(outputs)) or not outputs:
        raise FacekitError(f"{param}: expected the blobs in0, out0, ... of facekit's exports; export it again.")
    return NcnnFiles(param, binary, outputs)


def _look(lines: list[str], param: Path) -> tuple[set[str], int]:
    """Names of the blobs, and the bytes that the .bin must have."""
    count, blobs = map(int, lines[1].split())
    layers = [line.split() for line in lines[2:] if line.strip()]
    if count != len(layers) or not 0 < count <= MAX_LAYERS:
        raise ValueError("layers")
    names: set[str] = set()
    expected = 0
    for layer in layers:
        kind, reads, gives = layer[0], int(layer[2]), int(layer[3])
        if kind not in LAYERS:
            raise FacekitError(f"{param}: a layer {shown(kind, 40)}, which facekit's exports don't have.")
        if not (0 <= reads <= MAX_BLOBS and 0 <= gives <= MAX_BLOBS):
            raise ValueError("blobs of a layer")
        inputs, outputs = layer[4 : 4 + reads], layer[4 + reads : 4 + reads + gives]
        if len(outputs) != gives or not names.issuperset(inputs) or names.intersection(outputs):
            raise ValueError("blobs")
        names.update(outputs)
        expected += _bytes_of(kind, _numbers(layer[4 + reads + gives :]))
    if len(names) != blobs:
        raise ValueError("count of blobs")
    return names, expected


def _numbers(parts: list[str]) -> dict[int, list[float]]:
    """Parameter -> its values, of which most have one."""
    values: dict[int, list[float]] = {}
    for part in parts:
        key, _, text = part.partition("=")
        number = int(key)
        if re.fullmatch(r'"[0-9whdcn,+*/()-]{1,100}"', text):  # a size worked out of those of inputs: "0h,0n"
            continue
        numbers = [float(item) for item in text.split(",")]
        if number <= -23300:  # a list, whose length stands first
            number, numbers = -number - 23300, numbers[1:]
        if any(not math.isfinite(item) and number != 0 and number != 1 for item in numbers):
            raise ValueError("not finite")
        values[number] = numbers
    return values


def _bytes_of(kind: str, values: dict[int, list[float]]) -> int:
    """That a layer reads of the .bin: ncnn's modelbin, weights in float32 behind a flag of four bytes."""

    def of(number: int, default: int = 0) -> int:
        value = values.get(number, [default])[0]
        if not -1e9 < value < MAX_NUMBER:
            raise ValueError("number")
        return int(value)

    if kind in ("Convolution", "ConvolutionDepthWise"):
        if min(of(0), of(1), of(6)) <= 0 or of(7, 1) < 1:
            raise ValueError("convolution")
        return 4 + 4 * of(6) + 4 * of(0) * (of(5) != 0)
    if kind == "InnerProduct":
        return 4 + 4 * of(2) + 4 * of(0) * (of(1) != 0)
    if kind == "MemoryData":
        sides = [of(number) for number in (0, 1, 11, 2) if number in values]
        elements = math.prod(max(1, side) for side in sides)
        if not 0 < elements <= MAX_NUMBER:
            raise ValueError("constant")
        return 4 * elements + (4 if of(21, 1) == 0 else 0)
    if kind == "GroupNorm":
        return 8 * of(1) * (of(3, 1) != 0)
    if kind == "BatchNorm":
        return 16 * of(0)
    if kind == "ShuffleChannel" and (of(0, 1) < 1 or of(1)):  # ncnn would divide by zero
        raise ValueError("groups")
    if kind == "Scale":
        return 4 * of(0) * (1 + (of(1) != 0))
    return 0
