from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from html.parser import HTMLParser
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facekit.pages.shell import (
    CSS,
    SORT_SCRIPT,
    Cell,
    Html,
    Section,
    beside,
    data_block,
    definitions,
    encode_jpeg,
    escape,
    folded,
    join,
    jpeg_image,
    meter,
    page,
    table,
    warning,
)

EVIL = "<script>alert(1)</script>\"'&<!--\x00\udcff\u2028"


def minimal(**changes: Any) -> str:
    section = Section("one", "First", Html("<p>text</p>"))
    return page(**{"title": "T", "header": Html("<h1>T</h1>"), "sections": [section], **changes})


class TestEscape:
    def test_what_html_means_something_by(self) -> None:
        assert escape("<a href=\"x\" id='y'>&") == "&lt;a href=&quot;x&quot; id=&#x27;y&#x27;&gt;&amp;"

    def test_html_stays(self) -> None:
        assert escape(Html("<b>x</b>")) == "<b>x</b>"

    def test_what_utf8_or_html_cannot_hold(self) -> None:
        assert escape("a\udcffb\x00c\x85") == "a\\udcffb\\x00c\\x85"
        assert escape("é 人 😀\n") == "é 人 😀\n"

    @given(st.text(st.characters(codec=None)))
    def test_any_text_stays_text(self, text: str) -> None:
        seen: list[str] = []

        class Reader(HTMLParser):
            def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
                assert tag == "p" and [name for name, _ in attrs] == ["title"]

            def handle_data(self, data: str) -> None:
                seen.append(data)

        safe = escape(text)
        safe.encode("utf-8")
        Reader().feed(f'<p title="{safe}">{safe}</p>')
        printable = "".join(seen)
        assert not re.search("[\x00-\x08\x7f-\x9f\ud800-\udfff]", printable)


class TestPage:
    def test_a_whole_document(self, parse: Any) -> None:
        document = parse(minimal())
        assert document.text.startswith("<!DOCTYPE html>\n")
        assert document.all("html") == [{"lang": "en"}]
        names = [tag for tag, _ in document.elements]
        for landmark in ("header", "main", "footer"):
            assert names.count(landmark) == 1
        assert document.all("a")[0] == {"class": "skip", "href": "#content"}
        assert document.all("meta")[0] == {"charset": "utf-8"}

    def test_the_same_every_time(self) -> None:
        assert minimal() == minimal()

    def test_navigation_from_three_sections_on(self, parse: Any) -> None:
        sections = [Section(f"s{i}", f"Part {i} & <more>", Html("<p>x</p>")) for i in range(3)]
        assert parse(minimal(sections=sections[:2])).all("nav") == []
        document = parse(minimal(sections=sections))
        assert [a["href"] for a in document.all("a")[1:]] == ["#s0", "#s1", "#s2"]
        assert len(document.ids) == len(set(document.ids))
        assert "Part 1 & <more>" in document.words

    def test_fetches_nothing(self, parse: Any) -> None:
        assert parse(minimal(scripts=[SORT_SCRIPT])).fetched() == []
        assert "url(" not in CSS and "@import" not in CSS
        assert "http" not in CSS + SORT_SCRIPT

    def test_policy_allows_our_bytes_alone(self, parse: Any) -> None:
        document = parse(minimal(scripts=["'use strict';", SORT_SCRIPT]))
        policy = next(m["content"] for m in document.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
        parts = {part.split()[0]: part.split()[1:] for part in policy.split("; ")}
        assert parts["default-src"] == ["'none'"]
        assert parts["img-src"] == ["data:"]
        scripts = re.findall(r"<script>(.*?)</script>", document.text, re.DOTALL)
        styles = re.findall(r"<style>(.*?)</style>", document.text, re.DOTALL)
        assert parts["script-src"] == [digest(script) for script in scripts]
        assert parts["style-src"] == [digest(style) for style in styles]
        assert "unsafe" not in policy

    def test_without_scripts_none_may_run(self, parse: Any) -> None:
        assert "script-src 'none'" in minimal()
        assert parse(minimal()).all("script") == []

    def test_titles_are_escaped(self, parse: Any) -> None:
        document = parse(minimal(title=EVIL, sections=[Section("a", EVIL, Html(""))]))
        assert document.all("script") == []
        document.text.encode("utf-8")


def digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


class TestTable:
    def test_headings_have_scopes(self, parse: Any) -> None:
        rows = [["a", Cell("1", 1.0)], ["b", Cell("2", 2.0)]]
        document = parse(table(["name", "count"], [("group", rows), ("", [["c", Cell("3", 3.0)]])], "Counts"))
        assert [th["scope"] for th in document.all("th")] == ["col", "col", "rowgroup", "row", "row", "row"]
        assert [td["data-value"] for td in document.all("td")] == ["1", "2", "3"]
        assert document.all("th")[1]["class"] == "number"
        assert document.all("div")[0]["aria-label"] == "Counts"
        assert len(document.all("tbody")) == 2

    def test_cells_are_escaped(self, parse: Any) -> None:
        document = parse(table([EVIL, "x"], [(EVIL, [[EVIL, Cell(EVIL, math.nan)]])], EVIL))
        assert document.all("script") == []
        assert document.words.count("<script>alert(1)</script>") == 4

    def test_not_a_number_can_be_sorted(self, parse: Any) -> None:
        assert parse(table(["n"], [("", [[Cell("n/a", math.nan)]])], "x")).all("th")[1]["data-value"] == "nan"

    def test_as_many_cells_as_headings(self) -> None:
        with pytest.raises(ValueError, match="zip"):
            table(["one"], [("", [["a", "b"]])], "x")

    def test_sortable_where_asked(self, parse: Any) -> None:
        rows = [("", [["a"]])]
        assert "data-sortable" in parse(table(["n"], rows, "x", sortable=True)).all("table")[0]
        assert "data-sortable" not in parse(table(["n"], rows, "x")).all("table")[0]


class TestData:
    @pytest.mark.parametrize("value", [EVIL, "</script><img src=x onerror=alert(1)>", "<!-- <script>", "é&amp;"])
    def test_leaves_the_script_element_by_no_way(self, value: str) -> None:
        text = data_block("d", json.dumps({"x": value}))
        assert re.search(r"[<>&]", text.removeprefix('<script type="application/json" id="d">')[:-9]) is None
        content = text.partition(">")[2].rpartition("</script>")[0]
        assert json.loads(content) == {"x": value}


class TestPictures:
    def test_shrunk_to_the_longest_side(self) -> None:
        jpeg, size_wh = encode_jpeg(np.zeros((100, 400, 3), np.uint8), max_side=200)
        assert size_wh == (200, 50)
        assert cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR).shape == (50, 200, 3)

    def test_never_enlarged(self) -> None:
        assert encode_jpeg(np.zeros((10, 20, 3), np.uint8), max_side=200)[1] == (20, 10)

    def test_a_side_of_less_than_a_pixel(self) -> None:
        assert encode_jpeg(np.zeros((1, 1000, 3), np.uint8), max_side=100)[1] == (100, 1)

    def test_colours_stay(self) -> None:
        image_bgr = np.full((40, 40, 3), (200, 100, 30), np.uint8)
        jpeg, _ = encode_jpeg(image_bgr, 40)
        seen = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
        assert np.abs(seen.astype(int) - image_bgr).max() < 6

    def test_element(self, parse: Any) -> None:
        image = parse(jpeg_image(b"\xff\xd8", f'a "{EVIL}', (3, 4))).all("img")[0]
        assert image["width"] == "3"
        assert image["src"] == "data:image/jpeg;base64,/9g="
        assert image["alt"].startswith('a "<script>')


class TestParts:
    @pytest.mark.parametrize(("value", "width"), [(50.0, "50.0"), (-3.0, "0.0"), (170.0, "100.0"), (math.nan, "0.0")])
    def test_meter_within_bounds(self, value: float, width: str) -> None:
        assert f'width="{width}"' in meter(value)

    def test_definitions_without_a_value_are_left_out(self, parse: Any) -> None:
        document = parse(definitions([("Machine", ""), ("Weights", "<x>")]))
        assert document.words == "Weights <x>"

    def test_the_rest_escapes(self, parse: Any) -> None:
        document = parse(
            join([warning(EVIL), folded(EVIL, Html("<p>in</p>"), opened=True), beside(Html("a"), Html("b"))])
        )
        assert document.all("script") == []
        assert "open" in document.all("details")[0]
