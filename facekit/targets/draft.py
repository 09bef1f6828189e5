"""What a target's `write` is given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from facekit.targets.about import About
from facekit.targets.graph import ExportGraph
from facekit.template import Template


@dataclass(frozen=True)
class Draft:
    """A detector on its way into a format. What `write` makes of it is compared with PyTorch before it is kept."""

    graph: ExportGraph  # on the CPU, contiguous: converters write wrong weights of channels_last ones
    template: Template
    about: About  # goes into the file, or beside it
    onnx: Path | None  # the same graph as ONNX, for targets that are made from it
