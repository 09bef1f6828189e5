from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from facekit.cli import main
from facekit.pages.comparison import comparison_page, run_names
from facekit.pages.evaluation import evaluation_page
from facekit.records.evaluation import EvaluationRecord, GroupRow, Metric

Make = Callable[..., EvaluationRecord]
EVIL = '"><script>alert(1)</script>\udcff'


def sections(document: Any) -> list[str]:
    return [section["id"] for section in document.all("section")]


def best_of(text: str, row: str) -> list[str]:
    """The figures of a row that carry the mark."""
    line = next(line for line in text.splitlines() if f'<th scope="row">{row}</th>' in line)
    return re.findall(r'<td class="number best"[^>]*>([^<]*)', line)


class TestPage:
    def test_everything(self, record: EvaluationRecord, other_record: Make, parse: Any) -> None:
        names = ["yunet-n", "yunet-s", "tiny"]
        document = parse(comparison_page([record, other_record(1.0), other_record(-2.0)], names))
        assert sections(document) == ["figures", "curves", "heights", "events", "attributes"]
        assert document.fetched() == []
        assert len(document.ids) == len(set(document.ids))
        lines = [p["stroke"] for p in document.all("path") if p["fill"] == "none" and p["stroke-width"] == "1.75"]
        assert lines == ["var(--c0)", "var(--c1)", "var(--c2)"] * 3  # three subsets, three runs each
        for name in names:
            assert name in document.words

    def test_best_of_each_row(self, record: EvaluationRecord, other_record: Make) -> None:
        text = comparison_page([record, other_record(1.0), other_record(-2.0)], ["a", "b", "c"])
        assert best_of(text, "WiderFace Easy") == ["90.23"]
        assert best_of(text, "WiderFace Hard") == ["83.07"]
        assert best_of(text, "Latency, 50 % of pictures within") == ["12.20"]  # the least
        assert best_of(text, "Landmark error (NME)") == ["5.21"]
        assert best_of(text, "Size") == []  # all are equal

    def test_two_may_share_the_best(self, record: EvaluationRecord, other_record: Make) -> None:
        assert best_of(comparison_page([record, record, other_record(-2.0)], ["a", "b", "c"]), "WiderFace Easy") == [
            "89.23", "89.23",
        ]  # fmt: skip

    def test_what_was_not_measured_is_never_best(self, record: EvaluationRecord) -> None:
        runs = [
            dataclasses.replace(record, metrics=(Metric("ap", "AP", "%", value),) if value is not None else ())
            for value in (math.nan, 40.0, None)
        ]
        text = comparison_page(runs, ["a", "b", "c"])
        assert best_of(text, "AP") == []  # alone in its row
        assert "n/a" in text and "&ndash;" in text

    def test_a_single_run(self, record: EvaluationRecord, parse: Any) -> None:
        assert "star" in parse(comparison_page([record], ["a"])).words

    def test_nothing_measured(self, record: EvaluationRecord, parse: Any) -> None:
        bare = dataclasses.replace(record, metrics=(), curves=(), groups=(), calibration=(), crops=())
        assert sections(parse(comparison_page([bare, bare], ["a", "b"]))) == []

    def test_groups_that_one_run_lacks(self, record: EvaluationRecord, parse: Any) -> None:
        rows = [(GroupRow("event", "Riot", 10, 50.0),), (GroupRow("event", "Parade", 20, 60.0),)]
        runs = [dataclasses.replace(record, groups=row) for row in rows]
        words = parse(comparison_page(runs, ["a", "b"])).words
        assert "Riot 10 50.00 \N{EN DASH} Parade 20 \N{EN DASH} 60.00" in words

    def test_strangers_names_are_text(self, record: EvaluationRecord, parse: Any) -> None:
        evil = dataclasses.replace(record, detector=EVIL, weights=EVIL, protocol=EVIL, sets=(EVIL,), machine=EVIL)
        text = comparison_page([evil, record], [EVIL, "b"])
        text.encode("utf-8")
        assert len(parse(text).all("script")) == 1


class TestDifferences:
    def test_none(self, record: EvaluationRecord, parse: Any) -> None:
        words = parse(comparison_page([record, record], ["a", "b"])).words
        assert "differ" not in words
        assert f"Protocol of all runs {record.protocol}" in words

    @pytest.mark.parametrize(
        ("changes", "told"),
        [
            ({"protocol": "fit into 640x640"}, "The protocols differ: compare with care. a: own size"),
            ({"sets": ("3226 WIDER pictures",)}, "The sets differ: compare with care. a: 566 WIDER pictures. b: 3226"),
            ({"machine": "a phone"}, "The machines differ: compare speed with care."),
            ({"runtime": "onnx"}, "The runtimes differ: compare speed with care. a: pth. b: onnx."),
        ],
    )
    def test_named(self, record: EvaluationRecord, parse: Any, changes: dict[str, Any], told: str) -> None:
        words = parse(comparison_page([record, dataclasses.replace(record, **changes)], ["a", "b"])).words
        assert told in words
        assert words.count("differ:") == 1

    def test_one_file_in_two_runtimes(self, record: EvaluationRecord, parse: Any) -> None:
        # The runtime stands in both protocols, and it is all that differs.
        runs = [
            dataclasses.replace(record, runtime=kind, protocol=f"{record.protocol}; {', '.join(record.sets)}; {kind}")
            for kind in ("pth", "bin")
        ]
        words = parse(comparison_page(runs, ["a", "b"])).words
        assert words.count("differ") == 1
        assert "The runtimes differ: compare speed with care. a: pth. b: bin." in words
        assert f"Protocol of all runs {record.protocol} " in words

    @pytest.mark.parametrize(
        "changes", [{"protocol": "fit into 640x640"}, {"sets": ("12 labelled pictures, 34 faces (labels.json)",)}]
    )
    def test_nobody_is_the_best_of_different_races(
        self, record: EvaluationRecord, other_record: Make, changes: dict[str, Any], parse: Any
    ) -> None:
        smaller = dataclasses.replace(
            other_record(1.0), **changes, metrics=(*other_record(1.0).metrics[:3], Metric("size", "Size", "Mp", 0.05))
        )
        text = comparison_page([record, smaller], ["a", "b"])
        assert best_of(text, "WiderFace Easy") == []
        assert best_of(text, "Size") == ["0.050"]
        assert "smaller network alone: protocols or sets differ" in text
        assert "(best)" not in text.partition('id="heights"')[2]

    def test_machines_matter_to_speed_alone(self, record: EvaluationRecord, parse: Any) -> None:
        slow = dataclasses.replace(record, metrics=record.metrics[:3], machine="another")
        assert "differ:" not in parse(comparison_page([record, slow], ["a", "b"])).words


class TestNames:
    def test_detectors_where_they_differ(self, record: EvaluationRecord) -> None:
        other = dataclasses.replace(record, detector="tiny")
        assert run_names([record, other], ["x", "y"]) == ["yunet-n", "tiny"]

    def test_files_else(self, record: EvaluationRecord) -> None:
        assert run_names([record] * 3, ["x", "y", "x"]) == ["x", "y", "x (2)"]


class TestCommand:
    def run(self, *args: object) -> int:
        with pytest.raises(SystemExit) as caught:
            main(["report", *map(str, args)], prog_name="facekit")
        assert isinstance(caught.value.code, int)
        return caught.value.code

    def test_from_pages(self, record: EvaluationRecord, other_record: Make, tmp_path: Path, parse: Any) -> None:
        for name, run in (("old", record), ("new", other_record(2.0))):
            (tmp_path / f"{name}.html").write_text(evaluation_page(run), encoding="utf-8")
        page = tmp_path / "out" / "page.html"
        assert self.run(tmp_path / "old.html", tmp_path / "new.html", "--output", page) == 0
        words = parse(page.read_text(encoding="utf-8")).words
        assert "old, new" in words
        assert "90.07" not in words and "91.23" in words

    def test_something_else(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "a.html").write_text("<html></html>")
        assert self.run(tmp_path / "a.html", "--output", tmp_path / "b.html") == 1
        assert "no evaluation in it" in capsys.readouterr().err
        assert not (tmp_path / "b.html").exists()

    def test_never_over_a_report(
        self, record: EvaluationRecord, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "a.html"
        path.write_text(evaluation_page(record), encoding="utf-8")
        before = path.read_bytes()
        assert self.run(path, "--output", tmp_path / "." / "a.html") == 1
        assert path.read_bytes() == before
        assert "this command reads it" in capsys.readouterr().err
