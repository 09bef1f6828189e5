"""The pages as Chromium shows them; skipped where there is none."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facekit.labels.formats import read_labels
from facekit.pages.browse import Augmentation, browse_page
from facekit.pages.charts import Line, Panel, draw_panels
from facekit.pages.comparison import comparison_page
from facekit.pages.evaluation import evaluation_page
from facekit.records.evaluation import EvaluationRecord
from facekit.template import find_template, load_template

PHONE, DESKTOP = 390, 1400
KINDS = ("evaluation", "strange", "comparison", "browse", "augmented")
TOO_WIDE = """[...document.querySelectorAll("body *")].filter((part) =>
  part.getBoundingClientRect().right > document.documentElement.clientWidth + 1 &&
  !part.closest(".wide, .skip, svg, dialog")).map((part) => part.outerHTML.slice(0, 80))"""
# The least contrast of text with what lies behind it (WCAG 2), over all elements with text of their own.
CONTRAST = """(() => {
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (colour) => colour.slice(0, 3).map((v) => v / 255)
    .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (part) => {
    for (; part; part = part.parentElement) {
      const colour = rgb(getComputedStyle(part).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  let least = [99, ""];
  for (const part of document.querySelectorAll("body *")) {
    const style = getComputedStyle(part);
    if (![...part.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim())) continue;
    if (style.display === "none" || part.closest("script, style, title, desc, .unseen, .skip, dialog")) continue;
    const ink = light(rgb(part.closest("svg") ? style.fill : style.color)), paper = light(ground(part));
    const ratio = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
    if (ratio < least[0]) least = [ratio, part.outerHTML.slice(0, 80)];
  }
  return least;
})()"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory, drawn_dir: Path) -> Callable[[str, EvaluationRecord], Path]:
    folder = tmp_path_factory.mktemp("pages")

    def write(kind: str, record: EvaluationRecord) -> Path:
        path = folder / f"{kind}.html"
        if not path.exists():
            path.write_text(text_of(kind, record, drawn_dir), encoding="utf-8")
        return path

    return write


def text_of(kind: str, record: EvaluationRecord, drawn_dir: Path) -> str:
    long = "a_name_without_any_place_to_break_" * 8 + "<script>alert(1)</script>"
    strange = dataclasses.replace(
        record, detector=long, weights=long, protocol=long, versions={long: long}, machine=long,
        metrics=tuple(dataclasses.replace(metric, display_name=long) for metric in record.metrics),
        crops=tuple(dataclasses.replace(crop, picture=long) for crop in record.crops),
    )  # fmt: skip
    if kind == "evaluation":
        return evaluation_page(record)
    if kind == "strange":
        return evaluation_page(strange)
    if kind == "comparison":
        other = dataclasses.replace(record, protocol="another")
        return comparison_page([record, other, strange, record], ["yunet-n", "other", long, "face-detection-0205"])
    labels = read_labels(drawn_dir / "annotations.json", drawn_dir)
    with_faces = [index for index, picture in enumerate(labels) if len(picture.boxes_xywh)]
    labels[with_faces[0]].boxes_xywh[0, 2:] = 9  # one small face
    empty = with_faces[1]
    labels[empty] = labels[empty].take(np.zeros(len(labels[empty].boxes_xywh), bool))
    template = load_template(find_template("yunet-n"))
    return browse_page("drawn", labels, augmentation=Augmentation(template, 0) if kind == "augmented" else None)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("width", "dark"), [(PHONE, True), (DESKTOP, False)])
def test_fits_and_fetches_nothing(
    browser: Any, pages: Any, record: EvaluationRecord, kind: str, width: int, dark: bool
) -> None:
    path = pages(kind, record)
    browser.show(path, width, dark=dark)
    assert browser.run("document.documentElement.clientWidth") == width
    assert browser.run("document.documentElement.scrollWidth") <= width, browser.run(TOO_WIDE)
    assert browser.run(TOO_WIDE) == []
    assert browser.complaints() == []
    assert browser.requests() == [path.resolve().as_uri()]


@pytest.mark.parametrize("kind", ["evaluation", "comparison", "browse"])
@pytest.mark.parametrize("dark", [False, True])
def test_contrast(browser: Any, pages: Any, record: EvaluationRecord, kind: str, dark: bool) -> None:
    browser.show(pages(kind, record), DESKTOP, dark=dark)
    least, where = browser.run(CONTRAST)
    assert least >= 4.5, where


@pytest.mark.parametrize(("width", "least", "most"), [(PHONE, 11.5, 13), (DESKTOP, 11, 15)])
@pytest.mark.parametrize("kind", ["evaluation", "comparison"])
def test_text_of_charts_is_as_large_as_that_around(
    browser: Any, pages: Any, record: EvaluationRecord, kind: str, width: int, least: float, most: float
) -> None:
    browser.show(pages(kind, record), width)
    sizes = browser.run("""[...document.querySelectorAll(".chart text")].map((text) =>
      parseFloat(getComputedStyle(text).fontSize) * text.ownerSVGElement.getBoundingClientRect().width / 360)""")
    assert least <= min(sizes) <= max(sizes) <= most


@pytest.mark.parametrize("dark", [False, True])
def test_a_chart_as_a_file(browser: Any, tmp_path: Path, dark: bool) -> None:
    path = tmp_path / "course.svg"
    panels = [Panel("loss", [Line("one", (0, 1), (2, 1))]), Panel("AP", [Line("one", (1,), (30,))])]
    path.write_text(draw_panels("Course", ["one"], panels, "iteration").decode(), encoding="utf-8")
    browser.show(path, PHONE, dark=dark)
    assert browser.complaints() == []
    assert browser.requests() == [path.resolve().as_uri()]
    assert browser.run("document.documentElement.getBoundingClientRect().width") <= PHONE
    ground, ink, line = browser.run("""[["rect", "fill"], ["text[class=fill-text]", "fill"], ["g path", "stroke"]].map(
      ([part, key]) => getComputedStyle(document.querySelector(part))[key])""")
    assert ground == ("rgb(20, 23, 27)" if dark else "rgb(255, 255, 255)")
    assert ink == ("rgb(232, 235, 238)" if dark else "rgb(26, 30, 36)")
    assert line == ("rgb(125, 183, 255)" if dark else "rgb(15, 91, 181)")


def test_dark_is_dark(browser: Any, pages: Any, record: EvaluationRecord) -> None:
    colours = []
    for dark in (False, True):
        browser.show(pages("evaluation", record), dark=dark)
        colours.append(browser.run("getComputedStyle(document.body).backgroundColor"))
    assert colours == ["rgb(255, 255, 255)", "rgb(20, 23, 27)"]


def test_print_is_light_and_whole(browser: Any, pages: Any, record: EvaluationRecord) -> None:
    browser.show(pages("evaluation", record), dark=True)
    browser.call(
        "Emulation.setEmulatedMedia", media="print", features=[{"name": "prefers-color-scheme", "value": "dark"}]
    )
    assert browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.run("document.querySelector('details table').getBoundingClientRect().height") > 100
    browser.call("Emulation.setEmulatedMedia", media="")


def test_tables_are_sorted(browser: Any, pages: Any, record: EvaluationRecord) -> None:
    browser.show(pages("evaluation", record))
    column = (
        """[...document.querySelectorAll("#events tbody td:last-child")].map((cell) => Number(cell.dataset.value))"""
    )
    before = browser.run(column)
    assert before != sorted(before)
    press = 'document.querySelector("#events th:last-child button").click()'
    browser.run(press)
    assert browser.run(column) == sorted(before, reverse=True)
    assert browser.run('document.querySelector("#events th:last-child").ariaSort') == "descending"
    browser.run(press)
    assert browser.run(column) == sorted(before)
    browser.run('document.querySelector("#events th button").click()')
    names = browser.run('[...document.querySelectorAll("#events tbody th")].map((cell) => cell.textContent)')
    assert names == sorted(names)
    assert browser.run('document.querySelectorAll("#events [aria-sort]").length') == 1


def test_what_is_not_defined_is_sorted_last(browser: Any, record: EvaluationRecord, tmp_path: Path) -> None:
    events = [row for row in record.groups if row.group == "event"]
    rows = tuple(dataclasses.replace(row, ap=float("nan")) if i % 3 else row for i, row in enumerate(events))
    path = tmp_path / "nan.html"
    path.write_text(evaluation_page(dataclasses.replace(record, groups=rows)), encoding="utf-8")
    browser.show(path)
    for _ in range(2):
        browser.run('document.querySelector("#events th:last-child button").click()')
        texts = browser.run('[...document.querySelectorAll("#events td:last-child")].map((c) => c.textContent)')
        defined = [text != "n/a" for text in texts]
        assert defined == sorted(defined, reverse=True)


def test_groups_of_a_table_stay_together(browser: Any, pages: Any, record: EvaluationRecord) -> None:
    browser.show(pages("evaluation", record))
    browser.run('document.querySelector("#attributes th:last-child button").click()')
    firsts = browser.run('[...document.querySelectorAll("#attributes tbody")].map((b) => b.rows[0].textContent)')
    assert firsts == ["blur", "expression", "illumination", "occlusion", "pose"]


class TestBrowse:
    NAMES = '[...document.querySelectorAll(".picture:not([hidden])")].map((card) => card.dataset.{key})'

    def choose(self, browser: Any, name: str, value: str, event: str = "change") -> None:
        browser.run(
            f'document.getElementById("{name}").value = "{value}"; '
            f'document.getElementById("{name}").dispatchEvent(new Event("{event}"))'
        )

    def values(self, browser: Any, key: str) -> list[str]:
        return browser.run(self.NAMES.format(key=key))

    def test_sorting(self, browser: Any, pages: Any, record: EvaluationRecord) -> None:
        browser.show(pages("browse", record))
        before = self.values(browser, "name")
        for choice, key, down in (
            ("faces down", "faces", True), ("faces", "faces", False), ("smallest", "smallest", False),
            ("largest down", "largest", True),
        ):  # fmt: skip
            self.choose(browser, "sort", choice)
            values = self.values(browser, key)
            numbers = [float(value) for value in values if value]
            assert len(values) == len(before)
            assert numbers == sorted(numbers, reverse=down)
            assert all(values[: len(numbers)])  # pictures without faces come last
        self.choose(browser, "sort", "order")
        assert self.values(browser, "name") == before

    def test_filters(self, browser: Any, pages: Any, record: EvaluationRecord) -> None:
        browser.show(pages("browse", record))
        total = len(self.values(browser, "name"))
        self.choose(browser, "filter", "landmarks")
        assert 0 < len(self.values(browser, "name")) <= total
        assert "0" not in self.values(browser, "landmarks")
        self.choose(browser, "filter", "small")
        assert self.values(browser, "smallest") == ["9.0"]
        self.choose(browser, "filter", "none")
        assert set(self.values(browser, "faces")) == {"0"}
        self.choose(browser, "filter", "all")
        self.choose(browser, "search", "00003", "input")
        assert [name[-9:] for name in self.values(browser, "name")] == ["00003.jpg"]
        assert browser.run('document.getElementById("shown").textContent') == f"1 of {total} pictures"

    def test_toggles(self, browser: Any, pages: Any, record: EvaluationRecord) -> None:
        browser.show(pages("browse", record))
        shown = 'getComputedStyle(document.querySelector("{part}")).display'
        assert browser.run(shown.format(part=".box")) != "none"
        browser.run('document.getElementById("show-boxes").click()')
        assert browser.run(shown.format(part=".box")) == "none"
        assert browser.run(shown.format(part=".points")) != "none"
        browser.run('document.getElementById("show-landmarks").click()')
        assert browser.run(shown.format(part=".points")) == "none"

    def test_enlarging(self, browser: Any, pages: Any, record: EvaluationRecord) -> None:
        browser.show(pages("browse", record))
        browser.run('document.querySelector(".enlarge").click()')
        assert browser.run('document.getElementById("enlarged").open') is True
        large, small = (
            browser.run(f'document.querySelector("{part} svg").getBoundingClientRect().width')
            for part in ("dialog", ".picture")
        )
        assert large > 2 * small
        browser.run('document.querySelector("dialog button").click()')
        assert browser.run('document.getElementById("enlarged").open') is False
        assert browser.complaints() == []

    def test_without_scripts(self, browser: Any, pages: Any, record: EvaluationRecord) -> None:
        browser.call("Emulation.setScriptExecutionDisabled", value=True)
        try:
            browser.show(pages("browse", record))
        finally:
            browser.call("Emulation.setScriptExecutionDisabled", value=False)
        assert len(self.values(browser, "name")) == 12
        assert browser.run('document.querySelector(".scripted").getBoundingClientRect().height') == 0
        assert browser.run('document.querySelectorAll(".enlarge").length') == 0


def test_the_policy_stops_foreign_scripts_and_fetches(browser: Any, record: EvaluationRecord, tmp_path: Path) -> None:
    """That the policy works at all: a page into which somebody smuggled something."""
    smuggled = (
        '<script>document.title = "owned"</script><img src="http://127.0.0.1:9/x.png" onerror="document.title=1">'
    )
    path = tmp_path / "smuggled.html"
    path.write_text(evaluation_page(record).replace("</main>", f"{smuggled}</main>"), encoding="utf-8")
    browser.show(path)
    assert browser.run("document.title") == "yunet-n: evaluation"
    assert len(browser.complaints()) >= 2
