from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from facekit.errors import ArgumentError, FacekitError
from facekit.pages.curves import MAX_POINTS, Curve, Run, draw, plot_runs, read_run

SVG = "{http://www.w3.org/2000/svg}"


def write_lines(path: Path, *records: dict[str, Any] | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in records))
    return path


def loss(iteration: int, value: float) -> dict[str, Any]:
    return {"epoch": 1, "iteration": iteration, "loss": value, "loss_box": value / 2, "learning_rate": 0.1}


def drawn(svg: str | bytes) -> list[list[tuple[float, float]]]:
    """The points of each line that says a run's name when it is pointed at."""
    lines = [group for group in ElementTree.fromstring(svg).iter(f"{SVG}g") if group.find(f"{SVG}title") is not None]
    paths = [path.get("d", "") for line in lines for path in line.iter(f"{SVG}path")]
    return [[(float(x), float(y)) for x, y in re.findall(r"[ML] (\S+) (\S+)", path)] for path in paths]


def pairs(run: Run, key: str) -> list[tuple[float, float]]:
    curve = run.curves[key]
    return list(zip(curve.steps.tolist(), curve.values.tolist(), strict=True))


class TestReadRun:
    def test_curves(self, tmp_path: Path) -> None:
        path = write_lines(tmp_path / "log.jsonl", loss(10, 4), loss(20, 3), {"iteration": 20, "epoch": 1, "ap": 7.5})
        run = read_run(path, "a")
        assert pairs(run, "loss") == [(10, 4), (20, 3)]
        assert pairs(run, "loss_box") == [(10, 2), (20, 1.5)]
        assert pairs(run, "ap") == [(20, 7.5)]
        assert set(run.curves) == {"loss", "loss_box", "learning_rate", "ap"}

    def test_what_was_done_twice_counts_as_done_last(self, tmp_path: Path) -> None:
        """Killed behind 30, resumed behind 10."""
        records = [loss(10, 4), loss(20, 3), {"iteration": 20, "ap": 7}, loss(30, 2), loss(20, 3.5)]
        run = read_run(write_lines(tmp_path / "log.jsonl", *records), "a")
        assert pairs(run, "loss") == [(10, 4), (20, 3.5)]
        assert "ap" not in run.curves

    def test_undefined_figures_and_torn_lines(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        records = [loss(10, 4), {"iteration": 10, "ap": None}, '{"iteration": 20, "lo', "[3]", loss(30, 1)]
        run = read_run(write_lines(tmp_path / "log.jsonl", *records), "a")
        assert pairs(run, "loss") == [(10, 4), (30, 1)]
        assert "ap" not in run.curves
        assert "2 lines can't be read" in caplog.text

    @pytest.mark.parametrize("content", ["", "\n\n", "no json", "{}", '{"iteration": 3}'])
    def test_no_journal(self, tmp_path: Path, content: str) -> None:
        path = write_lines(tmp_path / "log.jsonl", content)
        with pytest.raises(FacekitError, match=r"log\.jsonl: holds no figures"):
            read_run(path, "a")

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(FacekitError, match=r"there is no such file"):
            plot_runs([tmp_path], tmp_path / "a.svg")


class TestPlotRuns:
    def test_two_runs(self, tmp_path: Path) -> None:
        for name in ("a<b&c", "d"):
            write_lines(tmp_path / name / "out" / "log.jsonl", loss(10, 4), loss(20, 3), {"iteration": 20, "ap": 7})
        output = tmp_path / "new" / "curves.svg"
        plot_runs([tmp_path / "a<b&c" / "out", tmp_path / "d" / "out" / "log.jsonl"], output)
        root = ElementTree.fromstring(output.read_text())
        texts = [element.text for element in root.iter(f"{SVG}text")]
        assert {"a<b&c/out", "d/out", "loss", "loss: box", "learning rate", "AP @ [IoU=0.50:0.95], %"} <= set(texts)
        assert len(drawn(output.read_text())) == 4 * 2
        assert "http" not in output.read_text().replace("http://www.w3.org/2000/svg", "")

    def test_other_formats(self, tmp_path: Path) -> None:
        with pytest.raises(ArgumentError, match=r"curves\.jpg: expected a name that ends in \.svg, \.png or \.pdf"):
            plot_runs([tmp_path], tmp_path / "curves.jpg")


class TestDraw:
    def test_falls_to_the_right(self) -> None:
        ((first, second),) = drawn(draw([Run("a", {"loss": Curve(np.array([0.0, 10]), np.array([4.0, 2]))})]))
        assert first[0] < second[0] and first[1] < second[1]  # SVG counts downwards

    def test_constant_single_and_zero(self) -> None:
        curves = {
            "loss": Curve(np.array([10.0]), np.array([0.0])),
            "learning_rate": Curve(np.array([10.0, 20]), np.array([0.1, 0.1])),
            "ap": Curve(np.array([10.0, 20]), np.array([0.0, 0.0])),
        }
        svg = draw([Run("a", curves)]).decode()
        assert svg.count("<circle") == 5
        assert all(np.isfinite(points).all() for points in drawn(svg))

    def test_long_runs_are_thinned(self) -> None:
        many = np.arange(50_000, dtype=np.float64)
        noise = np.random.default_rng(0).normal(0, 20, len(many))
        (points,) = drawn(draw([Run("a", {"loss": Curve(many, np.sqrt(many) + noise)})]))
        assert 0.9 * MAX_POINTS < len(points) <= MAX_POINTS  # matplotlib leaves out those on a straight line

    def test_names_that_xml_cannot_hold(self) -> None:
        svg = draw([Run("a\x00\x1b\udc80", {"loss": Curve(np.array([1.0]), np.array([1.0]))})]).decode()
        ElementTree.fromstring(svg.encode("utf-8"))


class TestEpochs:
    def test_two_runs_begin_at_the_same_place(self, tmp_path: Path) -> None:
        """A fine-tune of epochs 641 and 642 beside a run from scratch; both have 20 iterations an epoch."""
        fine, scratch = tmp_path / "fine" / "log.jsonl", tmp_path / "scratch" / "log.jsonl"
        write_lines(fine, *[loss(n, 1) | {"epoch": 641 + (n > 12820)} for n in (12810, 12820, 12830, 12840)],
                    {"epoch": 642, "iteration": 12840, "ap": 50})  # fmt: skip
        write_lines(scratch, *[loss(n, 2) | {"epoch": 1 + (n > 20)} for n in (10, 20, 30, 40)])
        for path in (fine, scratch):
            run = read_run(path, "a", "epochs")
            assert [step for step, _ in pairs(run, "loss")] == [0.5, 1, 1.5, 2]
        assert pairs(read_run(fine, "a", "epochs"), "ap") == [(2, 50)]

    def test_one_epoch(self, tmp_path: Path) -> None:
        path = write_lines(tmp_path / "log.jsonl", loss(110, 4), loss(120, 3), loss(125, 2))
        assert [step for step, _ in pairs(read_run(path, "a", "epochs"), "loss")] == [0.4, 0.8, 1]
        path = write_lines(tmp_path / "log.jsonl", loss(7, 4))
        assert pairs(read_run(path, "a", "epochs"), "loss") == [(1, 4)]


@pytest.mark.parametrize(("kind", "start"), [("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_other_files_have_the_light_colours(tmp_path: Path, kind: str, start: bytes) -> None:
    write_lines(tmp_path / "log.jsonl", loss(10, 4), loss(20, 3))
    output = tmp_path / f"course.{kind}"
    plot_runs([tmp_path], output)
    assert output.read_bytes().startswith(start)
    if kind == "png":
        image_bgr = cv2.imread(str(output))
        assert image_bgr is not None
        (blue, green, red), count = (
            values[-1] for values in np.unique(image_bgr.reshape(-1, 3), axis=0, return_counts=True)
        )
        assert min(blue, green, red) > 240 and count > image_bgr[..., 0].size / 2  # light paper
        stand_in = (image_bgr[..., 2] == 240) & (image_bgr[..., 1] == 0)
        assert not stand_in.any()
