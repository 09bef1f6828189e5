"""Figures on the screen and in metrics.yaml, always beside the protocol that they were measured with."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import yaml

from facekit.base.files import write_text
from facekit.base.reading import read_text
from facekit.errors import FacekitError
from facekit.metrics.coco import MAX_DETECTIONS
from facekit.records.evaluation import EvaluationRecord, ThresholdRow, rounded
from facekit.targets.table import files_of

MAX_YAML_BYTES = 1_000_000  # of a metrics.yaml; a usual one has some kilobytes


def format_table(record: EvaluationRecord, weights: Path) -> str:
    """The metrics, beside the template's published ones of the same set and protocol; below them the score threshold of
    the best F1, the weights and the protocol."""
    rows = [("metric", "measured", "published", "unit")]
    for metric in record.metrics:
        known = f"{record.published[metric.key]:.3f}" if metric.key in record.published else "-"
        rows.append((metric.display_name, metric.text(3), known, metric.unit))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        f"{row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:>{widths[2]}}  {row[3]:<{widths[3]}}".rstrip()
        for row in rows
    ]
    lines.insert(1, "-" * len(lines[0]))
    lines += [f"best F1: {_threshold_words(record.best_f1)}"] if record.best_f1 else []
    lines += [f"published: {record.published_note}"] if record.published_note else []
    of = "" if weights.name == record.weights else f" of {record.weights}"
    if any(metric.key == "ap" for metric in record.metrics):
        lines += [f"COCO AP counts the best {MAX_DETECTIONS} boxes a picture, as pycocotools does"]
    lines += [f"weights: {weights} ({record.runtime}; SHA-256{of} {record.weights_sha256[:16]}...)"]
    return "\n".join([*lines, f"protocol: {record.protocol}"])


def _threshold_words(row: ThresholdRow) -> str:
    shares = (("precision", row.precision_percent), ("recall", row.recall_percent), ("F1", row.f1_percent))
    told = ", ".join(f"{name} {value:.2f} %" for name, value in shares)
    return (
        f"score threshold {row.score_threshold:g} ({told}, {row.false_positives_per_picture:.3g} false positives a "
        f"picture; IoU 0.5)"
    )


def read_metrics(path: Path) -> dict[str, Any]:
    """An existing metrics.yaml; empty where there is none. Raises FacekitError where the file is something else."""
    content: dict[str, Any] = {}
    if path.exists():
        text = read_text(path, MAX_YAML_BYTES, "Remove it or choose another file.")
        try:
            content = yaml.safe_load(text) or {}
        except (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError) as error:
            raise FacekitError(
                f"{path}: exists and can't be read as YAML. Remove it or choose another file."
            ) from error
        if not isinstance(content, dict) or not (content == {} or _has_metrics(content)):
            raise FacekitError(f"{path}: exists and is no metrics file. Remove it or choose another file.")
    return content


def _has_metrics(content: dict[str, Any]) -> bool:
    """Unlike somebody's settings, or a template, which has metrics too: they would lose comments and keys."""
    rows = content.get("metrics")
    if isinstance(content.get("model"), dict) or not isinstance(rows, list):
        return False
    return all(isinstance(row, dict) and {"key", "value"} <= row.keys() for row in rows)


def weight_files(weights: Path) -> list[dict[str, Any]]:
    """name, sha256, size and source of each file that the weights consist of."""
    return [
        {
            "name": part.name,
            "sha256": hashlib.sha256(part.read_bytes()).hexdigest(),
            "size": part.stat().st_size,
            "source": str(part),
        }
        for part in files_of(weights)
    ]


def write_metrics(path: Path, weights: Path, record: EvaluationRecord) -> None:
    """Writes `files`, `metrics`, `protocol`, `groups` and `thresholds` into metrics.yaml; other keys of an existing
    file are kept.

    Raises FacekitError where an existing file is no metrics.yaml or the disk refuses.
    """
    content = read_metrics(path)
    content["files"] = weight_files(weights)
    content["metrics"] = [
        {"display_name": metric.display_name, "key": metric.key, "unit": metric.unit, "value": metric.rounded()}
        for metric in record.metrics
    ]
    content["protocol"] = record.protocol
    content["groups"] = [
        {"group": row.group, "name": row.name, "faces": row.faces, "ap": rounded(row.ap)} for row in record.groups
    ]
    content["thresholds"] = [
        {name: value if isinstance(value, bool) else rounded(value) for name, value in dataclasses.asdict(row).items()}
        | {"score_threshold": row.score_threshold}
        for row in record.thresholds
    ]
    write_text(path, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
