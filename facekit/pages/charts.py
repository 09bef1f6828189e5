"""Charts of evaluations and trainings: SVG that stands in a page, or is a file of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from facekit.pages.drawing import MARKER_RADIUS, STAND_INS, Sheet, one_line, sheet, widest
from facekit.pages.shell import SERIES, Html, escape, join
from facekit.records.evaluation import CalibrationBin

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# A phone shows about as many pixels as a chart has units: text is drawn there at its own size.
WIDTH, HEIGHT = 360.0, 270.0
LEFT, RIGHT, TOP, BOTTOM = 44.0, 350.0, 10.0, 230.0  # of the plot
LINE_HEIGHT = 16.0
STRIP = 66.0  # height of the counts below a reliability diagram
DASHES = ((), (8, 4), (2, 3), (8, 3, 2, 3), (12, 4), (5, 2), (1, 3), (10, 3, 5, 3))
LABELLED_BAR = 36.0  # bars with so much room have their value above them
COLUMNS, PANEL_WIDTH, PANEL_HEIGHT = 2, 430.0, 250.0  # of a file of panels
DOTTED = 40  # lines of panels with at most so many points show each of them
FONT_FAMILY = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'Liberation Sans', Arial, sans-serif"


@dataclass(frozen=True)
class Line:
    """A curve; points that aren't finite are left out. A run that has none keeps its colour by an empty one."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class Bars:
    """A bar a category; NaN leaves a gap."""

    name: str
    values: Sequence[float]  # per cent


@dataclass(frozen=True)
class Panel:
    """One plot of several over the same axis, with a line a run."""

    title: str
    lines: Sequence[Line]
    logarithmic: bool = False  # of its values; a value that is not positive makes it linear


def legend(names: Sequence[str], solid: bool = False) -> Html:
    """Whose curve, or bar where solid, is which, in the order that the charts draw them in."""
    rows = (
        Html(
            f'<li><svg class="{_series(index)}" viewBox="0 0 32 8" aria-hidden="true">'
            + ('<rect width="32" height="8"/>' if solid else f'<line x1="0" x2="32" y1="4" y2="4"{_dash(index)}/>')
            + f"</svg>{escape(name)}</li>"
        )
        for index, name in enumerate(names)
    )
    return Html(f'<ul class="legend">\n{join(rows)}\n</ul>')


def line_chart(title: str, lines: Sequence[Line], x_label: str, y_label: str) -> Html:
    """Curves over 0..1, such as precision over recall; what lies outside is drawn on the edge."""
    with sheet(WIDTH, HEIGHT) as paper:
        axes = _unit_square(paper)
        _name_axes(paper, x_label, y_label, BOTTOM)
        within = [Line(line.name, *np.clip(_finite(line), 0, 1).tolist()) for line in lines]
        draw_lines(paper, axes, within, dotted=1)
        described = ", ".join(line.name for line in lines)
        return _figure(title, paper.inline_svg(title, f"{y_label} over {x_label}: {described}"))


def scatter_chart(
    title: str, names: Sequence[str], x: Sequence[float], y: Sequence[float], x_label: str, y_label: str
) -> Html:
    """A point a name, x drawn by its logarithm; points that aren't finite are left out."""
    points = [(index, *point) for index, point in enumerate(zip(x, y, strict=True)) if np.isfinite(point).all()]
    with sheet(WIDTH, HEIGHT) as paper:
        axes = paper.axes(LEFT, TOP, RIGHT, BOTTOM)
        most, least = (pick((each for _, each, _ in points), default=1) for pick in (max, min))
        low, high = (pick((each for _, _, each in points), default=edge) for pick, edge in ((min, 0), (max, 100)))
        room = max(0.15 * (high - low), 1)
        axes.set(xscale="log", xlim=(least / 1.5, most * 1.5), ylim=(max(0, low - room), min(100, high + room)))
        ticks = [one * 10.0**power for power in range(-2, 6) for one in (1, 2, 5)]
        axes.set_xticks([tick for tick in ticks if least / 1.5 <= tick <= most * 1.5])
        axes.minorticks_off()
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(lambda value, _: f"{value:,.4g}")
        _name_axes(paper, x_label, y_label, BOTTOM)
        for index, across, up in points:
            (drawn,) = axes.plot(
                [across], [up], color=_colour(index), marker="o", markersize=2 * MARKER_RADIUS,
                markeredgecolor=STAND_INS["paper"],
            )  # fmt: skip
            paper.say(drawn, f"{names[index]}: {up:.2f} at {across:.2f}")
        described = ", ".join(f"{names[index]} {up:.2f} at {across:.2f}" for index, across, up in points)
        return _figure(title, paper.inline_svg(title, f"{y_label} over {x_label}: {described}"))


def draw_lines(paper: Sheet, axes: Axes, lines: Sequence[Line], dotted: int) -> None:
    """Lines in the colours and dashes of their place in the sequence; each says its name when pointed at.

    dotted: lines of at most so many points show them; from one point alone there is no line to see.
    """
    for index, line in enumerate(lines):
        x, y = _finite(line)
        if not len(x):
            continue
        (drawn,) = axes.plot(
            x, y, color=_colour(index), linewidth=1.75, linestyle=_linestyle(index),
            marker="o" if len(x) <= dotted else "", markersize=2 * MARKER_RADIUS, markeredgecolor=STAND_INS["paper"],
        )  # fmt: skip
        paper.say(drawn, line.name)


def _finite(line: Line) -> NDArray[np.float64]:
    """Its points (2, N)."""
    points = np.array([line.x, line.y], dtype=np.float64)
    return points[:, np.isfinite(points).all(axis=0)]


def bar_chart(title: str, categories: Sequence[str], bars: Sequence[Bars], y_label: str, top: float = 100.0) -> Html:
    """Values of 0..top by category, the bars of several runs beside each other. At least one category."""
    labels = [one_line(category, 24) for category in categories]
    slot = (RIGHT - LEFT) / len(labels)
    width = min(0.8 * slot / len(bars), 56.0)
    labelled = (slot if len(bars) == 1 else width) >= LABELLED_BAR
    with sheet(WIDTH, HEIGHT) as paper:
        rows = max(1, math.ceil((widest(labels) + 4) / slot))  # labels without room stand on several lines, in turn
        bottom = HEIGHT - 8 - LINE_HEIGHT * rows
        axes = paper.axes(LEFT, TOP + LINE_HEIGHT * labelled, RIGHT, bottom)
        axes.set(xlim=(0, RIGHT - LEFT), ylim=(0, top), xticks=[], yticks=[step * top / 5 for step in range(6)])
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        _name_axes(paper, "", y_label, bottom)
        said = []
        for place, category in enumerate(categories):
            middle = (place + 0.5) * slot
            paper.text(LEFT + middle, bottom + LINE_HEIGHT * (1 + place % rows), labels[place], "quiet", "center")
            for index, run in enumerate(bars):
                value = run.values[place]
                name = f"{run.name}, {category}: {_figures(value)}"
                said.append(name)
                if not math.isfinite(value):
                    continue
                centre, end = middle + (index + 0.5 - len(bars) / 2) * width, min(max(value, 0.0), top)
                (bar,) = axes.bar(centre, end, width - min(2, width / 4), color=_colour(index), linewidth=0)
                paper.say(bar, name)
                if labelled:
                    axes.annotate(_figures(value), (centre, end), (0, 4), textcoords="offset points", ha="center")
        return _figure(title, paper.inline_svg(title, f"{y_label}. {'; '.join(said)}"))


def calibration_chart(title: str, bins: Sequence[CalibrationBin]) -> Html:
    """A reliability diagram: how many of the detections of a score hit a face, above how many detections there are."""
    filled = [row for row in bins if row.detections and math.isfinite(row.mean_score + row.precision)]
    floor = BOTTOM + 2 * LINE_HEIGHT + STRIP
    colour = STAND_INS["c0"]
    with sheet(WIDTH, floor + HEIGHT - BOTTOM) as paper:
        axes = _unit_square(paper)
        axes.tick_params(labelbottom=False)
        axes.plot((0, 1), (0, 1), color=STAND_INS["quiet"], linewidth=1, dashes=(4, 4))
        axes.plot([row.mean_score for row in filled], [row.precision for row in filled], color=colour, linewidth=1.75)
        for row in filled:
            (dot,) = axes.plot(
                row.mean_score, row.precision, "o", color=colour, markersize=2 * MARKER_RADIUS,
                markeredgecolor=STAND_INS["paper"],
            )  # fmt: skip
            told = f"scores {row.low:.2g} to {row.high:.2g}: {row.detections} detections"
            paper.say(dot, f"{told}, {100 * row.precision:.1f} % hit")
        paper.text(RIGHT - 6, BOTTOM - 8, "below the dashed line: over-confident", "quiet", "right")
        _counts(paper, bins, floor)
        _name_axes(paper, "score", "precision", floor)
        return _figure(
            title, paper.inline_svg(title, "Precision of the detections by their score; the table has the figures.")
        )


def _counts(paper: Sheet, bins: Sequence[CalibrationBin], floor: float) -> None:
    """Detections by score, on a logarithmic scale: low scores outnumber the high ones a hundredfold."""
    most = max((row.detections for row in bins), default=0)
    axes = paper.axes(LEFT, floor - STRIP, RIGHT, floor)
    axes.set_yscale("function", functions=(np.log1p, np.expm1))  # log(1 + n), which is 0 for none
    ticks = [10**power for power in range(1, len(str(most)))][::-2] or [most]  # every other power of ten
    axes.set(xlim=(0, 1), ylim=(0, max(most, 1)), xticks=np.linspace(0, 1, 6))
    axes.set_yticks(ticks, [_short(count) for count in ticks])
    gap = 2 / (RIGHT - LEFT)
    for row in bins:
        if row.detections:
            middle, width = (row.low + row.high) / 2, max(row.high - row.low - gap, gap / 2)
            (bar,) = axes.bar(middle, row.detections, width, color=STAND_INS["c7"], linewidth=0)
            paper.say(bar, f"{row.detections} detections")
    paper.text(LEFT, floor - STRIP - 8, "detections, logarithmic", "quiet")


def draw_panels(title: str, names: Sequence[str], panels: Sequence[Panel], x_label: str, kind: str = "svg") -> bytes:
    """A file of several plots over the same x, such as the course of trainings, that says whose line is which.

    At least one panel, each with a line a name, in their order. kind: svg, which needs nothing from elsewhere and
    follows light and dark; or png or pdf, which are light.
    """
    columns = min(COLUMNS, len(panels))
    head = 20 + 20.0 * len(names)
    height = head + math.ceil(len(panels) / columns) * PANEL_HEIGHT
    every_x = [x for panel in panels for line in panel.lines for x in line.x if math.isfinite(x)]
    ends = (min([0.0, *every_x]), max(every_x, default=0.0) or 1.0)
    with sheet(columns * PANEL_WIDTH, height) as paper:
        for index, name in enumerate(names):
            _key(paper, index, 20 + 20.0 * index, name)
        for place, panel in enumerate(panels):
            row, column = divmod(place, columns)
            axes = _draw_panel(paper, panel, column * PANEL_WIDTH, head + row * PANEL_HEIGHT, x_label)
            axes.set_xlim(ends)
        if kind != "svg":
            return paper.picture(kind)
        described = f"{', '.join(panel.title for panel in panels)} over {x_label}: {', '.join(names)}"
        return paper.standalone_svg(title, described, FONT_FAMILY).encode("utf-8", "backslashreplace")


def _key(paper: Sheet, index: int, y: float, name: str) -> None:
    """A name of the legend, y being its base line, beside the line that it stands for."""
    from matplotlib.lines import Line2D

    across, up = (20 / paper.width, 52 / paper.width), 1 - (y - 4) / paper.height
    paper.figure.add_artist(Line2D(across, (up, up), color=_colour(index), linewidth=2, linestyle=_linestyle(index)))
    paper.text(62, y, name, "text")


def _draw_panel(paper: Sheet, panel: Panel, left: float, top: float, x_label: str) -> Axes:
    from matplotlib.ticker import MaxNLocator

    start, end = left + 64, left + PANEL_WIDTH - 28
    axes = paper.axes(start, top + 34, end, top + PANEL_HEIGHT - 48)
    paper.text(left + 20, top + 16, panel.title, "text", weight="bold")
    paper.text((start + end) / 2, top + PANEL_HEIGHT - 14, x_label, "quiet", "center")
    values = [value for line in panel.lines for value in line.y if math.isfinite(value)]
    if panel.logarithmic and values and min(values) > 0:
        axes.set_yscale("log")
        low, high = math.floor(math.log10(min(values)) + 1e-9), math.ceil(math.log10(max(values)) - 1e-9)
        axes.set_ylim(10.0**low, 10.0 ** max(high, low + 1))
    else:
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    draw_lines(paper, axes, panel.lines, DOTTED)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:,.6g}".replace("-", "\N{MINUS SIGN}"))
    axes.minorticks_off()
    return axes


def _unit_square(paper: Sheet) -> Axes:
    """A plot of 0..1 over 0..1."""
    axes = paper.axes(LEFT, TOP, RIGHT, BOTTOM)
    ticks = np.linspace(0, 1, 6)
    axes.set(xlim=(0, 1), ylim=(0, 1), xticks=ticks, yticks=ticks)
    return axes


def _name_axes(paper: Sheet, x_label: str, y_label: str, floor: float) -> None:
    """What is drawn across, below the numbers of a plot that ends at floor, and what upwards, beside them."""
    paper.text((LEFT + RIGHT) / 2, floor + 34, x_label, "quiet", "center")
    paper.figure.text(
        11 / paper.width, 1 - (TOP + BOTTOM) / 2 / paper.height, one_line(y_label), color=STAND_INS["quiet"],
        rotation=90, rotation_mode="anchor", ha="center", va="baseline",
    )  # fmt: skip


def _figure(title: str, drawing: Html) -> Html:
    return Html(f'<figure class="chart"><figcaption>{escape(title)}</figcaption>\n{drawing}</figure>')


def _series(index: int) -> str:
    return f"s{index % SERIES}"


def _colour(index: int) -> str:
    return STAND_INS[f"c{index % SERIES}"]


def _linestyle(index: int) -> tuple[float, Sequence[float]] | Literal["solid"]:
    return (0, dashes) if (dashes := _dashes(index)) else "solid"


def _dashes(index: int) -> tuple[int, ...]:
    """Colour alone doesn't tell curves apart for everybody, nor in print."""
    return DASHES[index % len(DASHES)] if index < SERIES else DASHES[(index + 1) % len(DASHES)]


def _dash(index: int) -> str:
    dashes = " ".join(map(str, _dashes(index)))
    return f' stroke-dasharray="{dashes}"' if dashes else ""


def _figures(value: float) -> str:
    return f"{value:.1f}" if math.isfinite(value) else "n/a"


def _short(count: int) -> str:
    for size, letter in ((1_000_000, "M"), (1_000, "k")):
        if count >= size:
            return f"{count / size:.3g}{letter}"
    return str(count)
