"""The page that lays several evaluations beside each other."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from facekit.pages.charts import Bars, Line, bar_chart, legend, line_chart
from facekit.pages.figures import ATTRIBUTES, HEIGHT_CHART, by_kind, drawable, figure, heights, is_better
from facekit.pages.shell import (
    SORT_SCRIPT,
    Cell,
    Html,
    Row,
    Section,
    beside,
    escape,
    folded,
    join,
    page,
    table,
    warning,
)
from facekit.records.evaluation import EvaluationRecord

LONG_TABLE = 16  # rows; longer tables are folded
Read = Callable[[EvaluationRecord], str]

# Figures of runs that differ in these can't be held against each other.
CONDITIONS: tuple[tuple[str, Read], ...] = (
    ("protocols", lambda record: record.rule),
    ("sets", lambda record: "; ".join(record.sets)),
)
SPEED_CONDITIONS: tuple[tuple[str, Read], ...] = (
    ("machines", lambda record: record.machine),
    ("runtimes", lambda record: record.runtime),
)


def comparison_page(records: Sequence[EvaluationRecord], names: Sequence[str]) -> str:
    """A complete HTML document with a column or a curve a run, named by `names`. Parts without data are left out;
    where protocols or sets differ the page says so above everything else."""
    assert len(records) == len(names) > 0
    title = "Comparison of " + (", ".join(names) if len(names) < 4 else f"{len(names)} runs")
    return page(title, _header(records, names), _sections(records, names), scripts=[SORT_SCRIPT])


def run_names(records: Sequence[EvaluationRecord], stems: Sequence[str]) -> list[str]:
    """What to call the runs: their detectors where all differ, else the reports' file names, numbered where equal."""
    detectors = [record.detector for record in records]
    if len(set(detectors)) == len(detectors):
        return detectors
    seen: dict[str, int] = {}
    names = []
    for stem in stems:
        seen[stem] = seen.get(stem, 0) + 1
        names.append(stem if seen[stem] == 1 else f"{stem} ({seen[stem]})")
    return names


def _header(records: Sequence[EvaluationRecord], names: Sequence[str]) -> Html:
    rows: list[Row] = [
        [name, record.detector, record.weights, record.runtime, "; ".join(record.sets), record.measured_at]
        for record, name in zip(records, names, strict=True)
    ]
    headings = ["run", "detector", "weights", "runtime", "set", "measured"]
    protocols = {record.rule for record in records}
    timed = sum(any(metric.key.startswith("latency") for metric in record.metrics) for record in records) > 1
    shared = Html(
        '<div class="protocol"><p class="label">Protocol of all runs</p>'
        f'<p class="rule">{escape(records[0].rule)}</p></div>'
    )
    return join(
        [
            Html('<p class="kind">Comparison</p>'),
            Html(f"<h1>{escape(', '.join(names) if len(names) < 4 else f'{len(names)} runs')}</h1>"),
            table(headings, [("", rows)], "Runs"),
            shared if len(protocols) == 1 else "",
            *(_difference(what, read, records, names, "") for what, read in CONDITIONS),
            *(_difference(what, read, records, names, " speed") for what, read in SPEED_CONDITIONS if timed),
        ]
    )


def _difference(
    what: str,
    read: Callable[[EvaluationRecord], str],
    records: Sequence[EvaluationRecord],
    names: Sequence[str],
    of: str,
) -> Html:
    """A warning that names who has which; nothing where all agree."""
    owners: dict[str, list[str]] = {}
    for record, name in zip(records, names, strict=True):
        owners.setdefault(read(record) or "not said", []).append(name)
    if len(owners) < 2:
        return Html()
    told = ". ".join(f"{', '.join(members)}: {value}" for value, members in owners.items())
    return warning(f"The {what} differ: compare{of} with care. {told}.")


def _sections(records: Sequence[EvaluationRecord], names: Sequence[str]) -> list[Section]:
    sections = []
    for anchor, title, body in (
        ("figures", "Figures", _figures(records, names)),
        ("curves", "Precision over recall", _curves(records, names)),
        ("heights", HEIGHT_CHART, _heights(records, names)),
        ("events", "AP by event", _groups(records, names, ("event",), "AP by event")),
        ("attributes", "AP by attribute", _groups(records, names, ATTRIBUTES, "AP by attribute")),
    ):
        if body:
            sections.append(Section(anchor, title, body))
    return sections


def _figures(records: Sequence[EvaluationRecord], names: Sequence[str]) -> Html:
    shown = {metric.key: metric for record in reversed(records) for metric in record.metrics}
    order = dict.fromkeys(metric.key for record in records for metric in record.metrics)
    if not order:
        return Html()
    groups = []
    for title, keys in by_kind(order).items():
        rows: list[Row] = []
        for key in keys:
            values = [metric.value if (metric := record.metric(key)) else None for record in records]
            ranked = _is_one_race(records) or key == "size"
            rows.append([shown[key].display_name, *_cells(key, values, shown[key].unit, ranked), shown[key].unit])
        groups.append((title, rows))
    which = "the best of each row" if _is_one_race(records) else "the smaller network alone: protocols or sets differ"
    note = Html(f'<p class="note">A star marks {which}.</p>')
    return join([note, table(["metric", *names, "unit"], groups, "Figures of all runs")])


def _is_one_race(records: Sequence[EvaluationRecord]) -> bool:
    """Whether all were measured on the same sets by the same protocol, so that one can be the best."""
    return all(len({read(record) for record in records}) == 1 for _, read in CONDITIONS)


def _cells(key: str, values: Sequence[float | None], unit: str, ranked: bool) -> list[Cell]:
    """A cell a run; where they are ranked the best is marked, unless all that were measured are equal."""
    defined = [value for value in values if value is not None and math.isfinite(value)]
    cells = []
    for value in values:
        if value is None:
            cells.append(Cell(Html("&ndash;"), math.nan))
            continue
        rivals = [other for other in defined if figure(other, unit) != figure(value, unit)]
        best = (
            ranked and bool(rivals) and math.isfinite(value) and all(is_better(key, value, other) for other in rivals)
        )
        said = Html(f'{figure(value, unit)}<span class="unseen"> (best)</span>') if best else figure(value, unit)
        cells.append(Cell(said, value, "best" if best else ""))
    return cells


def _curves(records: Sequence[EvaluationRecord], names: Sequence[str]) -> Html:
    """A chart a subset. All runs keep their colour, also where one lacks the subset."""
    subsets = dict.fromkeys(curve.name for record in records for curve in drawable(record.curves))
    charts = []
    for subset in subsets:
        found = [next((c for c in drawable(record.curves) if c.name == subset), None) for record in records]
        lines = [
            Line(f"{name} (AP {100 * curve.ap:.2f} %)", curve.recall, curve.precision) if curve else Line(name, (), ())
            for name, curve in zip(names, found, strict=True)
        ]
        charts.append(line_chart(subset, lines, "recall", "precision"))
    return Html(f'{legend(names)}\n<div class="charts">\n{join(charts)}\n</div>') if charts else Html()


def _heights(records: Sequence[EvaluationRecord], names: Sequence[str]) -> Html:
    known = [heights(record) for record in records]
    categories = list(dict.fromkeys(name for run in known for name in run))
    if not categories:
        return Html()
    bars = [
        Bars(name, [run.get(category, math.nan) for category in categories])
        for name, run in zip(names, known, strict=True)
    ]
    ranked = _is_one_race(records)
    rows: list[Row] = [[name, *_cells("ap", [run.get(name) for run in known], "%", ranked)] for name in categories]
    chart = join([bar_chart("AP, per cent", categories, bars, "AP"), legend(names, solid=True)])
    return beside(chart, table(["faces", *names], [("", rows)], HEIGHT_CHART))


def _groups(records: Sequence[EvaluationRecord], names: Sequence[str], groups: Sequence[str], label: str) -> Html:
    """AP of every group beside each other, in one table."""
    parts: list[tuple[str, list[Row]]] = []
    for group in groups:
        known = [{row.name: row for row in record.groups if row.group == group} for record in records]
        rows: list[Row] = []
        for name in dict.fromkeys(name for run in known for name in run):
            faces = max(run[name].faces for run in known if name in run)
            aps = [run[name].ap if name in run else None for run in known]
            rows.append([name, Cell(f"{faces:,}", faces), *_cells("ap", aps, "%", _is_one_race(records))])
        if rows:
            parts.append((group if len(groups) > 1 else "", rows))
    if not parts:
        return Html()
    first = groups[0] if len(groups) == 1 else "faces"
    content = table([first, "number", *names], parts, label, sortable=True)
    count = sum(len(rows) for _, rows in parts)
    return folded(f"All {count}", content) if count > LONG_TABLE else content
