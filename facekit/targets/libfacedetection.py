"""libfacedetection's facedetectcnn-data.cpp (github.com/ShiqiYu/libfacedetection): YuNet's weights as C arrays, batch
norm folded in, three significant digits, and the table of convolutions that its forward pass walks through."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from facekit import __version__
from facekit.base.files import write_text
from facekit.base.reading import read_text
from facekit.errors import FacekitError
from facekit.template import Template

if TYPE_CHECKING:
    from torch import nn

    from facekit.models.yunet import YuNet
    from facekit.targets.writing.draft import Draft
    from facekit.targets.writing.folding import Convolution

OWN_ROWS = 53  # NUM_CONV_LAYER of libfacedetection itself, whose network is yunet-s
STEM_INPUTS = 32  # 27 of 3x3 pixels' three channels, and zeros
NUMBERS_A_LINE = 12
MAX_BYTES = 1 << 27


@dataclass(frozen=True)
class Row:
    """One convolution of the table. Weights lie as [output][input] where it is pointwise, as the stem is, whose inputs
    are [3 x row + column][B, G, R]; as [3 x row + column][channel] where it is depthwise."""

    name: str
    channels: int  # of the input
    filters: int  # of the output
    depthwise: bool
    relu: bool
    weights: NDArray[np.float32]  # (n,)
    biases: NDArray[np.float32]  # (filters,)


def rows_of(network: YuNet) -> list[Row]:
    """The table in libfacedetection's order: backbone, neck, shared units if any, then class, box, objectness and
    points of the three levels in turn."""
    from facekit.targets.writing.folding import fold, yunet_unit

    stem = network.get_submodule("backbone.model0")
    first = fold("backbone.model0.conv1", cast("nn.Module", stem.conv1), cast("nn.Module", stem.bn1), relu=True)

    def rows() -> Iterator[Row]:
        yield _stem_row(first)
        yield from _unit_rows("backbone__model0_dp", *yunet_unit(network, "backbone.model0.conv2"))
        for stage in range(1, 6):
            for place in (1, 2):
                unit = yunet_unit(network, f"backbone.model{stage}.conv{place}")
                yield from _unit_rows(f"backbone__model{stage}_dp{place}", *unit)
        levels = range(len(network.head.strides))
        shared = len(cast("nn.Sequential", network.bbox_head.multi_level_share_convs[0]))
        modules = [f"neck.lateral_convs.{level}" for level in levels]
        modules += [f"bbox_head.multi_level_share_convs.{level}.{place}" for level in levels for place in range(shared)]
        modules += [
            f"bbox_head.multi_level_{kind}.{level}" for kind in ("cls", "bbox", "obj", "kps") for level in levels
        ]
        for module in modules:
            yield from _unit_rows(module.replace(".", "__"), *yunet_unit(network, module))

    return list(rows())


def _stem_row(stem: Convolution) -> Row:
    filters = len(stem.bias)
    inputs = np.zeros((filters, STEM_INPUTS), dtype=np.float32)
    inputs[:, :27] = stem.weight.transpose(0, 2, 3, 1).reshape(filters, 27)
    return Row("backbone__model0_pw", STEM_INPUTS, filters, False, True, inputs.reshape(-1), stem.bias)


def _unit_rows(name: str, pointwise: Convolution, depthwise: Convolution) -> tuple[Row, Row]:
    filters, channels = pointwise.weight.shape[:2]
    taps = depthwise.weight.reshape(filters, 9).T
    return (
        Row(f"{name}_pw", channels, filters, False, False, pointwise.weight.reshape(-1), pointwise.bias),
        Row(f"{name}_dw", filters, filters, True, depthwise.relu, taps.reshape(-1), depthwise.bias),
    )


def data_text(rows: list[Row], template: Template) -> str:
    """The file."""
    lines = [f"// Weights of {template.name}, written by facekit {__version__}."]
    lines += [*(f"// {line}" for line in _needs(rows)), '#include "facedetectcnn.h"', ""]
    for row in rows:
        for kind, values in (("weight", row.weights), ("bias", row.biases)):
            texts = list(map(_number, values.tolist()))
            lines.append(f"float {row.name}_{kind}[{len(texts)}] = {{")
            lines += [", ".join(texts[at : at + NUMBERS_A_LINE]) + "," for at in range(0, len(texts), NUMBERS_A_LINE)]
            lines.append("};")
    lines += ["", f"ConvInfoStruct param_pConvInfo[{len(rows)}] = {{"]
    lines += [f"    {{{row.channels}, {row.filters}, {_bool(row.depthwise)}, {_bool(not row.depthwise)}, "
              f"{_bool(row.relu)}, {row.name}_weight, {row.name}_bias}}," for row in rows]  # fmt: skip
    return "\n".join([*lines, "};", ""])


def _needs(rows: list[Row]) -> list[str]:
    """What libfacedetection must do to run the table, a sentence a line."""
    if len(rows) == OWN_ROWS:
        return ["It takes the place of libfacedetection's own src/facedetectcnn-data.cpp; nothing else changes."]
    heads = len(rows) - 24
    shared = f"rows {OWN_ROWS - 24} to {heads - 1}, level 8, 16, 32: pointwise, then depthwise with ReLU"
    return [
        f"It has {len(rows)} convolutions, libfacedetection's own network {OWN_ROWS}, so two places there must change.",
        f"src/facedetectcnn.h: NUM_CONV_LAYER becomes {len(rows)}.",
        f"objectdetect_cnn: each level that leaves the neck passes its shared units first ({shared}),",
        f"and then class, box, objectness and points, which begin at row {heads}.",
    ]


def readme_text(rows: list[Row], template: Template) -> str:
    """Ten lines beside the file."""
    needs = "\n".join(_needs(rows))
    root = template.evaluation.score_threshold**0.5
    return f"""# facedetectcnn-data.cpp

Weights of {template.name} for [libfacedetection](https://github.com/ShiqiYu/libfacedetection), of three digits.
{needs}

- In: `facedetect_cnn(buffer, bgr, width, height, step)`: rows of blue, green, red bytes.
- Out: a count, then 16 shorts a face: score x 100, x, y, width, height, five points.
- Its score is the root of facekit's: {root:.2f} there is {template.evaluation.score_threshold:g} here.
- It suppresses what overlaps by more than 0.45, and shows no face under a score of 0.2.
- Build it as before: `cmake -B build && cmake --build build`.
"""


def _number(value: float) -> str:
    text = f"{value:.3g}"
    return f"{text}f" if "." in text or "e" in text else f"{text}.f"


def _bool(value: bool) -> str:
    return "true" if value else "false"


_ARRAY = re.compile(r"float (\w{1,200})\[(\d{1,9})\] = \{([^{}]*)\};")
_TABLE = re.compile(r"ConvInfoStruct param_pConvInfo\[(\d{1,4})\] = \{(.*?)\n\};", re.DOTALL)
_ROW = re.compile(r"\{(\d{1,5}), (\d{1,5}), (true|false), (true|false), (true|false), (\w{1,200})_weight, \6_bias\}")


def read_data(path: Path) -> list[Row]:
    """The table of a file of data_text(). Raises FacekitError for anything else."""
    text = read_text(path, MAX_BYTES, "Export it again.")
    try:
        arrays = {}
        for name, count, body in _ARRAY.findall(text):
            arrays[name] = np.array([float(item.rstrip("f")) for item in body.replace("\n", "").split(",")[:-1]])
            if len(arrays[name]) != int(count):
                raise ValueError(f"{name} has {len(arrays[name])} numbers, and says {count}")
        tables = _TABLE.findall(text)
        if len(tables) != 1:
            raise ValueError("expected one table param_pConvInfo")
        rows = [
            Row(name, int(channels), int(filters), depthwise == "true", relu == "true",
                arrays[f"{name}_weight"].astype(np.float32), arrays[f"{name}_bias"].astype(np.float32))
            for channels, filters, depthwise, _, relu, name in _ROW.findall(tables[0][1])
        ]  # fmt: skip
        if len(rows) != int(tables[0][0]):
            raise ValueError(f"the table has {len(rows)} rows, and says {tables[0][0]}")
    except (KeyError, ValueError) as error:
        raise FacekitError(
            f"{path}: not a facedetectcnn-data.cpp that facekit wrote: {error}. Export it again."
        ) from error
    return rows


def write(draft: Draft, path: Path) -> None:
    """Writes facedetectcnn-data.cpp, reads it back, and compares each number with the folded one.

    Raises FacekitError for a template that libfacedetection's forward pass can't feed, and for a file that differs.
    """
    given = draft.template.input
    if any(given.mean) or any(value != 1 for value in given.std) or given.colour_order != "bgr":
        raise FacekitError(
            f"Template {draft.template.name}: libfacedetection feeds raw B, G, R; input.mean, input.std and "
            f"input.colour_order must be 0, 1 and bgr."
        )
    rows = rows_of(cast("YuNet", draft.graph.network))
    path.parent.mkdir(exist_ok=True)
    write_text(path, data_text(rows, draft.template))
    write_text(path.with_name("README.md"), readme_text(rows, draft.template))
    for wanted, got in zip(rows, read_data(path), strict=True):
        same = (wanted.name, wanted.channels, wanted.filters, wanted.depthwise, wanted.relu) == (
            got.name, got.channels, got.filters, got.depthwise, got.relu)  # fmt: skip
        if not same or not all(
            np.allclose(mine, theirs, rtol=5.01e-3, atol=1e-30)
            for mine, theirs in ((wanted.weights, got.weights), (wanted.biases, got.biases))
        ):
            raise FacekitError(f"{path}: {wanted.name} differs from the network's; please report it with the weights.")
