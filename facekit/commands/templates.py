"""The templates command: what there is to choose from."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from facekit.base.options import command_options, option, takes
from facekit.errors import FacekitError

MEASURED = "measured.yaml"  # beside the templates: what tools/verify_parity.py measured
SPEED = "speed.yaml"  # and tools/measure_speed.py
SORTED_BY = {"ap": "hard", "params": "parameters", "gmacs": "gmacs", "kb": "kilobytes", "ms": "milliseconds"}


@command_options
class TemplatesOptions:
    """Options of the list."""

    words: tuple[str, ...] = option(
        "Only templates with each of these in their name or what they are.",
        default=(), positional=True, kw_only=False, metavar="[WORDS]...",
    )  # fmt: skip
    sort: Literal["name", "ap", "params", "gmacs", "kb", "ms"] = option(
        "Column to sort by: ap (hard) best first, all else smallest first.", default="name"
    )
    json: bool = option("For programs.", default=False)


@dataclass(frozen=True)
class MeasuredAp:
    """WIDER FACE APs of published weights, measured by facekit."""

    easy: float  # per cent, as the others
    medium: float
    hard: float
    protocol: str


@dataclass(frozen=True)
class TemplateRow:
    """One bundled template."""

    name: str
    summary: str
    parameters: float | None  # millions
    measured: MeasuredAp | None  # None: no published weights could be measured
    input_wh: tuple[int, int]
    any_size: bool  # whether other sizes are fed, too
    has_landmarks: bool
    gmacs: float | None  # at input_wh
    kilobytes: float | None  # model.onnx, 1000 bytes each; None, as the next: not measured
    milliseconds: float | None  # a 640x480 picture to faces, one thread; `speed` of the table says where

    @property
    def hard(self) -> float | None:
        """What the list is sorted by."""
        return None if self.measured is None else self.measured.hard


@dataclass(frozen=True)
class TemplateTable:
    """The templates, and how their speed was measured."""

    rows: tuple[TemplateRow, ...]
    speed: str

    def text(self) -> str:
        """As the command line prints it."""
        cells = [["", "WIDER AP, %", "params", "GMACs", "KB", "ms", "input", "points"], *map(_cells, self.rows)]
        widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
        lines = []
        for index, row in enumerate(cells):
            padded = [cell.ljust(width) if column == 0 else cell.rjust(width)
                      for column, (cell, width) in enumerate(zip(row, widths, strict=True))]  # fmt: skip
            lines.append("  ".join(padded).rstrip())
            if index:
                lines.append(textwrap.indent(textwrap.fill(self.rows[index - 1].summary, 100), "    "))
        protocols = dict.fromkeys(f"{row.name}: {row.measured.protocol}" for row in self.rows if row.measured)
        note = (
            f"{len(self.rows)} templates. WIDER AP: easy / medium / hard by the official protocol, measured by facekit "
            f"with published weights, each at its template's own size and thresholds:"
        )
        notes = (textwrap.fill(note, 100), *(f"  {text}" for text in protocols), textwrap.fill(self.speed, 100))
        return "\n".join([*lines, "", *notes])


@takes(TemplatesOptions)
def templates(options: TemplatesOptions) -> TemplateTable:
    """Lists the bundled templates: those that all of the words are said of, sorted.

    Raises FacekitError, which names the nearest template, where there is none.
    """
    from facekit.base.nearest import did_you_mean
    from facekit.template import bundled_templates

    measured, speed = _read(MEASURED), _read(SPEED)
    try:
        rows = [_row(template, measured, speed["templates"]) for template in bundled_templates()]
        how = (
            f"KB: model.onnx. ms: one {speed['picture']} picture to faces in {speed['runtime']}, one thread of an "
            f"{speed['machine']}, the least of {speed['repeats']}."
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise FacekitError(f"{_path(SPEED)}: not as it was installed ({error!r}). Install facekit again.") from error
    words = [word.lower() for word in options.words]
    kept = [row for row in rows if all(word in f"{row.name} {row.summary}".lower() for word in words)]
    if not kept:
        hint = did_you_mean(" ".join(words), [row.name for row in rows])
        raise FacekitError(
            f"No template has {' and '.join(map(repr, options.words))} in its name or its words.{hint} "
            f"facekit templates lists all."
        )
    return TemplateTable(tuple(_sorted(kept, options.sort)), how)


def _sorted(rows: list[TemplateRow], by: str) -> list[TemplateRow]:
    if by == "name":
        return sorted(rows, key=lambda row: row.name)
    sign = -1.0 if by == "ap" else 1.0

    def place(row: TemplateRow) -> tuple[bool, float, str]:
        value: float | None = getattr(row, SORTED_BY[by])
        return (value is None, 0.0 if value is None else sign * value, row.name)

    return sorted(rows, key=place)


def _cells(row: TemplateRow) -> list[str]:
    ap = row.measured
    figures = "-" if ap is None else f"{ap.easy:.1f} / {ap.medium:.1f} / {ap.hard:.1f}"
    width, height = row.input_wh
    return [
        row.name, figures, "-" if row.parameters is None else f"{row.parameters:.3g} M",
        "-" if row.gmacs is None else f"{row.gmacs:.3g}",
        "-" if row.kilobytes is None else f"{row.kilobytes:.0f}",
        "-" if row.milliseconds is None else f"{row.milliseconds:.1f}",
        "any" if row.any_size else f"{width}x{height}", "5" if row.has_landmarks else "-",
    ]  # fmt: skip


def _row(template: Any, measured: dict[str, Any], speed: dict[str, Any]) -> TemplateRow:
    published = {metric.key: metric.value for metric in template.metrics}
    height, width = template.input.size_hw
    of_pth = next((row for row in measured.get(template.name, ()) if row["kind"] == "pth"), None)
    ap = of_pth and MeasuredAp(of_pth["easy"], of_pth["medium"], of_pth["hard"], of_pth["protocol"])
    cost = speed.get(template.name)
    operations = published.get("complexity")  # GFLOPs
    return TemplateRow(
        name=template.name,
        summary=template.summary,
        parameters=published.get("size"),
        measured=ap,
        input_wh=(width, height),
        any_size=not template.evaluation.feeds_one_size,
        has_landmarks=template.model.head.has_landmarks,
        gmacs=None if operations is None else operations / 2,
        kilobytes=cost and cost["onnx_bytes"] / 1000,
        milliseconds=cost and cost["ms"],
    )


def _path(name: str) -> Path:
    from facekit.template import TEMPLATES_DIR

    return TEMPLATES_DIR / name


def _read(name: str) -> dict[str, Any]:
    import yaml

    path = _path(name)
    try:
        content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise FacekitError(f"{path}: can't be read ({error}). Install facekit again.") from error
    return content
