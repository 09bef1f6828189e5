"""What one evaluation found, whole: figures, the curves behind them, and how they were measured."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from typing import Any

from facekit.errors import FacekitError

VERSION = 1  # of the json; raised when old readers would misread it


def rounded(value: float) -> float | None:
    """A figure as files hold it: 3 decimals; None where it is not defined."""
    return None if math.isnan(value) else round(value, 3)


@dataclass(frozen=True)
class Metric:
    """One row of metrics.yaml."""

    key: str
    display_name: str
    unit: str
    value: float  # NaN: not defined on these pictures, such as AP without a single face

    def text(self, digits: int) -> str:
        """The value for people."""
        return "n/a" if math.isnan(self.value) else f"{self.value:.{digits}f}"

    def rounded(self) -> float | None:
        """The value for files."""
        return rounded(self.value)


@dataclass(frozen=True)
class CurvePoints:
    """Precision over recall of one subset; the same number of points in both, recall never falling."""

    name: str  # easy, medium, hard; or what one set was measured by, such as "IoU 0.5"
    recall: tuple[float, ...]  # 0..1
    precision: tuple[float, ...]  # 0..1
    ap: float  # 0..1, of the whole curve (the points may be fewer)


@dataclass(frozen=True)
class GroupRow:
    """AP of the faces of one group: a height, a WIDER event, a value of a WIDER attribute."""

    group: str  # height, event, blur, expression, illumination, occlusion, pose
    name: str  # such as "over 32 px", "Parade", "heavy"
    faces: int  # that count
    ap: float  # per cent; NaN without a face


@dataclass(frozen=True)
class CalibrationBin:
    """Detections whose scores lie in one range, and how many of them hit a face at IoU 0.5."""

    low: float
    high: float
    detections: int
    mean_score: float  # NaN in an empty bin
    precision: float  # 0..1; NaN in an empty bin


@dataclass(frozen=True)
class ThresholdRow:
    """What a user of the detector gets who keeps the faces over one score."""

    score_threshold: float
    precision_percent: float  # NaN where nothing is kept
    recall_percent: float  # NaN without a face, as F1
    f1_percent: float
    false_positives_per_picture: float
    is_best_f1: bool  # the one to choose where misses and false positives weigh the same


@dataclass(frozen=True)
class Crop:
    """One mistake to look at."""

    kind: str  # "miss" or "false positive"
    picture: str  # its name in the data set
    box_xyxy: tuple[float, float, float, float]  # pixels of the picture
    score: float  # of the false positive; of a miss, the best score of a detection that touches it, 0 for none
    jpeg: bytes  # the face and its surroundings, the box drawn


@dataclass(frozen=True)
class EvaluationRecord:
    """One run of `facekit eval`."""

    detector: str  # the template's name
    summary: str  # what the template says of itself
    weights: str  # the file's name
    weights_sha256: str
    runtime: str  # pth, onnx, xml, bin
    protocol: str  # stands beside every figure: how, on which sets, in which runtime
    sets: tuple[str, ...]  # what was measured on, such as "12 labelled pictures, 34 faces (labels.json)"
    measured_at: str  # 2026-11-22 09:30 UTC
    versions: dict[str, str]  # of facekit, python, torch, ...
    machine: str
    metrics: tuple[Metric, ...]
    published: dict[str, float] = field(default_factory=dict)  # metric key -> the template's, of this set and protocol
    curves: tuple[CurvePoints, ...] = ()
    groups: tuple[GroupRow, ...] = ()
    calibration: tuple[CalibrationBin, ...] = ()
    crops: tuple[Crop, ...] = ()  # worst first of each kind; not kept in json
    published_note: str = ""  # of which set the template's other figures are, which don't stand here; "" for none
    thresholds: tuple[ThresholdRow, ...] = ()  # ascending

    def metric(self, key: str) -> Metric | None:
        """The row of that key, where it was measured."""
        return next((metric for metric in self.metrics if metric.key == key), None)

    @property
    def rule(self) -> str:
        """The protocol without the sets and the runtime that end it: what figures of different sets have in common."""
        rule = self.protocol.removesuffix(f"; {self.runtime}")
        return rule.removesuffix(f"; {', '.join(self.sets)}")

    @property
    def best_f1(self) -> ThresholdRow | None:
        """The threshold to advise, where there is one."""
        return next((row for row in self.thresholds if row.is_best_f1), None)


def to_json(record: EvaluationRecord) -> str:
    """Everything but the crops, as strict JSON in ASCII: what is not defined (NaN) becomes null."""
    content = dataclasses.asdict(dataclasses.replace(record, crops=()))
    return json.dumps({"facekit_evaluation": VERSION, **_without_nan(content)}, allow_nan=False)


def from_json(text: str, where: str) -> EvaluationRecord:
    """The record that to_json wrote. Raises FacekitError that names `where` for anything else: files come from
    anybody."""
    remedy = "Give a report that `facekit eval --report` wrote."
    try:
        content = json.loads(text, parse_constant=_no_constant)
        if content.pop("facekit_evaluation") != VERSION:
            raise ValueError(f"not of version {VERSION}")
        parts = {
            "metrics": Metric, "curves": CurvePoints, "groups": GroupRow, "calibration": CalibrationBin,
            "thresholds": ThresholdRow,
        }  # fmt: skip
        for name, kind in parts.items():
            content[name] = tuple(_build(kind, row) for row in _of_type(list, content.get(name, []), name))
        record: EvaluationRecord = _build(EvaluationRecord, {**content, "crops": ()})
        for curve in record.curves:
            if len(curve.recall) != len(curve.precision):
                raise ValueError(f"curve {curve.name!r}: as many points of recall as of precision are needed")
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise FacekitError(f"{where}: holds no evaluation ({type(error).__name__}: {error}). {remedy}") from error
    return record


def _build(kind: type[Any], row: Any) -> Any:
    """A dataclass of a JSON object, each value of the type that its field has; null is NaN where a number belongs."""
    fields = _of_type(dict, row, kind.__name__)
    needed = [part for part in dataclasses.fields(kind) if part.name in fields or part.default is dataclasses.MISSING]
    return kind(**{part.name: _read(str(part.type), fields[part.name], part.name) for part in needed})


def _read(kind: str, value: Any, name: str) -> Any:
    if kind == "float":
        return _number(value, name)
    if kind == "int":
        return int(_of_type(int, value, name))
    if kind == "bool":
        if not isinstance(value, bool):
            raise ValueError(f"{name}: expected true or false, got {str(value)[:50]!r}")
        return value
    if kind == "str":
        return _of_type(str, value, name)
    if kind == "tuple[float, ...]":
        return tuple(_number(number, name) for number in _of_type(list, value, name))
    if kind == "tuple[str, ...]":
        return tuple(_of_type(str, text, name) for text in _of_type(list, value, name))
    if kind == "dict[str, str]":
        return {key: _of_type(str, text, name) for key, text in _of_type(dict, value, name).items()}
    if kind == "dict[str, float]":
        return {key: _number(number, name) for key, number in _of_type(dict, value, name).items()}
    return value  # dataclasses, built before


def _of_type(kind: type[Any], value: Any, name: str) -> Any:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"{name}: expected {kind.__name__}, got {str(value)[:50]!r}")
    return value


def _number(value: Any, name: str) -> float:
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name}: expected a finite number, got {str(value)[:50]!r}")
    return float(value)


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _without_nan(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return value
