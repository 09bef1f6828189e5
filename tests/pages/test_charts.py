"""What is drawn is measured against the axes' own numbers, as a reader does it with a ruler."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facekit.pages.charts import (
    WIDTH,
    Bars,
    Line,
    Panel,
    bar_chart,
    calibration_chart,
    draw_panels,
    legend,
    line_chart,
)
from facekit.records.evaluation import CalibrationBin

NAN = math.nan
EVIL = '<script>"&$x^2$\x1b\ud800\n</title>'
GROUND = "var(--line)"  # colour of the grid


def drawing(chart: str) -> ElementTree.Element:
    """The svg element, its names without their namespace."""
    found = re.search(r"<svg viewBox.*</svg>", chart, re.DOTALL)
    assert found is not None
    root = ElementTree.fromstring(found[0].replace(' xmlns="http://www.w3.org/2000/svg"', ""))
    return root


def path_points(path: ElementTree.Element) -> np.ndarray:
    """(N, 2) of the view box."""
    return np.array(re.findall(r"(-?[\d.]+) (-?[\d.]+)", path.attrib["d"]), dtype=np.float64)


def numbers(texts: list[ElementTree.Element], key: str) -> list[tuple[float, float]]:
    """Places of the texts that are numbers, and these numbers."""
    return [
        (float(text.attrib[key]), float((text.text or "").replace("k", "000")))
        for text in texts
        if re.fullmatch(r"[\d.]+k?", text.text or "")
    ]


class Ruler:
    """Reads values off a chart."""

    def __init__(self, root: ElementTree.Element) -> None:
        texts = [text for text in root.iter("text") if text.get("fill") == "var(--quiet)"]
        self.x_ticks = numbers([text for text in texts if text.get("text-anchor") == "middle"], "x")
        grid = sorted(path_points(path)[0, 1] for path in root.iter("path") if path.get("stroke") == GROUND)
        y_ticks = sorted(numbers([text for text in texts if text.get("text-anchor") == "end"], "y"))
        assert len(grid) == len(y_ticks)
        self.y_ticks = [(line, value) for line, (_, value) in zip(grid, y_ticks, strict=True)]

    def read(self, points: np.ndarray) -> np.ndarray:
        columns = []
        for values, ticks in zip(points.T, (self.x_ticks, self.y_ticks), strict=True):
            (start, low), (end, high) = ticks[0], ticks[-1]
            columns.append(low + (values - start) * (high - low) / (end - start))
        return np.stack(columns, axis=1)


def marks(root: ElementTree.Element) -> dict[str, ElementTree.Element]:
    """Groups by what they say when pointed at."""
    return {title: group for group in root.iter("g") if (title := group.findtext("title")) is not None}


def curves(root: ElementTree.Element) -> dict[str, list[list[float]]]:
    ruler = Ruler(root)
    return {
        name: ruler.read(path_points(group.find("path"))).round(3).tolist()  # type: ignore[arg-type]
        for name, group in marks(root).items()
    }


class TestLines:
    def test_points_stand_where_the_axes_say(self) -> None:
        given_points = [Line("easy", (0, 0.25, 0.8), (1, 0.9, 0.1)), Line("hard", (0.1, 0.3), (0.5, 0))]
        root = drawing(line_chart("PR", given_points, "recall", "precision"))
        assert Ruler(root).x_ticks[0][1] == 0
        assert Ruler(root).x_ticks[-1][1] == 1
        assert curves(root) == {"easy": [[0, 1], [0.25, 0.9], [0.8, 0.1]], "hard": [[0.1, 0.5], [0.3, 0]]}

    @given(st.lists(st.floats(0, 1), min_size=2, max_size=60, unique=True), st.integers(0, 99))
    @settings(max_examples=15, deadline=None)
    def test_any_curve(self, recall: list[float], seed: int) -> None:
        recall = sorted(recall)
        precision = np.random.default_rng(seed).uniform(size=len(recall))
        drawn = np.array(curves(drawing(line_chart("PR", [Line("x", recall, precision.tolist())], "a", "b")))["x"])
        # Points may be left out where the line passes through them anyway.
        assert np.abs(drawn[0] - [recall[0], precision[0]]).max() < 0.002
        assert np.abs(drawn[-1] - [recall[-1], precision[-1]]).max() < 0.002
        for x, y in zip(recall, precision, strict=True):
            assert distance(drawn, np.array([x, y])) < 0.002

    def test_a_colour_and_dash_a_run_and_its_name(self) -> None:
        lines = [Line("one", (0, 1), (1, 0)), Line("absent", (), ()), Line(EVIL, (0, 1), (1, 1))]
        root = drawing(line_chart("PR", lines, "recall", "precision"))
        assert [group.find("path").get("stroke") for group in marks(root).values()] == ["var(--c0)", "var(--c2)"]  # type: ignore[union-attr]
        dashes = [group.find("path").get("stroke-dasharray") for group in marks(root).values()]  # type: ignore[union-attr]
        assert dashes[0] is None
        assert dashes[1] is not None
        assert root.attrib["role"] == "img"
        assert root[0].tag == "title"
        assert root[0].text == "PR"
        assert "one" in (root.findtext("desc") or "")

    def test_what_has_no_value_is_left_out(self) -> None:
        line = Line("x", (0, 0.5, NAN, math.inf, 1), (1, NAN, 1, 0.5, 0))
        assert curves(drawing(line_chart("PR", [line], "a", "b"))) == {"x": [[0, 1], [1, 0]]}

    def test_outside_is_brought_to_the_edge(self) -> None:
        root = drawing(line_chart("PR", [Line("x", (-1, 2), (2, -1))], "recall", "precision"))
        assert curves(root) == {"x": [[0, 1], [1, 0]]}

    def test_a_point_alone_is_a_dot(self) -> None:
        root = drawing(line_chart("PR", [Line("x", (0.5,), (0.25,))], "a", "b"))
        (dot,) = root.iter("circle")
        assert Ruler(root).read(np.array([[float(dot.attrib["cx"]), float(dot.attrib["cy"])]])).tolist() == [
            [0.5, 0.25]
        ]

    def test_long_lines_are_short_files(self) -> None:
        many = np.linspace(0, 1, 100_000)
        chart = line_chart("PR", [Line("x", many.tolist(), (1 - many**9).tolist())], "a", "b")
        assert len(chart) < 20_000

    def test_no_points(self) -> None:
        assert marks(drawing(line_chart("PR", [Line("x", (), ())], "a", "b"))) == {}

    def test_more_runs_than_colours_differ(self) -> None:
        names = [str(i) for i in range(12)]
        looks = re.findall(r'class="(s\d)".*?y2="4"(.*?)/>', legend(names))
        assert len(set(looks)) == 12

    def test_legend_of_bars(self) -> None:
        assert legend(["a", "b"], solid=True).count("<rect") == 2


def distance(polyline: np.ndarray, point: np.ndarray) -> float:
    """The least, from a point to the segments of a line."""
    starts, steps = polyline[:-1], np.diff(polyline, axis=0)
    lengths = np.maximum((steps**2).sum(axis=1), 1e-12)
    along = np.clip(((point - starts) * steps).sum(axis=1) / lengths, 0, 1)
    return float(np.hypot(*(starts + along[:, None] * steps - point).T).min())


class TestBars:
    def tops(self, chart: str) -> dict[str, tuple[float, float]]:
        """Lower and upper end of each bar, in the axis' unit."""
        root = drawing(chart)
        ruler = Ruler(root)
        ruler.x_ticks = [(0.0, 0.0), (1.0, 1.0)]
        ends = {name: ruler.read(path_points(group.find("path")))[:, 1] for name, group in marks(root).items()}  # type: ignore[arg-type]
        return {name: (round(y.min(), 2) + 0.0, round(y.max(), 2)) for name, y in ends.items()}

    def test_heights(self) -> None:
        bars = [Bars("one", [50.0, 100.0]), Bars("two", [12.5, 0.0])]
        assert self.tops(bar_chart("AP", ["small", "large"], bars, "AP")) == {
            "one, small: 50.0": (0, 50), "one, large: 100.0": (0, 100), "two, small: 12.5": (0, 12.5),
            "two, large: 0.0": (0, 0),
        }  # fmt: skip

    def test_another_top(self) -> None:
        assert self.tops(bar_chart("AP", ["a"], [Bars("run", [20.0])], "AP", top=40.0)) == {"run, a: 20.0": (0, 20)}

    def test_beyond_the_top_is_cut(self) -> None:
        bars = [Bars("run", [90.0, -5.0])]
        assert self.tops(bar_chart("AP", ["a", "b"], bars, "AP", top=40.0)) == {
            "run, a: 90.0": (0, 40),
            "run, b: -5.0": (0, 0),
        }

    def test_nothing_where_nothing_was_measured(self) -> None:
        svg = bar_chart("AP", ["a", "b"], [Bars("one", [NAN, 10.0]), Bars("two", [5.0, NAN])], "AP")
        assert set(marks(drawing(svg))) == {"one, b: 10.0", "two, a: 5.0"}
        assert "one, a: n/a" in svg
        assert "nan" not in svg

    @pytest.mark.parametrize(("runs", "categories"), [(1, 1), (1, 12), (8, 5), (20, 9)])
    def test_bars_stand_beside_each_other_within_the_plot(self, runs: int, categories: int) -> None:
        bars = [Bars(f"r{i}", [99.0] * categories) for i in range(runs)]
        root = drawing(bar_chart("AP", [f"c{i}" for i in range(categories)], bars, "AP"))
        spans = [path_points(group.find("path"))[:, 0] for group in marks(root).values()]  # type: ignore[arg-type]
        edges = np.array([(span.min(), span.max()) for span in spans])
        assert len(edges) == runs * categories
        assert (np.diff(edges.ravel()) > -0.011).all()  # rounded to a hundredth
        left, right = next(path_points(path)[:, 0] for path in root.iter("path") if path.get("stroke") == GROUND)
        assert left <= edges.min() < edges.max() <= right

    @pytest.mark.parametrize(
        "categories", [["over 10 px"] * 4, ["over 1000 px"] * 7, ["8-16", "x" * 200, "64-128"] * 3]
    )
    def test_labels_keep_off_each_other(self, categories: list[str]) -> None:
        root = drawing(bar_chart("AP", categories, [Bars("run", [1.0] * len(categories))], "AP"))
        labels = [t for t in root.iter("text") if (t.text or "")[:1] in ("o", "x") or "-" in (t.text or "")]
        assert len(labels) == len(categories)
        rows: dict[str, list[tuple[float, float]]] = {}
        for label in labels:
            width = 6.5 * len(label.text or "")  # as wide as most fonts draw 12 px
            x = float(label.attrib["x"])
            rows.setdefault(label.attrib["y"], []).append((x - width / 2, x + width / 2))
        for spans in rows.values():
            assert all(end <= start for (_, end), (start, _) in pairwise(spans))
        assert max(float(label.attrib["y"]) for label in labels) < float(root.attrib["viewBox"].split()[3])


class TestCalibration:
    ROWS = (
        CalibrationBin(0.0, 0.5, 1000, 0.2, 0.1),
        CalibrationBin(0.5, 0.9, 0, NAN, NAN),
        CalibrationBin(0.9, 1.0, 5, 0.95, 1.0),
    )

    def test_points_at_mean_score_and_precision(self) -> None:
        root = drawing(calibration_chart("Calibration", self.ROWS))
        dots = np.array([(float(dot.attrib["cx"]), float(dot.attrib["cy"])) for dot in root.iter("circle")])
        (line,) = [path_points(path) for path in root.iter("path") if path.get("stroke") == "var(--c0)"]
        assert np.array_equal(dots, line)
        ruler = Ruler(root)
        ruler.y_ticks = [(y, value) for y, value in ruler.y_ticks if value <= 1]  # of the upper plot
        assert ruler.read(dots).round(3).tolist() == [[0.2, 0.1], [0.95, 1.0]]
        said = [name for name in marks(root) if "hit" in name]
        assert said[0] == "scores 0 to 0.5: 1000 detections, 10.0 % hit"

    def test_counts_are_on_a_logarithmic_scale(self) -> None:
        root = drawing(calibration_chart("x", self.ROWS))
        bars = [path_points(path) for path in root.iter("path") if path.get("fill") == "var(--c7)"]
        heights = [np.ptp(bar[:, 1]) for bar in bars]
        assert heights[1] / heights[0] == pytest.approx(math.log(6) / math.log(1001), abs=0.001)
        ruler = Ruler(root)
        ((ten, _),) = [(y, value) for y, value in ruler.y_ticks if value == 10]
        floor = max(bar[:, 1].max() for bar in bars)
        assert (floor - ten) / heights[0] == pytest.approx(math.log(11) / math.log(1001), abs=0.001)
        lows, highs = zip(*((ruler.read(bar)[:, 0].min(), ruler.read(bar)[:, 0].max()) for bar in bars), strict=True)
        assert lows == pytest.approx((0, 0.9), abs=0.01)
        assert highs == pytest.approx((0.5, 1.0), abs=0.01)

    @pytest.mark.parametrize("rows", [[], [CalibrationBin(0, 1, 0, NAN, NAN)]])
    def test_no_detections(self, rows: list[CalibrationBin]) -> None:
        root = drawing(calibration_chart("x", rows))
        assert list(root.iter("circle")) == []
        assert marks(root) == {}


CHARTS = (
    line_chart(EVIL, [Line(EVIL, (0, 1), (1, 0)), Line("人脸", (0.5,), (0.5,))], EVIL, EVIL),
    bar_chart(EVIL, [EVIL, "人脸"], [Bars(EVIL, [1.0, 2.0])], EVIL),
    calibration_chart(EVIL, TestCalibration.ROWS),
)


class TestInPages:
    @pytest.mark.parametrize("chart", CHARTS)
    def test_nothing_that_a_page_forbids(self, chart: str, parse: Any) -> None:
        document = parse(chart)
        assert {name for name, _ in document.elements} <= {
            "figure", "figcaption", "svg", "title", "desc", "g", "path", "circle", "text",
        }  # fmt: skip
        names = {name for _, attributes in document.elements for name in attributes}
        assert not names & {"style", "id", "href", "xlink:href", "clip-path", "width", "height"}
        assert document.ids == []
        assert "url(" not in chart
        assert not re.search("#[0-9a-f]{6}", chart), "a colour that doesn't follow the page's"
        assert "\x1b" not in chart
        chart.encode("utf-8")

    def test_text_is_text(self) -> None:
        texts = [text.text for text in drawing(CHARTS[1]).iter("text")]
        assert "人脸" in texts
        assert any(text and text.startswith('<script>"&$x^2$') for text in texts)
        assert all(text.get("font-family") is None for text in drawing(CHARTS[1]).iter("text"))

    def test_wide_as_a_phone(self) -> None:
        assert all(float(drawing(chart).attrib["viewBox"].split()[2]) == WIDTH for chart in CHARTS)
        assert {drawing(chart).get("font-size") for chart in CHARTS} == {"12"}

    def test_no_warning(self, recwarn: pytest.WarningsRecorder) -> None:
        bar_chart("x", ["人脸"], [Bars("run", [1.0])], "AP")
        assert [str(warning.message) for warning in recwarn] == []


PANELS = (
    Panel("loss", [Line("a", (0, 100, 200), (4, 2, 1)), Line("b", (0, 100), (3, NAN)), Line("c", (), ())]),
    Panel("rate", [Line("a", (0, 200), (0.1, 0.001)), Line("b", (), ()), Line("c", (50, 150), (0.01, 0.02))], True),
)


class TestPanels:
    def plots(self, svg: str) -> list[tuple[Ruler, dict[str, ElementTree.Element]]]:
        """The two panels of PANELS, each with its ruler."""
        root = drawing(svg)
        half = float(root.attrib["width"]) / 2
        plots = []
        for first, last in ((0.0, half), (half, 2 * half)):
            panel = ElementTree.Element("svg")
            for part in root:
                x = path_points(part)[0, 0] if part.tag == "path" else float(part.get("x", "nan"))
                inner = part.find("path")
                x = path_points(inner)[0, 0] if inner is not None else x
                if first <= x < last:
                    panel.append(part)
            for part in panel.iter():
                for key in ("fill", "stroke"):
                    if f"{key}-line" in part.get("class", ""):
                        part.set(key, GROUND)
                    if f"{key}-quiet" in part.get("class", ""):
                        part.set(key, "var(--quiet)")
            plots.append((Ruler(panel), marks(panel)))
        return plots

    def test_points_stand_where_the_axes_say(self) -> None:
        (ruler, lines), (log_ruler, log_lines) = self.plots(draw_panels("course", "abc", PANELS, "iteration").decode())
        assert ruler.read(path_points(lines["a"].find("path"))).round(2).tolist() == [[0, 4], [100, 2], [200, 1]]  # type: ignore[arg-type]
        assert set(lines) == {"a", "b"}
        log_ruler.y_ticks = [(place, math.log10(value)) for place, value in log_ruler.y_ticks]
        points = log_ruler.read(path_points(log_lines["c"].find("path")))  # type: ignore[arg-type]
        assert points.round(2).tolist() == [[50, -2], [150, round(math.log10(0.02), 2)]]

    def test_runs_keep_their_colour(self) -> None:
        (_, lines), (_, log_lines) = self.plots(draw_panels("course", "abc", PANELS, "iteration").decode())
        classes = [group.find("path").get("class") for group in (*lines.values(), *log_lines.values())]  # type: ignore[union-attr]
        assert classes == ["stroke-c0", "stroke-c1", "stroke-c0", "stroke-c2"]

    def test_a_file_of_its_own(self) -> None:
        svg = draw_panels(EVIL, [EVIL, "b" * 300, "c"], PANELS, "iteration").decode()
        root = ElementTree.fromstring(svg)
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert "var(" not in svg
        assert "url(" not in svg
        assert "@import" not in svg
        used = {name for part in root.iter() for name in part.get("class", "").split()}
        assert used == set(re.findall(r"^\.([\w-]+) \{", svg, re.MULTILINE))

    def test_a_value_of_zero_has_no_logarithm(self) -> None:
        svg = draw_panels(
            "x", ["a"], [Panel("rate", [Line("a", (0, 1), (0, 1))], logarithmic=True)], "iteration"
        ).decode()
        assert ">0<" in svg

    @pytest.mark.parametrize("line", [Line("a", (), ()), Line("a", (0,), (5,)), Line("a", (3, 9), (7, 7))])
    @pytest.mark.parametrize("logarithmic", [False, True])
    def test_hardly_any_points(self, line: Line, logarithmic: bool) -> None:
        svg = draw_panels("x", ["a"], [Panel("loss", [line], logarithmic)], "iteration").decode()
        assert svg.count("<circle") == len(line.x)
        assert "nan" not in svg


SCRIPT = """
import sys
import facekit.pages.comparison, facekit.pages.evaluation
from facekit.pages.charts import Bars, bar_chart
assert "matplotlib" not in sys.modules
sys.stdout.buffer.write(bar_chart("AP", ["a", "b"], [Bars("run", [1.0, 2.0])], "AP").encode())
assert "matplotlib.pyplot" not in sys.modules
"""


def test_no_one_elses_settings_and_not_a_word(tmp_path: Path) -> None:
    """In a process without a place to keep fonts in, with settings of its own, the same is drawn and nothing said."""
    (tmp_path / "matplotlibrc").write_text("axes.linewidth: 9\nfont.size: 40\naxes.grid: no\nno such thing\n")
    (tmp_path / "file").touch()
    project = Path(__file__).resolve().parents[2]
    environment = {"PYTHONPATH": str(project), "MPLCONFIGDIR": str(tmp_path / "file" / "x")}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=tmp_path, env=environment, capture_output=True, timeout=120, check=False
    )
    assert done.stderr == b""
    assert done.stdout.decode() == bar_chart("AP", ["a", "b"], [Bars("run", [1.0, 2.0])], "AP")
