"""The page of a comparison of detectors: accuracy over latency, and all figures."""

from __future__ import annotations

import math
from collections.abc import Sequence

from facekit.pages.charts import legend, scatter_chart
from facekit.pages.shell import (
    SORT_SCRIPT,
    Cell,
    Html,
    Row,
    Section,
    data_block,
    definitions,
    escape,
    join,
    page,
    table,
)
from facekit.records.speed import AP_SHORT, Comparison, Measured, Timing

DATA_ANCHOR = "facekit-comparison"


def speed_page(comparison: Comparison) -> str:
    """A complete HTML document. Parts without data are left out."""
    names = [row.name for row in comparison.rows]
    title = "Comparison of " + (", ".join(names) if len(names) < 4 else f"{len(names)} detectors")
    sections = []
    if charts := _charts(comparison):
        sections.append(Section("accuracy", "Accuracy over latency", charts))
    sections += [
        Section("figures", "Figures", _figures(comparison)),
        Section("conditions", "Conditions", _conditions(comparison)),
    ]
    data = data_block(DATA_ANCHOR, comparison.to_json())
    return page(title, _header(title, comparison), sections, scripts=[SORT_SCRIPT], data=data)


def _header(title: str, comparison: Comparison) -> Html:
    said = f"{comparison.picture}, from pixels to faces; {comparison.machine}."
    return join(
        [Html('<p class="kind">Comparison</p>'), Html(f"<h1>{escape(title)}</h1>"), Html(f"<p>{escape(said)}</p>")]
    )


def _charts(comparison: Comparison) -> Html:
    """A chart an accuracy, of the first number of threads."""
    keys = comparison.metric_keys()
    if not keys:
        return Html()
    names = [row.name for row in comparison.rows]
    latencies = [row.timings[0].latency_p50_ms for row in comparison.rows]
    threads = comparison.rows[0].timings[0].threads
    charts = []
    for key in keys:
        values = [row.metric(key) for row in comparison.rows]
        x_label = f"milliseconds a picture, {threads} thread{'s' * (threads > 1)}"
        charts.append(scatter_chart(AP_SHORT.get(key, key), names, latencies, values, x_label, "AP, per cent"))
    return Html(f'{legend(names, solid=True)}\n<div class="charts">\n{join(charts)}\n</div>')


def _figures(comparison: Comparison) -> Html:
    keys = comparison.metric_keys()
    several = any(len(row.timings) > 1 for row in comparison.rows)
    headings = [
        "detector", *(AP_SHORT.get(key, key) for key in keys), "thousand parameters", "million MACs", "fed", "KB",
        *["threads"] * several, "cold start s", "p50 ms", "p95 ms", "pictures/s", "peak MiB",
    ]  # fmt: skip
    rows: list[Row] = [
        [row.name, *_of_detector(row, keys), *_of_timing(timed, several)]
        for row in comparison.rows
        for timed in row.timings
    ]
    return table(headings, [("", rows)], "Figures of all detectors", sortable=True)


def _of_detector(row: Measured, keys: Sequence[str]) -> list[Cell | str]:
    return [
        *(_number(row.metric(key), 2) for key in keys),
        _number(None if row.parameters is None else row.parameters / 1e3, 1),
        _number(None if row.macs is None else row.macs / 1e6, 1),
        f"{row.fed_wh[0]}x{row.fed_wh[1]}",
        _number(row.kilobytes, 0),
    ]


def _of_timing(timed: Timing, several: bool) -> list[Cell | str]:
    return [
        *[_number(timed.threads, 0)] * several,
        _number(timed.cold_start_s, 2),
        _number(timed.latency_p50_ms, 2),
        _number(timed.latency_p95_ms, 2),
        _number(timed.pictures_per_s, 1),
        _number(timed.peak_memory_mib, 0),
    ]


def _number(value: float | None, digits: int) -> Cell:
    if value is None or not math.isfinite(value):
        return Cell(Html("&ndash;"), math.nan)
    return Cell(f"{value:,.{digits}f}", value)


def _conditions(comparison: Comparison) -> Html:
    protocols: list[Row] = [
        [row.name, row.detector, row.runtime, row.protocol, _files(row)] for row in comparison.rows
    ]  # fmt: skip
    turns = f"{comparison.rounds} times each, in turns, each in a process of its own"
    facts = definitions(
        [
            ("Accuracy", comparison.data),
            (
                "Latency",
                f"{comparison.picture}; {turns}",
            ),
            ("Cold start", "from the start of the process to the first picture's faces"),
            ("FaceDetectorYN", "its scores, roots of facekit's, are squared"),
            ("Measured", comparison.measured_at),
            ("Machine", comparison.machine),
            ("Versions", ", ".join(f"{name} {version}" for name, version in comparison.versions.items())),
        ]
    )
    headings = ["detector", "read as", "runtime", "protocol", "files, bytes"]
    return join([table(headings, [("", protocols)], "Protocols"), facts])


def _files(row: Measured) -> str:
    return ", ".join(f"{name} {size:,}" for name, size in row.files.items())
