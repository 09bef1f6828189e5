"""What check found, as text for people and as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from facekit.base.files import write_text
from facekit.datasets.check import SEVERITIES, WHOLE_SET, Checked
from facekit.labels.picture_labels import PictureLabels
from facekit.labels.picture_paths import explain_missing

HEIGHT_EDGES_PX = (1, 8, 16, 32, 64, 128, 256)  # the last range is open
_BAR = 40  # characters of the longest bar
_SHOWN = 110  # characters of a finding


def statistics(pictures: Sequence[PictureLabels]) -> dict[str, Any]:
    """Counts, and faces by height in pixels."""
    heights = np.concatenate([np.empty(0), *(picture.boxes_xywh[:, 3] for picture in pictures)])
    labelled = [np.isfinite(picture.landmarks_xy).all(axis=(1, 2)) for picture in pictures]
    per_picture = [len(picture.boxes_xywh) for picture in pictures]
    # A height below 1 has no range here: such faces are counted among all, and mostly are defects.
    ranges: dict[str, tuple[float, float]]
    ranges = {f"{low}-{high}": (low, high) for low, high in pairwise(HEIGHT_EDGES_PX)}
    ranges[f"{HEIGHT_EDGES_PX[-1]}+"] = (HEIGHT_EDGES_PX[-1], np.inf)
    return {
        "pictures": len(pictures),
        "faces": len(heights),
        "crowds": sum(int(picture.is_crowd.sum()) for picture in pictures),
        "faces_with_landmarks": int(sum(mask.sum() for mask in labelled)),
        "faces_a_picture": {
            "mean": round(float(np.mean(per_picture)), 2) if per_picture else 0.0,
            "median": float(np.median(per_picture)) if per_picture else 0.0,
            "most": max(per_picture, default=0),
        },
        "face_heights_px": {
            name: int(((heights >= low) & (heights < high)).sum()) for name, (low, high) in ranges.items()
        },
    }


def format_report(checked: Checked) -> str:
    """A table of the kinds found with their first example, the counts, and a histogram of the faces' heights."""
    figures = statistics(checked.pictures)
    spread = figures["faces_a_picture"]
    crowds = f"; crowds or difficult: {figures['crowds']}" if figures["crowds"] else ""
    counts = checked.counts()
    whole = [str(finding) for finding in checked.findings if finding.picture == WHOLE_SET]
    missing = explain_missing(checked.pictures) if counts.get("missing-picture") else None
    return "\n".join(
        [
            *_table(checked),
            *(["", missing] if missing else []),
            *(["", *whole] if whole else []),
            "",
            f"{figures['pictures']} pictures, {figures['faces']} faces, "
            f"{figures['faces_with_landmarks']} with landmarks; "
            f"faces a picture: mean {spread['mean']:g}, median {spread['median']:g}, most {spread['most']}{crowds}",
            "",
            "face height, px",
            *_histogram(figures["face_heights_px"]),
        ]
    )


def to_json(checked: Checked) -> dict[str, Any]:
    """Everything, every finding included."""
    return {
        "statistics": statistics(checked.pictures),
        "counts": checked.counts(),
        "findings": [
            {
                "kind": finding.kind,
                "severity": finding.severity,
                "picture": finding.picture,
                "face": finding.face,
                "expected": finding.expected,
                "got": finding.got,
            }
            for finding in checked.findings
        ],
    }


def write_json(checked: Checked, path: Path) -> None:
    """to_json as a file, whole or not at all."""
    write_text(path, json.dumps(to_json(checked), indent=1) + "\n")


def _table(checked: Checked) -> list[str]:
    counts = checked.counts()
    if not counts:
        return ["Nothing found."]
    first = {finding.kind: finding for finding in reversed(checked.findings)}
    rows = [("kind", "severity", "count", "first")]
    rows += [(kind, SEVERITIES[kind], str(count), _shorten(str(first[kind]))) for kind, count in counts.items()]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}  {d}" for a, b, c, d in rows]
    return [lines[0], "-" * len(lines[0]), *lines[1:]]


def _histogram(counts: dict[str, int]) -> list[str]:
    most = max(*counts.values(), 1)
    width = len(str(most))
    return [
        f"{name:>8}  {count:>{width}}  {'#' * max(round(_BAR * count / most), min(count, 1))}".rstrip()
        for name, count in counts.items()
    ]


def _shorten(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
