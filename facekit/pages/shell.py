"""The one shell of all pages: a whole HTML document that holds everything it shows and may fetch nothing."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

FOLDER = Path(__file__).parent
CSS = (FOLDER / "page.css").read_text(encoding="utf-8")  # inline style attributes are forbidden by the pages' policy
SORT_SCRIPT = (FOLDER / "sort.js").read_text(encoding="utf-8")
SERIES = 8  # colours of curves and bars in CSS; further ones start again, with other dashes

# What no HTML document may hold: control characters, and halves of surrogate pairs (bytes of a file name that are no
# UTF-8), which can't be written as UTF-8 either.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")


class Html(str):
    """Text that is HTML already; whatever is not is escaped where it meets HTML."""

    __slots__ = ()


Content = Html | str


@dataclass(frozen=True)
class Section:
    """One part of a page; the navigation above lists them."""

    anchor: str  # id, unique on the page
    title: str
    body: Html


@dataclass(frozen=True)
class Cell:
    """One cell of a table."""

    content: Content
    value: float | None = None  # what a number is sorted by, NaN last; None: the cell is text
    kind: str = ""  # CSS classes of ours


Row = Sequence[Cell | str]


def escape(text: Content) -> Html:
    """Any text as HTML; Html as it is. What can't be printed is written as \\x and \\u escapes."""
    return text if isinstance(text, Html) else Html(html.escape(printable(text), quote=True))


def printable(text: str) -> str:
    """Text that any document can hold: what can't be printed is written as \\x and \\u escapes."""
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def join(parts: Iterable[Content]) -> Html:
    """The parts one below the other."""
    return Html("\n".join(escape(part) for part in parts))


def page(title: str, header: Html, sections: Sequence[Section], scripts: Sequence[str] = (), data: str = "") -> str:
    """A complete document.

    header: what stands above the sections, with the h1. scripts: JavaScript of ours; the policy names each by its
    SHA-256 and forbids every other, and all fetching. data: see data_block().
    """
    links = join(Html(f'<li><a href="#{part.anchor}">{escape(part.title)}</a></li>') for part in sections)
    navigation = f'<nav aria-label="Sections"><ul>\n{links}\n</ul></nav>' if len(sections) > 2 else ""
    body = "\n".join(
        f'<section id="{part.anchor}" aria-labelledby="{part.anchor}-title">\n'
        f'<h2 id="{part.anchor}-title">{escape(part.title)}</h2>\n{part.body}\n</section>'
        for part in sections
    )
    code = "\n".join(f"<script>{script}</script>" for script in scripts)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_policy(scripts)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<meta name="generator" content="facekit">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<style>{CSS}</style>
</head>
<body>
<a class="skip" href="#content">To the content</a>
<header>
{header}
</header>
{navigation}
<main id="content">
{body}
</main>
<footer><p>Written by facekit. This page holds all that it shows and loads nothing.</p></footer>
{data}
{code}
</body>
</html>
"""


def _policy(scripts: Sequence[str]) -> str:
    """Nothing may be fetched; the pictures are data, style and scripts are ours to the byte."""
    allowed = " ".join(_source_hash(script) for script in scripts) or "'none'"
    return (
        f"default-src 'none'; img-src data:; style-src {_source_hash(CSS)}; script-src {allowed}; "
        "base-uri 'none'; form-action 'none'"
    )


def _source_hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def data_block(anchor: str, json_text: str) -> Html:
    """JSON for programs that read the page; never run. Readers find it by the line that data_start() gives."""
    # Within a script element only `<` can end it or start a comment; in JSON it stands in strings alone.
    harmless = json_text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return Html(f"{data_start(anchor)}{harmless}</script>")


def data_start(anchor: str) -> str:
    return f'<script type="application/json" id="{anchor}">'


def table(
    headings: Sequence[str], groups: Sequence[tuple[str, Sequence[Row]]], label: str, sortable: bool = False
) -> Html:
    """Rows under headings, in groups with a title each ("" for none), in a box that scrolls on its own.

    The first cell of a row names it. A column is one of numbers where its first row's cell is.
    """
    first = next(row for _, rows in groups for row in rows)
    numeric = [isinstance(cell, Cell) and cell.value is not None for cell in first]
    head = "".join(
        f'<th scope="col"{_kind("number" if number else "")}>{escape(heading)}</th>'
        for heading, number in zip(headings, numeric, strict=True)
    )
    bodies = []
    for title, rows in groups:
        lines = [f'<tr><th scope="rowgroup" colspan="{len(headings)}">{escape(title)}</th></tr>'] if title else []
        lines += ["<tr>" + "".join(_cell(cell, index == 0) for index, cell in enumerate(row)) + "</tr>" for row in rows]
        bodies.append("<tbody>\n" + "\n".join(lines) + "\n</tbody>")
    mark = " data-sortable" if sortable else ""
    narrow = " narrow" if len(headings) < 4 else ""
    return Html(
        f'<div class="wide{narrow}" role="region" tabindex="0" aria-label="{escape(label)}">\n<table{mark}>\n'
        f"<thead><tr>{head}</tr></thead>\n" + "\n".join(bodies) + "\n</table>\n</div>"
    )


def _cell(cell: Cell | str, first: bool) -> str:
    part = cell if isinstance(cell, Cell) else Cell(cell)
    kind = f"number {part.kind}".strip() if part.value is not None else part.kind
    value = "" if part.value is None else f' data-value="{part.value:.10g}"'
    opening, closing = ('th scope="row"', "th") if first else ("td", "td")
    return f"<{opening}{_kind(kind)}{value}>{escape(part.content)}</{closing}>"


def _kind(kind: str) -> str:
    return f' class="{kind}"' if kind else ""


def definitions(pairs: Iterable[tuple[str, Content]]) -> Html:
    """Terms with a value each; those without are left out."""
    rows = (Html(f"<div><dt>{escape(term)}</dt><dd>{escape(value)}</dd></div>") for term, value in pairs if value)
    return Html(f'<dl class="facts">\n{join(rows)}\n</dl>')


def warning(text: str) -> Html:
    return Html(f'<div class="warning" role="note"><p>{escape(text)}</p></div>')


def folded(summary: str, body: Html, opened: bool = False) -> Html:
    """What is shown on demand, and in print always."""
    return Html(f"<details{' open' if opened else ''}><summary>{escape(summary)}</summary>\n{body}\n</details>")


def beside(one: Html, other: Html) -> Html:
    """Two parts next to each other where there is room."""
    return Html(f'<div class="beside">\n<div>\n{one}\n</div>\n<div>\n{other}\n</div>\n</div>')


def meter(per_cent: float) -> Html:
    """A bar of 0..100 beside its figure, which says the same."""
    width = min(max(0.0, per_cent), 100.0)  # in this order NaN becomes 0
    return Html(
        '<svg class="meter" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect width="{width:.1f}" height="8"/></svg>'
    )


def jpeg_image(jpeg: bytes, alt: str, size_wh: tuple[int, int] | None = None) -> Html:
    """An img element that holds the file."""
    size = f' width="{size_wh[0]}" height="{size_wh[1]}"' if size_wh else ""
    return Html(f'<img alt="{escape(alt)}"{size} src="data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}">')


def encode_jpeg(image_bgr: NDArray[np.uint8], max_side: int, quality: int = 80) -> tuple[bytes, tuple[int, int]]:
    """The picture, shrunk where a side is over max_side pixels, as a JPEG, and its width and height."""
    height, width = image_bgr.shape[:2]
    scale = min(1.0, max_side / max(height, width))
    size_wh = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(image_bgr, size_wh, interpolation=cv2.INTER_AREA) if scale < 1 else image_bgr
    _, data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return data.tobytes(), size_wh
