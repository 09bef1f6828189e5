"""The page of one evaluation, which other programs can read the figures back from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from facekit.base.reading import read_text
from facekit.errors import FacekitError
from facekit.pages.charts import Bars, Line, bar_chart, calibration_chart, legend, line_chart
from facekit.pages.figures import (
    ATTRIBUTES,
    HEIGHT_CHART,
    LOWER_IS_BETTER,
    by_kind,
    drawable,
    figure,
    heights,
)
from facekit.pages.shell import (
    SORT_SCRIPT,
    Cell,
    Html,
    Row,
    Section,
    beside,
    data_block,
    data_start,
    definitions,
    escape,
    folded,
    join,
    jpeg_image,
    meter,
    page,
    table,
)
from facekit.records.evaluation import Crop, CurvePoints, EvaluationRecord, GroupRow, Metric, from_json, to_json

DATA_ID = "facekit-evaluation"
MAX_PAGE_BYTES = 32 << 20  # of a page that is read back; a usual one has a megabyte
CARDS = ("widerface_e", "widerface_m", "widerface_h", "ap", "ap_64x64", "latency_p50")  # the first four that there are
LONG_TABLE = 16  # rows; longer tables are folded


def evaluation_page(record: EvaluationRecord) -> str:
    """A complete HTML document: the record's figures, curves and mistakes. Parts without data are left out."""
    return page(
        f"{record.detector}: evaluation",
        _header(record),
        _sections(record),
        scripts=[SORT_SCRIPT],
        data=data_block(DATA_ID, to_json(record)),
    )


def read_record(path: Path) -> EvaluationRecord:
    """The record within a page that evaluation_page made, without its crops. The page is not run.

    Raises FacekitError for anything else.
    """
    remedy = "Give a page that `facekit eval --report` wrote."
    text = read_text(path, MAX_PAGE_BYTES, remedy)
    # Nothing else on a page can look like this: text is escaped, so it holds no `<`.
    _, start, rest = text.partition(data_start(DATA_ID))
    content, end, _ = rest.partition("</script>")
    if not start or not end:
        raise FacekitError(f"{path}: no evaluation in it. {remedy}")
    return from_json(content, str(path))


def _header(record: EvaluationRecord) -> Html:
    digest = f" (SHA-256 {record.weights_sha256[:16]}\N{HORIZONTAL ELLIPSIS})" if record.weights_sha256 else ""
    facts = definitions(
        [
            ("Weights", f"{record.weights}{digest}"),
            ("Runtime", record.runtime),
            ("Measured", record.measured_at),
            ("Set", "; ".join(record.sets)),
        ]
    )
    return join(
        [
            Html('<p class="kind">Evaluation</p>'),
            Html(f"<h1>{escape(record.detector)}</h1>"),
            Html(f'<p class="lead">{escape(record.summary)}</p>' if record.summary else ""),
            facts,
            Html(
                f'<div class="protocol"><p class="label">Protocol: every figure below holds for this alone</p>'
                f'<p class="rule">{escape(record.protocol)}</p></div>'
            ),
            _cards(record),
        ]
    )


def _cards(record: EvaluationRecord) -> Html:
    found = [metric for key in CARDS if (metric := record.metric(key)) is not None][:4]
    rows = [_card(metric, record.published.get(metric.key)) for metric in found]
    return Html(f'<ul class="cards">\n{join(rows)}\n</ul>' if rows else "")


def _card(metric: Metric, published: float | None) -> Html:
    beside = f'<span class="small">published {figure(published, metric.unit)}</span>' if published is not None else ""
    return Html(
        f'<li><span class="name">{escape(metric.display_name)}</span><span class="value">'
        f'{figure(metric.value, metric.unit)} <span class="unit">{escape(metric.unit)}</span></span>{beside}</li>'
    )


def _sections(record: EvaluationRecord) -> list[Section]:
    curves, by_height = drawable(record.curves), heights(record)
    sections = []
    if record.metrics:
        sections.append(Section("figures", "Figures", _metric_table(record)))
    if curves:
        sections.append(Section("curves", "Precision and recall", _curves(curves)))
    if record.thresholds:
        sections.append(Section("thresholds", "Which score to keep", _thresholds(record)))
    if by_height:
        sections.append(Section("heights", HEIGHT_CHART, _heights(record, by_height)))
    for anchor, title, groups in (("events", "AP by event", ("event",)), ("attributes", "AP by attribute", ATTRIBUTES)):
        rows = {group: [row for row in record.groups if row.group == group] for group in groups}
        if any(rows.values()):
            sections.append(Section(anchor, title, _group_table(title, rows)))
    if any(row.detections for row in record.calibration):
        sections.append(Section("calibration", "What the scores are worth", _calibration(record)))
    for anchor, title, kind, note in (
        ("misses", "Worst misses", "miss", "Faces that were not found, the largest first."),
        ("false-positives", "Worst false positives", "false positive", "Detections without a face, the surest first."),
    ):
        crops = [crop for crop in record.crops if crop.kind == kind]
        if crops:
            sections.append(Section(anchor, title, _crops(crops, note)))
    sections.append(Section("provenance", "How it was measured", _provenance(record)))
    return sections


def _metric_table(record: EvaluationRecord) -> Html:
    metrics = {metric.key: metric for metric in record.metrics}
    groups = [
        (title, [_metric_row(metrics[key], record.published.get(key)) for key in keys])
        for title, keys in by_kind(metrics).items()
    ]
    note = Html(f'<p class="note">{escape(record.published_note)}</p>' if record.published_note else "")
    if not any(key in record.published for key in metrics):
        groups = [(title, [[*row[:2], row[4]] for row in rows]) for title, rows in groups]
        return join([table(["metric", "measured", "unit"], groups, "Figures"), note])
    headings = ["metric", "measured", "published", "difference", "unit"]
    return join([table(headings, groups, "Figures beside the published ones"), note])


def _metric_row(metric: Metric, published: float | None) -> list[Cell | str]:
    measured = Cell(figure(metric.value, metric.unit), metric.value)
    if published is None:
        compared = [Cell(Html("&ndash;"), float("nan")), Cell(Html("&ndash;"), float("nan"))]
    else:
        difference = metric.value - published
        better = difference < 0 if LOWER_IS_BETTER.fullmatch(metric.key) else difference > 0
        # Within rounding of what is shown there is no better and no worse.
        kind = "" if not abs(difference) >= 0.005 else "up" if better else "down"
        compared = [
            Cell(figure(published, metric.unit), published),
            Cell(figure(difference, metric.unit, signed=True), difference, kind),
        ]
    return [metric.display_name, measured, *compared, metric.unit]


def _curves(curves: Sequence[CurvePoints]) -> Html:
    names = [curve.name for curve in curves]
    lines = [Line(curve.name, curve.recall, curve.precision) for curve in curves]
    rows: list[Row] = [[curve.name, _per_cent(curve.ap), _per_cent(max(curve.recall))] for curve in curves]
    chart = join([line_chart("Precision over recall", lines, "recall", "precision"), legend(names)])
    return beside(chart, table(["subset", "AP, %", "highest recall, %"], [("", rows)], "AP by subset"))


def _thresholds(record: EvaluationRecord) -> Html:
    rows: list[Row] = []
    for row in record.thresholds:
        said = Html(f'{row.score_threshold:g}<span class="unseen"> (best F1)</span>' if row.is_best_f1 else
                    f"{row.score_threshold:g}")  # fmt: skip
        shares = (row.precision_percent, row.recall_percent, row.f1_percent)
        rows.append([
            Cell(said, row.score_threshold, "best" if row.is_best_f1 else ""),
            *(Cell(figure(share, "%"), share) for share in shares),
            Cell(figure(row.false_positives_per_picture, ""), row.false_positives_per_picture),
        ])  # fmt: skip
    best = record.best_f1
    advice = (
        f"On this set {best.score_threshold:g}, with the star, gives the best F1, which weighs a face missed like a "
        f"false positive. "
        f"Where one of them costs more, take another row. "
        if best
        else "No face was found, so there is none to advise. "
    )
    about = (
        "What is kept are the faces whose score is over the threshold (score_threshold in the template, --threshold of "
        "the commands). A face is found at IoU 0.5, the surest detection first; crowds are neither missed nor wrong. "
        "Another set may ask for another threshold."
    )
    headings = ["score over", "precision, %", "recall, %", "F1, %", "false positives a picture"]
    return join([Html(f'<p class="note">{advice}{about}</p>'), table(headings, [("", rows)], "Score thresholds")])


def _per_cent(share: float) -> Cell:
    return Cell(figure(100 * share, "%"), 100 * share)


def _heights(record: EvaluationRecord, by_height: dict[str, float]) -> Html:
    chart = bar_chart("AP, per cent", list(by_height), [Bars(record.detector, list(by_height.values()))], "AP")
    rows = [row for row in record.groups if row.group == "height"]
    return beside(chart, _group_table(HEIGHT_CHART, {"height": rows})) if rows else chart


def _group_table(title: str, rows: dict[str, list[GroupRow]]) -> Html:
    """A table with a heading a group, where there are several groups."""
    groups = [(name if len(rows) > 1 else "", [_group_row(row) for row in part]) for name, part in rows.items() if part]
    first = "event" if "event" in rows else "faces"
    content = table([first, "number", "AP, %"], groups, title, sortable=True)
    members = [row for part in rows.values() for row in part]
    if len(members) <= LONG_TABLE:
        return content
    ranked = sorted((row for row in members if math.isfinite(row.ap)), key=lambda row: row.ap)
    ends = [(word, ", ".join(f"{row.name} {figure(row.ap, '%')}" for row in part)) for word, part in
            (("Lowest", ranked[:3]), ("highest", ranked[:-4:-1])) if part]  # fmt: skip
    note = "; ".join(f"{word}: {names}" for word, names in ends)
    return join([Html(f"<p>{escape(note)}.</p>") if note else "", folded(f"All {len(members)}", content)])


def _group_row(row: GroupRow) -> list[Cell | str]:
    drawn = Html(f"{meter(row.ap)}{figure(row.ap, '%')}")
    return [row.name, Cell(f"{row.faces:,}", row.faces), Cell(drawn, row.ap)]


def _calibration(record: EvaluationRecord) -> Html:
    rows: list[Row] = [
        [
            f"{row.low:.2f} to {row.high:.2f}",
            Cell(f"{row.detections:,}", row.detections),
            Cell(figure(row.mean_score, ""), row.mean_score),
            Cell(figure(row.precision, ""), row.precision),
        ]
        for row in record.calibration
    ]
    note = Html(
        '<p class="note">Detections by their score, and the share of them that hit a face at IoU 0.5. On the dashed '
        "line a score of 0.8 is right in 80 of 100 cases; the counts are on a logarithmic scale.</p>"
    )
    figures = table(["score", "detections", "mean score", "precision"], [("", rows)], "Calibration")
    return join([note, beside(calibration_chart("Precision by score", record.calibration), figures)])


def _crops(crops: Sequence[Crop], note: str) -> Html:
    return Html(
        f'<p class="note">{escape(note)}</p>\n<div class="crops">\n{join(_crop(crop) for crop in crops)}\n</div>'
    )


def _crop(crop: Crop) -> Html:
    x1, y1, x2, y2 = crop.box_xyxy
    size = f"{x2 - x1:.0f} \N{MULTIPLICATION SIGN} {y2 - y1:.0f} px"
    if crop.kind == "miss":
        score = f"best score {crop.score:.2f}" if crop.score > 0 else "nothing found"
    else:
        score = f"score {crop.score:.2f}"
    alt = f"{crop.kind} in {crop.picture}, {size}"
    caption = f"<b>{escape(score)}</b><br>{escape(size)}<br>{escape(crop.picture).replace('/', '/<wbr>')}"
    return Html(f"<figure>{jpeg_image(crop.jpeg, alt)}<figcaption>{caption}</figcaption></figure>")


def _provenance(record: EvaluationRecord) -> Html:
    digest = Html(f"<code>{escape(record.weights_sha256)}</code>" if record.weights_sha256 else "")
    versions = ", ".join(f"{name} {version}" for name, version in record.versions.items())
    return definitions(
        [
            ("Protocol", record.protocol),
            ("Machine", record.machine),
            ("Versions", versions),
            ("SHA-256 of the weights", digest),
        ]
    )
