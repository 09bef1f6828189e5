from __future__ import annotations

import dataclasses
import json
import math
import os
from pathlib import Path
from typing import Any

import pytest

from facekit.errors import FacekitError
from facekit.pages.evaluation import DATA_ID, evaluation_page, read_record
from facekit.pages.figures import by_kind, figure, heights, is_better
from facekit.records.evaluation import (
    Crop,
    CurvePoints,
    EvaluationRecord,
    GroupRow,
    Metric,
    ThresholdRow,
    to_json,
)

EVIL = '"><script>alert(1)</script></script><!--\udcff\x00'
SECTIONS = [
    "figures",
    "curves",
    "thresholds",
    "heights",
    "events",
    "attributes",
    "calibration",
    "misses",
    "false-positives",
    "provenance",
]
BARE = {"summary": "", "weights_sha256": "", "machine": "", "versions": {}, "sets": (), "metrics": (), "published": {},
        "curves": (), "groups": (), "calibration": (), "crops": (), "thresholds": ()}  # fmt: skip


def section_ids(document: Any) -> list[str]:
    return [section["id"] for section in document.all("section")]


class TestPage:
    def test_everything(self, record: EvaluationRecord, parse: Any) -> None:
        document = parse(evaluation_page(record))
        assert section_ids(document) == SECTIONS
        assert document.fetched() == []
        assert len(document.ids) == len(set(document.ids))
        for text in (
            record.detector, record.summary, record.protocol, record.weights, record.measured_at, record.machine,
            record.weights_sha256, "566 WIDER pictures", "torch 2.14.1", "58.84", "38.40", "Car Accident", "exaggerate",
        ):  # fmt: skip
            assert text in document.words
        assert all(image.get("alt") for image in document.all("img"))
        assert len(document.all("img")) == len(record.crops)

    def test_the_difference_to_what_was_published(self, record: EvaluationRecord, parse: Any) -> None:
        words = parse(evaluation_page(record)).words
        assert "WiderFace Easy 89.23 89.20 +0.03 %" in words
        assert "WiderFace Hard 81.07 81.10 \N{MINUS SIGN}0.03 %" in words
        assert "AP for faces > 64x64 92.40 \N{EN DASH} \N{EN DASH} %" in words

    def test_no_column_for_what_was_not_published(self, record: EvaluationRecord, parse: Any) -> None:
        words = parse(evaluation_page(dataclasses.replace(record, published={}))).words
        assert "metric measured unit" in words
        assert "published" not in words

    def test_why_published_figures_do_not_stand_there(self, record: EvaluationRecord, parse: Any) -> None:
        note = "the figures of its makers are of another set"
        assert note in parse(evaluation_page(dataclasses.replace(record, published={}, published_note=note))).words

    def test_names_weights_and_set(self, record: EvaluationRecord, parse: Any) -> None:
        sets = ("3 labelled pictures, 7 faces (own/labels.json)",)
        words = parse(evaluation_page(dataclasses.replace(record, sets=sets))).words
        assert f"Weights snapshot.pth (SHA-256 {record.weights_sha256[:16]}" in words
        assert "Runtime pth" in words
        assert f"Set {sets[0]}" in words

    def test_the_threshold_to_keep(self, record: EvaluationRecord, parse: Any) -> None:
        words = parse(evaluation_page(record)).words
        assert "On this set 0.37, with the star, gives the best F1" in words
        assert "score over precision, % recall, % F1, % false positives a picture" in words
        assert "0.37 (best F1) 81.97 90.52 92.00 0.252" in words
        nothing = dataclasses.replace(record, thresholds=(ThresholdRow(0.1, math.nan, 0.0, 0.0, 0.0, False),))
        words = parse(evaluation_page(nothing)).words
        assert "No face was found, so there is none to advise." in words
        assert "0.1 n/a 0.00 0.00 0.000" in words

    def test_sections_without_data_are_left_out(self, record: EvaluationRecord, parse: Any) -> None:
        document = parse(evaluation_page(dataclasses.replace(record, **BARE)))
        assert section_ids(document) == ["provenance"]
        assert document.all("table") == []
        assert document.all("ul") == []

    @pytest.mark.parametrize(
        ("name", "gone"),
        [
            ("metrics", {"figures"}), ("curves", {"curves"}), ("thresholds", {"thresholds"}),
            ("groups", {"heights", "events", "attributes"}),
            ("calibration", {"calibration"}), ("crops", {"misses", "false-positives"}),
        ],
    )  # fmt: skip
    def test_each_part_alone(self, record: EvaluationRecord, parse: Any, name: str, gone: set[str]) -> None:
        found = section_ids(parse(evaluation_page(dataclasses.replace(record, **{name: ()}))))
        assert found == [anchor for anchor in SECTIONS if anchor not in gone]

    def test_nothing_that_is_not_a_number_is_shown_as_one(self, record: EvaluationRecord, parse: Any) -> None:
        nan = math.nan
        broken = dataclasses.replace(
            record,
            metrics=tuple(dataclasses.replace(metric, value=nan) for metric in record.metrics),
            groups=tuple(dataclasses.replace(row, ap=nan) for row in record.groups),
            curves=(CurvePoints("easy", (nan, 0.5), (1.0, nan), nan),),
            calibration=tuple(dataclasses.replace(row, precision=nan, mean_score=nan) for row in record.calibration),
            published={"ap": nan, "widerface_e": 89.0},
        )
        words = parse(evaluation_page(broken)).words
        assert "n/a" in words
        assert "nan" not in words.lower().split()

    def test_strangers_names_are_text(self, record: EvaluationRecord, parse: Any) -> None:
        texts = {field.name: EVIL for field in dataclasses.fields(record) if field.type == "str"}
        evil = dataclasses.replace(
            record,
            **texts,
            sets=(EVIL,),
            versions={EVIL: EVIL},
            metrics=(Metric(EVIL, EVIL, EVIL, 1.0),),
            published={EVIL: 2.0},
            curves=tuple(dataclasses.replace(curve, name=EVIL) for curve in record.curves),
            groups=tuple(dataclasses.replace(row, name=EVIL) for row in record.groups),
            crops=tuple(dataclasses.replace(crop, picture=EVIL) for crop in record.crops),
        )
        text = evaluation_page(evil)
        text.encode("utf-8")
        document = parse(text)
        assert len(document.all("script")) == 2  # the data, and ours for sorting
        assert section_ids(document) == SECTIONS
        assert document.words.count("<script>alert(1)") > 20

    def test_heights_from_metrics_where_there_are_no_groups(self, record: EvaluationRecord, parse: Any) -> None:
        rows = tuple(Metric(f"ap_h{h}", f"AP of faces over {h} px", "%", 50.0 + h / 10) for h in (10, 32, 100))
        document = parse(evaluation_page(dataclasses.replace(record, metrics=rows, groups=())))
        assert "heights" in section_ids(document)
        assert "over 32 px" in document.words

    def test_misses_say_what_was_found_nearby(self, record: EvaluationRecord, parse: Any) -> None:
        crops = tuple(Crop("miss", "a/b.jpg", (0.0, 0.0, 30.0, 40.0), score, b"x") for score in (0.0, 0.31))
        words = parse(evaluation_page(dataclasses.replace(record, crops=crops))).words
        assert "nothing found 30 \N{MULTIPLICATION SIGN} 40 px" in words
        assert "best score 0.31" in words


class TestReadBack:
    def page(self, folder: Path, record: EvaluationRecord) -> Path:
        path = folder / "page.html"
        path.write_text(evaluation_page(record), encoding="utf-8")
        return path

    def test_round_trip(self, record: EvaluationRecord, tmp_path: Path) -> None:
        assert read_record(self.page(tmp_path, record)) == dataclasses.replace(record, crops=())

    def test_with_strange_names(self, record: EvaluationRecord, tmp_path: Path) -> None:
        name = EVIL.replace("\0", "")  # which nothing that is read may hold
        strange = dataclasses.replace(record, crops=(), detector=name, groups=(GroupRow("event", name, 3, 50.0),))
        assert read_record(self.page(tmp_path, strange)) == strange

    def test_the_json_is_there_for_other_programs(self, record: EvaluationRecord) -> None:
        text = evaluation_page(record)
        content = text.partition(f'<script type="application/json" id="{DATA_ID}">')[2].partition("</script>")[0]
        assert json.loads(content) == json.loads(to_json(record))

    @pytest.mark.parametrize(
        "content",
        [
            b"", b"<html></html>", b"\xff\xfe\x00", b'{"facekit_evaluation": 1}',
            b'<script type="application/json" id="facekit-evaluation">{}</script>',
            b'<script type="application/json" id="facekit-evaluation">{"facekit_evaluation": 1',
            b'<script type="application/json" id="facekit-evaluation">alert(1)</script>',
        ],
    )  # fmt: skip
    def test_other_files(self, content: bytes, tmp_path: Path) -> None:
        path = tmp_path / "other.html"
        path.write_bytes(content)
        with pytest.raises(FacekitError, match=r"other\.html: .*--report"):
            read_record(path)

    def test_missing_no_file_or_too_large(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        os.mkfifo(tmp_path / "pipe.html")
        for path, words in (
            (tmp_path / "none.html", "no such file"), (tmp_path, "is a folder"), (Path("/dev/zero"), "is a device"),
            (tmp_path / "pipe.html", "is a pipe"), (Path("a\0.html"), "can't be read"),
        ):  # fmt: skip
            with pytest.raises(FacekitError, match=f"{words}.*--report"):
                read_record(path)
        monkeypatch.setattr("facekit.pages.evaluation.MAX_PAGE_BYTES", 10)
        (tmp_path / "big.html").write_text("x" * 11)
        with pytest.raises(FacekitError, match="more than the limit of 10"):
            read_record(tmp_path / "big.html")


class TestFigures:
    def test_digits(self) -> None:
        assert figure(89.234, "%") == "89.23"
        assert figure(0.0758, "Mp") == "0.076"
        assert figure(12.3456, "ms") == "12.35"
        assert figure(-0.5, "%", signed=True) == "\N{MINUS SIGN}0.50"
        assert figure(0.5, "%", signed=True) == "+0.50"
        assert figure(-0.0001, "%", signed=True) == "0.00"
        assert figure(math.nan, "%") == figure(math.inf, "%") == "n/a"

    def test_better(self) -> None:
        assert is_better("ap", 2, 1)
        assert not is_better("ap", 1, 1)
        assert is_better("latency_p50", 1, 2)
        assert is_better("nme", 1, 2)
        assert is_better("size", 1, 2)
        assert not is_better("ap", math.nan, 1)

    def test_kinds_keep_every_key_once(self) -> None:
        keys = ["latency_p99", "ap", "strange", "ap_h10", "recall_fp_0.1", "widerface_h", "ap_64x64", "ap\n"]
        kinds = by_kind(keys)
        assert sorted(key for members in kinds.values() for key in members) == sorted(keys)
        assert kinds["Accuracy"] == ["ap", "widerface_h", "ap_64x64"]
        assert kinds["Further"] == ["strange", "ap\n"]

    def test_heights_prefer_groups(self, record: EvaluationRecord) -> None:
        assert list(heights(record)) == ["over 10 px", "over 32 px", "over 64 px", "over 100 px"]
        assert heights(dataclasses.replace(record, groups=())) == {}
