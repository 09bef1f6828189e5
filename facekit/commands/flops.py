"""What a template's network costs, as a table."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from facekit.base.options import command_options, option, takes
from facekit.commands.inputs import read_template
from facekit.errors import ArgumentError, FacekitError

if TYPE_CHECKING:
    from facekit.ops.complexity import LayerCost
    from facekit.template import Template

LONGEST_SIDE = 4096  # counting runs the network, which beyond this takes many GB


@command_options
class FlopsOptions:
    """Options of counting."""

    template: str = option("Template name, template.yaml or work dir.", positional=True, kw_only=False, template=True)
    input_size: str | None = option("Pixels of the picture [template's].", default=None, metavar="WxH")
    per_layer: bool = option("A table with a line a layer above the totals.", default=False)


@dataclass(frozen=True)
class Complexity:
    """What a network costs on one picture."""

    layers: list[LayerCost]
    size_hw: tuple[int, int]  # of the picture
    table: str


@takes(FlopsOptions)
def flops(options: FlopsOptions) -> Complexity:
    """Counts parameters and FLOPs of a template's network. Raises FacekitError where it can't take such pictures."""
    try:
        size_hw = parse_size(options.input_size) if options.input_size is not None else None
    except ValueError as error:
        raise ArgumentError(f"`input_size`: {error}") from error
    template = read_template(options.template)
    size_hw = size_hw or template.input.size_hw
    layers = template_costs(template, size_hw)
    return Complexity(layers, size_hw, format_costs(layers, size_hw, options.per_layer))


def parse_size(text: str) -> tuple[int, int]:
    """WIDTHxHEIGHT in pixels -> (height, width). Raises ValueError for anything else."""
    match = re.fullmatch(r"([0-9]{1,9})[xX]([0-9]{1,9})", text)
    if match is None or not all(1 <= int(side) <= LONGEST_SIDE for side in match.groups()):
        raise ValueError(f"{text!r} is no size; give WIDTHxHEIGHT, sides of 1 to {LONGEST_SIDE} pixels, as in 640x480.")
    return int(match[2]), int(match[1])


def template_costs(template: Template, size_hw: tuple[int, int]) -> list[LayerCost]:
    """The template's network, a row a layer. Raises FacekitError where it can't take pictures of that size."""
    from facekit.models import build_model
    from facekit.ops.complexity import layer_costs

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
    from facekit.ops.complexity import COUNTED

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
