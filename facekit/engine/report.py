"""Figures on the screen and in metrics.yaml, always beside the protocol that they were measured with."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from facekit.engine.record import Metric
from facekit.errors import FacekitError
from facekit.files import write_text
from facekit.template import Template


def format_table(metrics: Sequence[Metric], template: Template, protocol: str) -> str:
    """A table of the metrics beside the template's published ones."""
    published = {metric.key: metric.value for metric in template.metrics}
    rows = [("metric", "measured", "published", "unit")]
    for metric in metrics:
        known = f"{published[metric.key]:.3f}" if metric.key in published else "-"
        rows.append((metric.display_name, metric.text(3), known, metric.unit))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        f"{row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:>{widths[2]}}  {row[3]:<{widths[3]}}".rstrip()
        for row in rows
    ]
    lines.insert(1, "-" * len(lines[0]))
    return "\n".join([*lines, f"protocol: {protocol}"])


def read_metrics(path: Path) -> dict[str, Any]:
    """An existing metrics.yaml; empty where there is none. Raises FacekitError where the file is something else."""
    content: dict[str, Any] = {}
    if path.exists():
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except (yaml.YAMLError, OSError, ValueError, LookupError, AttributeError, RecursionError) as error:
            raise FacekitError(
                f"{path}: exists and can't be read as YAML. Remove it or choose another file."
            ) from error
        if not isinstance(content, dict):
            raise FacekitError(f"{path}: exists and is no metrics file. Remove it or choose another file.")
    return content


def write_metrics(path: Path, weights: Path, metrics: Sequence[Metric], protocol: str) -> None:
    """Writes `files`, `metrics` and `protocol` into metrics.yaml; other keys of an existing file are kept.

    Raises FacekitError where an existing file is no YAML mapping or the disk refuses.
    """
    content = read_metrics(path)
    parts = [weights]
    if weights.suffix in (".xml", ".bin"):
        parts = [weights.with_suffix(".xml"), weights.with_suffix(".bin")]
    content["files"] = [
        {
            "name": part.name,
            "sha256": hashlib.sha256(part.read_bytes()).hexdigest(),
            "size": part.stat().st_size,
            "source": str(part),
        }
        for part in parts
    ]
    content["metrics"] = [
        {"display_name": metric.display_name, "key": metric.key, "unit": metric.unit, "value": metric.rounded()}
        for metric in metrics
    ]
    content["protocol"] = protocol
    write_text(path, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
