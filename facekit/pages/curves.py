"""The course of trainings as one SVG: losses, learning rate and validation figures over iterations, runs overlaid."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facekit.errors import FacekitError
from facekit.files import write_text

log = logging.getLogger(__name__)

JOURNAL = "log.jsonl"
MAX_POINTS = 600  # of a curve; more are averaged: the picture is no wider
LOGARITHMIC = {"learning_rate"}
TITLES = {
    "loss": "loss", "learning_rate": "learning rate", "ap": "AP @ [IoU=0.50:0.95], %",
    "ap_64x64": "AP for faces > 64x64, %",
}  # fmt: skip
COLUMNS, PANEL_W, PANEL_H, GAP, MARGIN = 2, 430.0, 230.0, 26.0, 20.0
LEFT, TOP, BOTTOM = 58.0, 26.0, 28.0  # of a panel, outside of its plot
COLOURS = ("#2563c9", "#c2500a", "#0f8a5f", "#a33bb0", "#8a6d00", "#0b8aa8", "#c22f52", "#5b6470")
DASHES = ("", "7 3", "2 3", "8 3 2 3")
STYLE = """
svg { background: #fff; color: #1b1f24; font: 12px system-ui, sans-serif; }
text { fill: currentColor; } .title { font-weight: 600; font-size: 13px; }
.grid { stroke: currentColor; opacity: .15; } .line { fill: none; stroke-width: 1.6; stroke-linejoin: round; }
@media (prefers-color-scheme: dark) {
  svg { background: #14171a; color: #e7eaee; } .line, .dot { filter: brightness(1.5); }
}
"""


@dataclass(frozen=True)
class Curve:
    """Values over iterations, which ascend; at least one."""

    iterations: NDArray[np.float64]
    values: NDArray[np.float64]


@dataclass(frozen=True)
class Run:
    name: str
    curves: dict[str, Curve]  # by the journal's keys


def plot_runs(paths: Sequence[Path], output: Path) -> None:
    """Reads each run (its folder or its log.jsonl) and writes the SVG. Raises FacekitError where one holds nothing."""
    if output.suffix.lower() != ".svg":
        raise FacekitError(f"{output}: only .svg is written. Give --output a name that ends so.")
    journals = [path / JOURNAL if path.is_dir() else path for path in paths]
    runs = [read_run(path, name) for path, name in zip(journals, _names(journals), strict=True)]
    write_text(output, draw(runs))


def _names(journals: Sequence[Path]) -> list[str]:
    """The folder's name, with as many parents as tell the runs apart."""
    parts = [path.resolve().parent.parts for path in journals]
    for count in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-count:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in journals]


def read_run(path: Path, name: str) -> Run:
    """The curves of a log.jsonl. Where a run was resumed or started again, what was done twice counts once, as done
    last. Raises FacekitError for a file that can't be read or holds no figures."""
    points: dict[str, list[tuple[float, float]]] = {}
    unreadable = 0
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                record = _parse(line)
                unreadable += record is None
                if record is not None:
                    _add(record, points)
    except OSError as error:
        raise FacekitError(f"{path}: can't be read ({error.strerror}). Give a folder with a {JOURNAL}.") from error
    if not points:
        raise FacekitError(f"{path}: holds no figures of a training. Give a folder that `facekit train` saved to.")
    if unreadable:
        log.warning("%s: %d lines can't be read and were left out.", path, unreadable)
    curves = {key: Curve(*np.array(pairs, dtype=np.float64).T) for key, pairs in points.items() if pairs}
    return Run(name, curves)


def _parse(line: str) -> dict[str, float] | None:
    """The finite numbers of a line, with `iteration` among them."""
    try:
        record = json.loads(line)
        numbers = {
            key: float(value)
            for key, value in record.items()
            if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        }
    except (ValueError, AttributeError, RecursionError, OverflowError):
        return None
    return numbers if "iteration" in numbers else None


def _add(record: dict[str, float], points: dict[str, list[tuple[float, float]]]) -> None:
    iteration = record["iteration"]
    drawn = [key for key in record if key.startswith("loss") or key in TITLES]
    # A loss is as new as its iteration: all that is known from beyond comes from before a resumption.
    for key in points if "loss" in record else drawn:
        while points.get(key) and points[key][-1][0] >= iteration:
            points[key].pop()
    for key in drawn:
        points.setdefault(key, []).append((iteration, record[key]))


def draw(runs: Sequence[Run]) -> str:
    """The SVG, which needs nothing from elsewhere, and follows light and dark."""
    keys = sorted({key for run in runs for key in run.curves}, key=_rank)
    head = MARGIN + 20 * len(runs) + 10
    width = 2 * MARGIN + COLUMNS * PANEL_W + (COLUMNS - 1) * GAP
    height = head + math.ceil(len(keys) / COLUMNS) * (PANEL_H + GAP) + MARGIN
    parts = [_legend(runs)]
    for place, key in enumerate(keys):
        row, column = divmod(place, COLUMNS)
        x, y = MARGIN + column * (PANEL_W + GAP), head + row * (PANEL_H + GAP)
        parts.append(f'<g transform="translate({x:.0f} {y:.0f})">\n{_panel(key, runs)}\n</g>')
    described = _text(f"Course of {', '.join(run.name for run in runs)}")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" role="img" aria-label="{described}">\n<style>{STYLE}</style>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _rank(key: str) -> tuple[int, str]:
    """The whole loss, validation, learning rate, then the losses' parts."""
    order = ("loss", "ap", "learning_rate", "ap_64x64")
    return (order.index(key) if key in order else len(order), key)


def _legend(runs: Sequence[Run]) -> str:
    rows = []
    for index, run in enumerate(runs):
        y = MARGIN + 20 * index + 6
        rows.append(
            f'<line class="line" x1="{MARGIN}" x2="{MARGIN + 34}" y1="{y - 4}" y2="{y - 4}"{_look(index)}/>'
            f'<text x="{MARGIN + 44}" y="{y}">{_text(run.name)}</text>'
        )
    return "\n".join(rows)


def _panel(key: str, runs: Sequence[Run]) -> str:
    shown = [(index, _thinned(run.curves[key])) for index, run in enumerate(runs) if key in run.curves]
    is_log = key in LOGARITHMIC and all((curve.values > 0).all() for _, curve in shown)
    if is_log:
        shown = [(index, Curve(curve.iterations, np.log10(curve.values))) for index, curve in shown]
    every_x = np.concatenate([curve.iterations for _, curve in shown])
    every_y = np.concatenate([curve.values for _, curve in shown])
    lowest, highest = float(every_y.min()), float(every_y.max())
    x_ticks = ticks(0.0, float(every_x.max()))
    y_ticks = _decades(lowest, highest) if is_log else ticks(lowest, highest)
    right, floor = PANEL_W - 8, PANEL_H - BOTTOM
    low, high = y_ticks[0], y_ticks[-1]

    def across(x: NDArray[np.float64] | float) -> NDArray[np.float64] | float:
        return LEFT + (right - LEFT) * x / x_ticks[-1]

    def up(y: NDArray[np.float64] | float) -> NDArray[np.float64] | float:
        return floor - (floor - TOP) * (y - low) / (high - low)

    title = TITLES.get(key, f"loss: {key.removeprefix('loss_')}")
    parts = [f'<text class="title" x="{LEFT}" y="14">{_text(title)}</text>']
    for tick in y_ticks:
        value = f"{10**tick:.2g}" if is_log else f"{tick:g}"
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{up(tick):.1f}" y2="{up(tick):.1f}"/>')
        parts.append(f'<text x="{LEFT - 7}" y="{up(tick) + 4:.1f}" text-anchor="end">{value}</text>')
    for tick in x_ticks:
        parts.append(f'<text x="{across(tick):.1f}" y="{floor + 18}" text-anchor="middle">{tick:g}</text>')
    for index, curve in shown:
        pairs = np.stack([across(curve.iterations), up(curve.values)], axis=1)
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in pairs)
        parts.append(f'<polyline class="line" points="{points}"{_look(index)}><title>{_text(runs[index].name)}</title>'
                     "</polyline>")  # fmt: skip
        if len(pairs) <= 60:  # evaluations are few, and one alone is no line
            colour = COLOURS[index % len(COLOURS)]
            parts += [f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="2.2" fill="{colour}"/>' for x, y in pairs]
    return "\n".join(parts)


def _thinned(curve: Curve) -> Curve:
    if len(curve.values) <= MAX_POINTS:
        return curve
    bins = [np.array_split(numbers, MAX_POINTS) for numbers in (curve.iterations, curve.values)]
    return Curve(*(np.array([part.mean() for part in parts]) for parts in bins))


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round numbers that span low..high, about as many as wanted."""
    if not high - low > 1e-12 * max(abs(low), abs(high)):  # one value alone
        margin = abs(high) / 2 or 1.0
        low, high = low - margin, high + margin
    raw = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw)
    return [float(f"{number * step:.10g}") for number in range(math.floor(low / step), math.ceil(high / step) + 1)]


def _decades(low: float, high: float) -> list[float]:
    """Whole powers of ten that span 10^low..10^high, at least one decade."""
    first = math.floor(low + 1e-9)
    return [float(power) for power in range(first, max(math.ceil(high - 1e-9), first + 1) + 1)]


def _look(index: int) -> str:
    """Colour alone doesn't tell runs apart for everybody."""
    dash = DASHES[index % len(DASHES)]
    return f' stroke="{COLOURS[index % len(COLOURS)]}"' + (f' stroke-dasharray="{dash}"' if dash else "")


def _text(text: str) -> str:
    """Escaped, without what XML can't hold."""
    printable = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
    return escape(printable)
