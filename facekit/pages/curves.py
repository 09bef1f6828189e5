"""The course of trainings as one picture: losses, learning rate and validation figures over iterations or epochs, runs
overlaid."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from facekit.base.files import replacing
from facekit.base.reading import open_file
from facekit.errors import ArgumentError, FacekitError
from facekit.pages.charts import Line, Panel, draw_panels

log = logging.getLogger(__name__)

JOURNAL = "log.jsonl"
MAX_BYTES = 256 << 20
MAX_NUMBER = 1e30  # sums of more would overflow
MAX_CURVES = 100
MAX_POINTS = 330  # of a curve; more are averaged: a plot is no wider
LOGARITHMIC = {"learning_rate"}
KINDS = ("svg", "png", "pdf")
LINE_ITERATIONS = 10  # between two lines of a journal within an epoch, as training writes them
TITLES = {
    "loss": "loss", "learning_rate": "learning rate", "ap": "AP @ [IoU=0.50:0.95], %",
    "ap_64x64": "AP for faces > 64x64, %",
}  # fmt: skip


Over = Literal["iterations", "epochs"]  # epochs: since the start of each run


@dataclass(frozen=True)
class Curve:
    """Values over iterations or epochs, which ascend; at least one."""

    steps: NDArray[np.float64]
    values: NDArray[np.float64]


@dataclass(frozen=True)
class Run:
    name: str
    curves: dict[str, Curve]  # by the journal's keys


def plot_runs(paths: Sequence[Path], output: Path, over: Over = "iterations") -> None:
    """Reads each run (its folder or its log.jsonl) and writes .svg, .png or .pdf.

    Raises FacekitError where a run holds nothing, ArgumentError for another kind of file.
    """
    kind = output.suffix.lower().removeprefix(".")
    if kind not in KINDS:
        raise ArgumentError(f"{output}: expected a name that ends in .svg, .png or .pdf. Give `output` such a one.")
    journals = [path / JOURNAL if path.is_dir() else path for path in paths]
    runs = [read_run(path, name, over) for path, name in zip(journals, _names(journals), strict=True)]
    drawn = draw(runs, kind, over)
    with replacing(output) as beside:
        beside.write_bytes(drawn)


def _names(journals: Sequence[Path]) -> list[str]:
    """The folder's name, with as many parents as tell the runs apart."""
    parts = [path.resolve().parent.parts for path in journals]
    for count in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-count:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in journals]


def read_run(path: Path, name: str, over: Over = "iterations") -> Run:
    """The curves of a log.jsonl. Where a run was resumed or started again, what was done twice counts once, as done
    last. Raises FacekitError for a file that can't be read or holds no figures."""
    points: dict[str, list[tuple[float, float]]] = {}
    ends: dict[float, float] = {}  # epoch -> the last iteration that is known of it
    unreadable = 0
    try:
        remedy = f"Give a folder with a {JOURNAL}."
        with io.TextIOWrapper(open_file(path, MAX_BYTES, remedy), encoding="utf-8", errors="replace") as file:
            for line in file:
                record = _parse(line)
                unreadable += record is None
                if record is not None:
                    _add(record, points)
                    if "loss" in record and "epoch" in record:
                        ends[record["epoch"]] = record["iteration"]
    except OSError as error:
        raise FacekitError(f"{path}: can't be read ({error.strerror}). Give a folder with a {JOURNAL}.") from error
    if len(points) > MAX_CURVES:
        raise FacekitError(f"{path}: holds {len(points)} kinds of figures, expected at most {MAX_CURVES}.")
    if not points:
        raise FacekitError(f"{path}: holds no figures of a training. Give a folder that `facekit train` saved to.")
    if unreadable:
        log.warning("%s: %d lines can't be read and were left out.", path, unreadable)
    curves = {key: Curve(*np.array(pairs, dtype=np.float64).T) for key, pairs in points.items() if pairs}
    if over == "epochs":
        if not ends:
            raise FacekitError(f"{path}: says no epochs. Give `over=iterations`.")
        first = min(pairs[0][0] for key, pairs in points.items() if pairs and key.startswith("loss"))
        curves = {key: Curve(_epochs(curve.steps, ends, first), curve.values) for key, curve in curves.items()}
    return Run(name, curves)


def _epochs(iterations: NDArray[np.float64], ends: dict[float, float], first: float) -> NDArray[np.float64]:
    """Epochs since the start of the run, with fractions. `first`: the iteration of the journal's first line."""
    epochs = sorted(ends)
    known = [ends[epoch] for epoch in epochs]
    if len(epochs) > 1:
        length = (known[1] - known[0]) / (epochs[1] - epochs[0])
    else:  # the first line stands behind LINE_ITERATIONS, or at the end of a shorter epoch
        length = known[0] - first + (LINE_ITERATIONS if known[0] > first else 1)
    length = max(length, 1.0)
    places = [known[0] - length, *known]
    since_start = [0.0, *(epoch - epochs[0] + 1 for epoch in epochs)]
    return np.asarray(np.interp(iterations, places, since_start), dtype=np.float64)


def _parse(line: str) -> dict[str, float] | None:
    """The finite numbers of a line, with `iteration` among them."""
    try:
        record = json.loads(line)
        numbers = {
            key: float(value)
            for key, value in record.items()
            if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= MAX_NUMBER
        }
    except (ValueError, AttributeError, RecursionError, OverflowError):
        return None
    is_course = "iteration" in numbers and numbers["iteration"] >= 0 and len(numbers) <= MAX_CURVES
    return numbers if is_course else None


def _add(record: dict[str, float], points: dict[str, list[tuple[float, float]]]) -> None:
    iteration = record["iteration"]
    drawn = [key for key in record if key.startswith("loss") or key in TITLES]
    # A loss is as new as its iteration: all that is known from beyond comes from before a resumption.
    for key in points if "loss" in record else drawn:
        while points.get(key) and points[key][-1][0] >= iteration:
            points[key].pop()
    for key in drawn:
        points.setdefault(key, []).append((iteration, record[key]))


def draw(runs: Sequence[Run], kind: str = "svg", over: Over = "iterations") -> bytes:
    """The content of a file of one of KINDS. An SVG needs nothing from elsewhere, and follows light and dark."""
    keys = sorted({key for run in runs for key in run.curves}, key=_rank)
    panels = [
        Panel(_title(key), [_line(run.name, run.curves.get(key)) for run in runs], logarithmic=key in LOGARITHMIC)
        for key in keys
    ]
    names = [run.name for run in runs]
    x_label = "iteration" if over == "iterations" else "epochs since the start of each run"
    return draw_panels(f"Course of {', '.join(names)}", names, panels, x_label, kind)


def _rank(key: str) -> tuple[int, str]:
    """The whole loss, validation, learning rate, then the losses' parts."""
    order = ("loss", "ap", "learning_rate", "ap_64x64")
    return (order.index(key) if key in order else len(order), key)


def _title(key: str) -> str:
    return TITLES.get(key, f"loss: {key.removeprefix('loss_')}")


def _line(name: str, curve: Curve | None) -> Line:
    if curve is None:
        return Line(name, (), ())
    curve = _thinned(curve)
    return Line(name, curve.steps.tolist(), curve.values.tolist())


def _thinned(curve: Curve) -> Curve:
    if len(curve.values) <= MAX_POINTS:
        return curve
    bins = [np.array_split(numbers, MAX_POINTS) for numbers in (curve.steps, curve.values)]
    return Curve(*(np.array([part.mean() for part in parts]) for parts in bins))
