"""Charts as SVG that stands in the page: drawn in the page's own colours, light and dark, and as wide as there is room.

Coordinates are those of a view box of WIDTH x HEIGHT, which is about what a phone shows at its own size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from facekit.engine.record import CalibrationBin
from facekit.pages.shell import SERIES, Html, escape, join

WIDTH, HEIGHT = 440.0, 330.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 428.0, 10.0, 286.0  # of the plot
STRIP = 64.0  # height of the counts below a reliability diagram
DASHES = ("", "8 4", "2 3", "8 3 2 3", "12 4", "5 2", "1 3", "10 3 5 3")
LABELLED_BAR = 26.0  # bars from this width on have their value above them

Place = Callable[[float], float]


@dataclass(frozen=True)
class Line:
    """A curve within 0..1."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class Bars:
    """A bar a category; NaN leaves a gap."""

    name: str
    values: Sequence[float]  # per cent


def legend(names: Sequence[str]) -> Html:
    """Whose curve or bar is which, in the order that the charts draw them in."""
    rows = (
        Html(
            f'<li><svg class="{_series(index)}" viewBox="0 0 32 8" aria-hidden="true">'
            f'<line x1="0" x2="32" y1="4" y2="4"{_dash(index)}/></svg>{escape(name)}</li>'
        )
        for index, name in enumerate(names)
    )
    return Html(f'<ul class="legend">\n{join(rows)}\n</ul>')


def line_chart(title: str, lines: Sequence[Line], x_label: str, y_label: str) -> Html:
    """Curves over 0..1, such as precision over recall. Points that aren't finite are left out."""
    across, up = _scale(LEFT, RIGHT, 1), _scale(BOTTOM, TOP, 1)
    parts = [_grid_and_labels(up, 1.0, 0.2, "{:.1f}"), _ticks_below(across, BOTTOM), _axis_names(x_label, y_label)]
    for index, line in enumerate(lines):
        points = _polyline(line, across, up)
        parts.append(
            f'<g class="{_series(index)}"><title>{escape(line.name)}</title>'
            f'<polyline class="line" points="{points}"{_dash(index)}/></g>'
        )
    described = ", ".join(line.name for line in lines)
    return _figure(title, f"{y_label} over {x_label}: {described}", HEIGHT, parts)


def bar_chart(title: str, categories: Sequence[str], bars: Sequence[Bars], y_label: str, top: float = 100.0) -> Html:
    """Values of 0..top by category, the bars of several runs beside each other."""
    up = _scale(BOTTOM, TOP, top)
    slot = (RIGHT - LEFT) / len(categories)
    width = min(0.76 * slot / len(bars), 56.0)
    parts = [_grid_and_labels(up, top, top / 5, "{:.0f}"), _axis_names("", y_label)]
    said = []
    for place, category in enumerate(categories):
        middle = LEFT + (place + 0.5) * slot
        parts.append(_text(middle, BOTTOM + 18, category, "middle"))
        for index, run in enumerate(bars):
            value = run.values[place]
            name = f"{run.name}, {category}: {_figures(value)}"
            said.append(name)
            if not math.isfinite(value):
                continue
            left, edge = middle + (index - len(bars) / 2) * width, up(min(max(value, 0.0), top))
            parts.append(
                f'<g class="{_series(index)}"><title>{escape(name)}</title><rect class="bar" x="{left + 1:.1f}" '
                f'y="{edge:.1f}" width="{width - 2:.1f}" height="{BOTTOM - edge:.1f}"/></g>'
            )
            if width >= LABELLED_BAR:
                parts.append(_text(left + width / 2, max(edge - 4, TOP + 9), _figures(value), "middle", "value"))
    return _figure(title, f"{y_label}. {'; '.join(said)}", HEIGHT, parts)


def calibration_chart(title: str, bins: Sequence[CalibrationBin]) -> Html:
    """A reliability diagram: how many of the detections of a score hit a face, above how many detections there are."""
    across, up = _scale(LEFT, RIGHT, 1), _scale(BOTTOM, TOP, 1)
    filled = [row for row in bins if row.detections and math.isfinite(row.mean_score + row.precision)]
    floor = BOTTOM + 24 + STRIP
    parts = [
        _grid_and_labels(up, 1.0, 0.2, "{:.1f}"),
        f'<line class="ideal" x1="{across(0):.1f}" y1="{up(0):.1f}" x2="{across(1):.1f}" y2="{up(1):.1f}"/>',
        _counts(bins, across, floor),
        _ticks_below(across, floor),
        _text((LEFT + RIGHT) / 2, floor + 38, "score", "middle"),
        _upright("precision", (TOP + BOTTOM) / 2),
        _text(RIGHT, floor - STRIP - 6, "detections, logarithmic", "end"),
        _text(across(0.97), up(0.06), "below the line: surer than right", "end"),
    ]
    points = _polyline(Line("", [row.mean_score for row in filled], [row.precision for row in filled]), across, up)
    parts.append(f'<g class="s0"><polyline class="line" points="{points}"/>')
    for row in filled:
        told = f"scores {row.low:.2g} to {row.high:.2g}: {row.detections} detections, {100 * row.precision:.1f} % hit"
        parts.append(
            f'<circle class="dot" cx="{across(row.mean_score):.1f}" cy="{up(row.precision):.1f}" r="4.5">'
            f"<title>{escape(told)}</title></circle>"
        )
    parts.append("</g>")
    return _figure(
        title, "Precision of the detections by their score; the table below has the figures.", floor + 44, parts
    )


def _counts(bins: Sequence[CalibrationBin], across: Place, floor: float) -> str:
    """Detections by score, on a logarithmic scale: low scores outnumber the high ones a hundredfold."""
    most = max((row.detections for row in bins), default=0)
    parts = [f'<line class="axis" x1="{LEFT}" x2="{RIGHT}" y1="{floor:.1f}" y2="{floor:.1f}"/>']
    for row in bins:
        if row.detections:
            height = STRIP * math.log10(1 + row.detections) / math.log10(1 + most)
            left, right = across(row.low) + 1, across(row.high) - 1
            parts.append(
                f'<rect class="bar s7" x="{left:.1f}" y="{floor - height:.1f}" width="{max(right - left, 1):.1f}" '
                f'height="{height:.1f}"><title>{row.detections} detections</title></rect>'
            )
    parts.append(_text(LEFT - 6, floor - STRIP + 8, _short(most), "end") if most else "")
    return "".join(parts)


def _figure(title: str, described: str, height: float, parts: Sequence[str]) -> Html:
    drawing = "\n".join(parts)
    return Html(
        f'<figure class="chart"><figcaption>{escape(title)}</figcaption>\n'
        f'<svg viewBox="0 0 {WIDTH:.0f} {height:.0f}" role="img" aria-label="{escape(f"{title}. {described}")}">\n'
        f"{drawing}\n</svg></figure>"
    )


def _grid_and_labels(up: Place, top: float, step: float, form: str) -> str:
    parts = []
    for number in range(round(top / step) + 1):
        value = number * step
        kind = "grid" if number else "axis"
        parts.append(f'<line class="{kind}" x1="{LEFT}" x2="{RIGHT}" y1="{up(value):.1f}" y2="{up(value):.1f}"/>')
        parts.append(_text(LEFT - 6, up(value) + 4, form.format(value), "end"))
    return "".join(parts)


def _ticks_below(across: Place, floor: float) -> str:
    return "".join(_text(across(tick / 5), floor + 18, f"{tick / 5:.1f}", "middle") for tick in range(6))


def _axis_names(x_label: str, y_label: str) -> str:
    below = _text((LEFT + RIGHT) / 2, BOTTOM + 38, x_label, "middle") if x_label else ""
    return below + _upright(y_label, (TOP + BOTTOM) / 2)


def _upright(text: str, middle: float) -> str:
    return f'<text transform="translate(11 {middle:.1f}) rotate(-90)" text-anchor="middle">{escape(text)}</text>'


def _text(x: float, y: float, text: str, anchor: str, kind: str = "") -> str:
    marked = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{marked}>{escape(text)}</text>'


def _polyline(line: Line, across: Place, up: Place) -> str:
    """The points to a tenth of a unit, those that fall together once."""
    placed = [
        f"{across(min(max(x, 0.0), 1.0)):.1f},{up(min(max(y, 0.0), 1.0)):.1f}"
        for x, y in zip(line.x, line.y, strict=True)
        if math.isfinite(x) and math.isfinite(y)
    ]
    return " ".join(point for index, point in enumerate(placed) if index == 0 or point != placed[index - 1])


def _scale(start: float, end: float, top: float) -> Place:
    return lambda value: start + (end - start) * value / top


def _series(index: int) -> str:
    return f"s{index % SERIES}"


def _dash(index: int) -> str:
    """Colour alone doesn't tell curves apart for everybody, nor in print."""
    dashes = DASHES[index % len(DASHES)] if index < SERIES else DASHES[(index + 1) % len(DASHES)]
    return f' stroke-dasharray="{dashes}"' if dashes else ""


def _figures(value: float) -> str:
    return f"{value:.1f}" if math.isfinite(value) else "n/a"


def _short(count: int) -> str:
    for size, letter in ((1_000_000, "M"), (1_000, "k")):
        if count >= size:
            return f"{count / size:.3g}{letter}"
    return str(count)
