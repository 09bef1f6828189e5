from __future__ import annotations

import math
import re
from typing import Any

import pytest

from facekit.engine.record import CalibrationBin
from facekit.pages.charts import BOTTOM, LEFT, RIGHT, TOP, Bars, Line, bar_chart, calibration_chart, legend, line_chart

NAN = math.nan
EVIL = '<script>"&'


def points(svg: str) -> list[list[tuple[float, float]]]:
    return [
        [tuple(map(float, pair.split(","))) for pair in found.split()]  # type: ignore[misc]
        for found in re.findall(r'points="([^"]*)"', svg)
    ]


class TestLines:
    def test_corners_of_the_plot(self) -> None:
        svg = line_chart("PR", [Line("easy", (0, 1), (1, 0))], "recall", "precision")
        assert points(svg) == [[(LEFT, TOP), (RIGHT, BOTTOM)]]

    def test_a_curve_a_run_and_its_name(self, parse: Any) -> None:
        svg = line_chart("PR", [Line("one", (0, 1), (1, 0)), Line(EVIL, (0, 1), (1, 1))], "recall", "precision")
        document = parse(svg)
        assert [g["class"] for g in document.all("g")] == ["s0", "s1"]
        assert document.all("svg")[0]["role"] == "img"
        assert EVIL in document.all("svg")[0]["aria-label"]
        assert document.all("script") == []

    def test_points_without_a_value_are_left_out(self) -> None:
        svg = line_chart("PR", [Line("x", (0, 0.5, NAN, 1), (1, NAN, 1, 0))], "recall", "precision")
        assert points(svg) == [[(LEFT, TOP), (RIGHT, BOTTOM)]]

    def test_outside_is_brought_to_the_edge(self) -> None:
        svg = line_chart("PR", [Line("x", (-1, 2), (2, -1))], "recall", "precision")
        assert points(svg) == [[(LEFT, TOP), (RIGHT, BOTTOM)]]

    def test_equal_points_are_drawn_once(self) -> None:
        many = [i / 100_000 for i in range(100_000)]
        assert len(points(line_chart("PR", [Line("x", many, [1.0] * 100_000)], "a", "b"))[0]) < 4000

    def test_no_points(self) -> None:
        assert points(line_chart("PR", [Line("x", (), ())], "a", "b")) == [[]]

    def test_more_runs_than_colours_differ(self) -> None:
        names = [str(i) for i in range(12)]
        looks = re.findall(r'class="(s\d)".*?y2="4"(.*?)/>', legend(names))
        assert len(set(looks)) == 12


class TestBars:
    def test_heights(self) -> None:
        svg = bar_chart("AP", ["small", "large"], [Bars("run", [50.0, 100.0])], "AP")
        tops = [float(y) for y in re.findall(r'<rect class="bar"[^>]* y="([\d.]+)"', svg)]
        assert tops == [(TOP + BOTTOM) / 2, TOP]

    def test_another_top(self) -> None:
        svg = bar_chart("AP", ["a"], [Bars("run", [20.0])], "AP", top=40.0)
        assert re.findall(r'<rect class="bar"[^>]* y="([\d.]+)"', svg) == [f"{(TOP + BOTTOM) / 2:.1f}"]

    def test_nothing_where_nothing_was_measured(self) -> None:
        svg = bar_chart("AP", ["a", "b"], [Bars("one", [NAN, 10.0]), Bars("two", [5.0, NAN])], "AP")
        assert svg.count('class="bar"') == 2
        assert "n/a" in svg  # in words
        assert "nan" not in svg

    def test_bars_stay_within_the_plot(self) -> None:
        runs = [Bars(str(i), [99.0] * 5) for i in range(8)]
        svg = bar_chart("AP", list("abcde"), runs, "AP")
        lefts = [float(x) for x in re.findall(r'class="bar" x="([\d.]+)"', svg)]
        widths = [float(w) for w in re.findall(r'class="bar" x="[^>]*? width="([\d.]+)"', svg)]
        assert len(lefts) == 40
        assert min(lefts) >= LEFT
        assert max(left + width for left, width in zip(lefts, widths, strict=True)) <= RIGHT
        assert lefts == sorted(lefts)

    def test_names_are_escaped(self, parse: Any) -> None:
        document = parse(bar_chart(EVIL, [EVIL], [Bars(EVIL, [1.0])], EVIL))
        assert document.all("script") == []


class TestCalibration:
    def test_points_at_mean_score_and_precision(self) -> None:
        rows = [
            CalibrationBin(0.0, 0.5, 10, 0.0, 0.0),
            CalibrationBin(0.5, 0.9, 0, NAN, NAN),
            CalibrationBin(0.9, 1.0, 5, 1.0, 1.0),
        ]
        svg = calibration_chart("Calibration", rows)
        assert points(svg) == [[(LEFT, BOTTOM), (RIGHT, TOP)]]
        assert svg.count("<circle") == 2
        assert svg.count('class="bar') == 2
        assert "nan" not in svg

    def test_the_most_is_the_highest(self) -> None:
        rows = [CalibrationBin(i / 4, (i + 1) / 4, n, i / 4 + 0.1, 0.5) for i, n in enumerate((1, 10, 100, 1000))]
        heights = [float(h) for h in re.findall(r'class="bar s7"[^>]* height="([\d.]+)"', calibration_chart("x", rows))]
        assert heights == sorted(heights)
        assert len(set(heights)) == 4

    @pytest.mark.parametrize("rows", [[], [CalibrationBin(0, 1, 0, NAN, NAN)]])
    def test_no_detections(self, rows: list[CalibrationBin], parse: Any) -> None:
        assert parse(calibration_chart("x", rows)).all("circle") == []
