from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
import yaml

from facekit.errors import FacekitError
from facekit.records.evaluation import Metric, ThresholdRow
from facekit.records.metrics_yaml import format_table, read_metrics, write_metrics
from facekit.template import find_template
from tests.pages.conftest import make_record

BEST = ThresholdRow(0.62, 98.125, 92.34567, 95.1, 0.0712, True)
NOTHING_KEPT = ThresholdRow(0.9, math.nan, 0.0, 0.0, 0.0, False)


def test_table() -> None:
    metrics = (Metric("ap", "AP", "%", 50.6), Metric("size", "Size", "Mp", 0.0758))
    note, rows = "those of another set", (NOTHING_KEPT, BEST)
    record = make_record(metrics=metrics, published={"size": 0.076}, published_note=note, thresholds=rows)
    assert format_table(record, Path("work/snapshot.pth")).splitlines() == [
        "metric  measured  published  unit",
        "---------------------------------",
        "AP        50.600          -  %",
        "Size       0.076      0.076  Mp",
        "best F1: score threshold 0.62 (precision 98.12 %, recall 92.35 %, F1 95.10 %, 0.0712 false positives a "
        "picture; IoU 0.5)",
        "published: those of another set",
        "COCO AP counts the best 100 boxes a picture, as pycocotools does",
        "weights: work/snapshot.pth (pth; SHA-256 3d5a0b9c3d5a0b9c...)",
        f"protocol: {record.protocol}",
    ]


def test_the_file_that_holds_the_weights_of_an_ir_is_named() -> None:
    table = format_table(make_record(weights="a.bin", runtime="xml"), Path("out/a.xml"))
    assert "weights: out/a.xml (xml; SHA-256 of a.bin 3d5a0b9c3d5a0b9c...)" in table


def test_nothing_to_advise() -> None:
    assert "best F1" not in format_table(make_record(thresholds=(NOTHING_KEPT,)), Path("a.pth"))


def test_thresholds_in_the_file(tmp_path: Path) -> None:
    weights = tmp_path / "a.pth"
    weights.write_bytes(b"x")
    write_metrics(tmp_path / "metrics.yaml", weights, make_record(thresholds=(BEST, NOTHING_KEPT)))
    assert yaml.safe_load((tmp_path / "metrics.yaml").read_text())["thresholds"] == [
        {"score_threshold": 0.62, "precision_percent": 98.125, "recall_percent": 92.346, "f1_percent": 95.1,
         "false_positives_per_picture": 0.071, "is_best_f1": True},
        {"score_threshold": 0.9, "precision_percent": None, "recall_percent": 0.0, "f1_percent": 0.0,
         "false_positives_per_picture": 0.0, "is_best_f1": False},
    ]  # fmt: skip


def test_what_is_no_metrics_file(tmp_path: Path) -> None:
    assert read_metrics(tmp_path / "none.yaml") == {}
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "list.yaml").write_text("[1]")
    (tmp_path / "deep.yaml").write_text("[" * 50_000)
    (tmp_path / "settings.yaml").write_text("name: mine\ntraining: {epochs: 3}\n")
    (tmp_path / "monitoring.yaml").write_text("metrics: [{key: cpu}]\n")
    (tmp_path / "large.yaml").write_text("a: " + "x" * 1_000_000)
    for path, words in (
        (Path("/dev/zero"), "is a device"), (tmp_path / "pipe.yaml", "is a pipe"), (tmp_path, "is a folder"),
        (tmp_path / "list.yaml", "is no metrics file"), (tmp_path / "deep.yaml", "can't be read as YAML"),
        (tmp_path / "large.yaml", "more than the limit"), (tmp_path / "settings.yaml", "is no metrics file"),
        (tmp_path / "monitoring.yaml", "is no metrics file"), (find_template("yunet-n"), "is no metrics file"),
    ):  # fmt: skip
        with pytest.raises(FacekitError, match=f"{words}.* Remove it or choose another file"):
            read_metrics(path)
