"""What a target's `write` is given."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from facekit.targets.reading.about import About
from facekit.targets.writing.graph import ExportGraph
from facekit.template import Template


@dataclass(frozen=True)
class GraphOptions:
    """What a user may ask of an ONNX or OpenVINO file."""

    nms: bool = False  # ONNX: suppression inside; the file takes one picture at a time
    half: bool = False  # float16: ONNX computes in it, OpenVINO keeps its weights in it
    opset: int | None = None  # ONNX's; None: the exporter's
    takes_uint8: bool = False  # OpenVINO: (batch, height, width, 3) uint8, as cv2.imread gives


@dataclass(frozen=True)
class Draft:
    """A detector on its way into a format. What `write` makes of it is compared with PyTorch before it is kept."""

    graph: ExportGraph  # on the CPU, contiguous: converters write wrong weights of channels_last ones
    template: Template
    about: About  # goes into the file, or beside it
    onnx: Path | None  # the same graph as ONNX, for targets that are made from it
    options: GraphOptions = field(default_factory=GraphOptions)
