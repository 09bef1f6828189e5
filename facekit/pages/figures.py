"""How a record's figures are told: their order, their digits, and which direction is better."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from facekit.records.evaluation import CurvePoints, EvaluationRecord, Metric

# The first kind whose expression is a metric's whole key takes it.
METRIC_KINDS = (
    ("Accuracy", r"ap|ap_50.*|ap_64x64|widerface_[emh]"),
    ("AP by least face height", r"ap_h\d+"),
    ("Recall at false positives a picture", r"recall_fp_.*"),
    ("Landmarks", r"nme.*|landmark.*"),
    ("Calibration", r"ece|calibration.*"),
    ("Speed", r"latency.*|fps.*"),
    ("Network", r"size|complexity"),
    ("Further", r".*"),
)
LOWER_IS_BETTER = re.compile(r"nme.*|ece|calibration.*|latency.*|size|complexity")
ATTRIBUTES = ("blur", "expression", "illumination", "occlusion", "pose")  # groups of WIDER; "height", "event" besides
HEIGHT_CHART = "AP by face height"


def metric_kind(key: str) -> str:
    """The heading that a metric stands under."""
    return next(title for title, expression in METRIC_KINDS if re.fullmatch(expression, key, re.DOTALL))


def by_kind(keys: Iterable[str]) -> dict[str, list[str]]:
    """Kinds in their order, each with its keys in theirs; kinds without any are left out."""
    keys = list(keys)
    kinds = {title: [key for key in keys if metric_kind(key) == title] for title, _ in METRIC_KINDS}
    return {title: members for title, members in kinds.items() if members}


def figure(value: float, unit: str, signed: bool = False) -> str:
    """Per cents, milliseconds and what is ten or more with two decimals, smaller things with three."""
    if not math.isfinite(value):
        return "n/a"
    digits = 2 if unit in ("%", "ms") or abs(value) >= 10 else 3
    shown = round(value, digits) + 0.0  # no sign for what rounds to zero
    sign = "+" if signed and shown else ""
    return f"{shown:{sign}.{digits}f}".replace("-", "\N{MINUS SIGN}")


def is_better(key: str, value: float, other: float) -> bool:
    """Whether value beats other; what is not defined beats nothing."""
    return value < other if LOWER_IS_BETTER.fullmatch(key) else value > other


def heights(record: EvaluationRecord) -> dict[str, float]:
    """AP by face height, from the groups, else from the metrics ap_h10, ap_h32, ...; empty where there is neither."""
    grouped = {row.name: row.ap for row in record.groups if row.group == "height"}
    return grouped or {_least_height(row): row.value for row in record.metrics if _least_height(row)}


def _least_height(metric: Metric) -> str:
    found = re.fullmatch(r"ap_h(\d+)", metric.key)
    return f"over {found[1]} px" if found else ""


def drawable(curves: Iterable[CurvePoints]) -> list[CurvePoints]:
    """Those that have points."""
    return [curve for curve in curves if curve.recall and len(curve.recall) == len(curve.precision)]
