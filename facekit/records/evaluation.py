"""What one evaluation found, whole: figures, the curves behind them, and how they were measured."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from typing import Annotated, Any

from facekit.base.schema import NullIsNan, from_plain
from facekit.errors import FacekitError

VERSION = 1  # of the json; raised when old readers would misread it
MAX_JSON_CHARACTERS = 2 << 20  # ten times what the largest evaluation needs

Figure = Annotated[float, NullIsNan()]  # NaN where it is not defined, such as AP without a single face


def rounded(value: float) -> float | None:
    """A figure as files hold it: 3 decimals; None where it is not defined."""
    return None if math.isnan(value) else round(value, 3)


@dataclass(frozen=True)
class Metric:
    """One row of metrics.yaml."""

    key: str
    display_name: str
    unit: str
    value: Figure  # NaN: not defined on these pictures, such as AP without a single face

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
    recall: tuple[Figure, ...]  # 0..1
    precision: tuple[Figure, ...]  # 0..1
    ap: Figure  # 0..1, of the whole curve (the points may be fewer)

    def __post_init__(self) -> None:
        if len(self.recall) != len(self.precision):
            raise ValueError(f"curve {self.name!r}: as many points of recall as of precision are needed")


@dataclass(frozen=True)
class GroupRow:
    """AP of the faces of one group: a height, a WIDER event, a value of a WIDER attribute."""

    group: str  # height, event, blur, expression, illumination, occlusion, pose
    name: str  # such as "over 32 px", "Parade", "heavy"
    faces: int  # that count
    ap: Figure  # per cent; NaN without a face


@dataclass(frozen=True)
class CalibrationBin:
    """Detections whose scores lie in one range, and how many of them hit a face at IoU 0.5."""

    low: float
    high: float
    detections: int
    mean_score: Figure  # NaN in an empty bin
    precision: Figure  # 0..1; NaN in an empty bin


@dataclass(frozen=True)
class ThresholdRow:
    """What a user of the detector gets who keeps the faces over one score."""

    score_threshold: float
    precision_percent: Figure  # NaN where nothing is kept
    recall_percent: Figure  # NaN without a face, as F1
    f1_percent: Figure
    false_positives_per_picture: Figure
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
    published: dict[str, Figure] = field(default_factory=dict)  # metric key -> the template's, of this set and protocol
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
    return json.dumps({"facekit_evaluation": VERSION, **without_nan(content)}, allow_nan=False)


def from_json(text: str, where: str) -> EvaluationRecord:
    """The record that to_json wrote; keys that later versions add are passed over, those that earlier ones lacked have
    their defaults. Raises FacekitError that names `where` for anything else: files come from anybody."""
    remedy = "Give a report that `facekit eval --report` wrote."
    try:
        if len(text) > MAX_JSON_CHARACTERS:
            raise ValueError(f"over {MAX_JSON_CHARACTERS} characters")
        content = json.loads(text, parse_constant=_no_constant)
        if not isinstance(content, dict) or content.get("facekit_evaluation") != VERSION:
            raise ValueError(f"not of version {VERSION}")
        known = {part.name for part in dataclasses.fields(EvaluationRecord)} - {"crops"}
        plain = {name: value for name, value in content.items() if name in known}
        record: EvaluationRecord = from_plain(EvaluationRecord, plain, "evaluation")
    except (ValueError, RecursionError) as error:
        raise FacekitError(f"{where}: holds no evaluation ({error}). {remedy}") from error
    return record


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def without_nan(value: Any) -> Any:
    """Plain data with None in place of numbers that JSON has no words for."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return value
