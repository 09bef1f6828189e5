"""What a template's network costs, as a table."""

from __future__ import annotations

import re
from collections.abc import Sequence

from facekit.errors import FacekitError
from facekit.models import build_model
from facekit.ops.complexity import COUNTED, LayerCost, layer_costs
from facekit.template import Template

LONGEST_SIDE = 4096  # counting runs the network, which beyond this takes many GB


def parse_size(text: str) -> tuple[int, int]:
    """WIDTHxHEIGHT in pixels -> (height, width). Raises ValueError for anything else."""
    match = re.fullmatch(r"([0-9]{1,9})[xX]([0-9]{1,9})", text)
    if match is None or not all(1 <= int(side) <= LONGEST_SIDE for side in match.groups()):
        raise ValueError(f"{text!r} is no size; give WIDTHxHEIGHT, sides of 1 to {LONGEST_SIDE} pixels, as in 640x480.")
    return int(match[2]), int(match[1])


def template_costs(template: Template, size_hw: tuple[int, int]) -> list[LayerCost]:
    """The template's network, a row a layer. Raises FacekitError where it can't take pictures of that size."""
    network = build_model(template)
    try:
        return layer_costs(network, size_hw)
    except (RuntimeError, ValueError) as error:
        own = _size_text(template.input.size_hw)
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise FacekitError(
            f"{template.name}: its network can't take {_size_text(size_hw)} pictures ({reason}). The template's own "
            f"size is {own}; multiples of the network's largest stride are safe."
        ) from error


def format_costs(rows: Sequence[LayerCost], size_hw: tuple[int, int], per_layer: bool) -> str:
    """The totals, below a table with a line a layer if asked for."""
    parameters, macs = sum(row.parameters for row in rows), sum(row.macs for row in rows)
    totals = [
        f"input:   {_size_text(size_hw)}, one picture",
        f"params:  {parameters:,} ({parameters / 1e6:.3f} M)",
        f"MACs:    {macs / 1e9:.4f} G",
        f"GFLOPs:  {2 * macs / 1e9:.4f} (2 x MACs)",
        f"counted: {COUNTED}",
    ]
    return "\n".join([*_table(rows), "", *totals] if per_layer else totals)


def _table(rows: Sequence[LayerCost]) -> list[str]:
    cells = [("layer", "kind", "output", "params", "MMACs")]
    for row in rows:
        output = "x".join(map(str, row.output_shape)) or "-"
        cells.append((row.name or "(network)", row.kind, output, f"{row.parameters:,}", f"{row.macs / 1e6:,.3f}"))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    aligned = [
        "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(line, "<<<>>", widths, strict=True))
        for line in cells
    ]
    return [aligned[0], "-" * len(aligned[0]), *aligned[1:]]


def _size_text(size_hw: tuple[int, int]) -> str:
    return f"{size_hw[1]}x{size_hw[0]}"
