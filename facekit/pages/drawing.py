"""Figures drawn by matplotlib, written as SVG in the pages' colours: to stand in a page, or as a file of its own.

Everything is measured in units of the SVG's view box, from its upper left corner. Colours are names of page.css.
"""

from __future__ import annotations

import io
import logging
import math
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from facekit.base.extras import optional_packages
from facekit.pages.shell import CSS, Html, printable

if TYPE_CHECKING:  # matplotlib takes a second to import: only who draws pays for it
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.typing import RcKeyType

GENERATOR = "facekit"  # facekit.results.existing looks for it
FONT_SIZE = 12
MARKER_RADIUS = 3.5  # every marker is a circle of this size
UNITS_PER_INCH = 72.0  # matplotlib's SVG is in points
DARK = "@media screen and (prefers-color-scheme: dark)"
_VARIABLE = re.compile(r"--([\w-]+): (#[0-9a-f]{6});")
LIGHT_COLOURS, DARK_COLOURS = (dict(_VARIABLE.findall(part)) for part in CSS.split(DARK, 1))
# Matplotlib is given a colour of no meaning for each name, which is found again in what it writes.
STAND_INS = {name: f"#f000{number:02x}" for number, name in enumerate(LIGHT_COLOURS)}
NAMES = {colour: name for name, colour in STAND_INS.items()}
STYLE: dict[RcKeyType, Any] = {
    "svg.fonttype": "none",  # text stays text, in the reader's font
    "text.parse_math": False,  # a $ in a name is a $
    "text.color": STAND_INS["text"],
    "font.size": FONT_SIZE,
    "axes.axisbelow": True,
    "axes.edgecolor": STAND_INS["quiet"],
    "axes.labelcolor": STAND_INS["quiet"],
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": STAND_INS["line"],
    "xtick.bottom": False,
    "ytick.left": False,
    "xtick.labelcolor": STAND_INS["quiet"],
    "ytick.labelcolor": STAND_INS["quiet"],
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.major.pad": 7,
    "ytick.major.pad": 6,
    "lines.solid_capstyle": "round",
    "lines.scale_dashes": False,
}
SVG = "http://www.w3.org/2000/svg"
_NUMBER = re.compile(r"-?\d+\.\d+")


@dataclass(frozen=True)
class Sheet:
    """A figure to draw on, and what the marks on it say when they are pointed at."""

    figure: Figure
    width: float
    height: float
    said: dict[str, str] = field(default_factory=dict)

    def axes(self, left: float, top: float, right: float, bottom: float) -> Axes:
        """A plot between these edges."""
        place = (left / self.width, 1 - bottom / self.height, (right - left) / self.width, (bottom - top) / self.height)
        axes = self.figure.add_axes(place)
        axes.patch.set_visible(False)
        return axes

    def say(self, artist: Artist, text: str) -> None:
        """Names a mark."""
        key = f"mark{len(self.said)}"
        artist.set_gid(key)
        self.said[key] = printable(text)

    def text(self, x: float, y: float, text: str, colour: str, align: str = "left", weight: str = "normal") -> None:
        """One line of text, y being its base line."""
        self.figure.text(
            x / self.width, 1 - y / self.height, one_line(text), color=STAND_INS[colour], ha=align, va="baseline",
            weight=weight,
        )  # fmt: skip

    def inline_svg(self, title: str, described: str) -> Html:
        """An svg element for a page: as wide as its place, coloured by the page's variables, without any id."""
        root = self._tree(title, described)
        for part in root.iter():
            for key, value in part.items():
                if value in NAMES:
                    part.set(key, f"var(--{NAMES[value]})")
        return Html(ElementTree.tostring(root, encoding="unicode"))

    def standalone_svg(self, title: str, described: str, font_family: str) -> str:
        """A file of its own: in light colours where nothing else is understood, dark where the reader's screen is."""
        root = self._tree(title, described)
        ground = ElementTree.Element("rect", width="100%", height="100%", fill=STAND_INS["paper"])
        root.insert(2, ground)
        rules = {f":root {{ background: {DARK_COLOURS['paper']}; }}"}
        for part in root.iter():
            kinds = [(key, NAMES[value]) for key, value in part.items() if value in NAMES]
            for key, name in kinds:
                part.set(key, LIGHT_COLOURS[name])
                rules.add(f".{key}-{name} {{ {key}: {DARK_COLOURS[name]}; }}")
            if kinds:
                part.set("class", " ".join(f"{key}-{name}" for key, name in kinds))
        style = ElementTree.Element("style")
        rows = "\n".join(sorted(rules))
        shape = f":root {{ max-width: 100%; height: auto; background: {LIGHT_COLOURS['paper']}; }}"
        style.text = f"\n{shape}\n{DARK} {{\n{rows}\n}}\n"
        root.insert(2, style)
        for key, value in (("xmlns", SVG), ("width", f"{self.width:g}"), ("height", f"{self.height:g}")):
            root.set(key, value)
        root.set("font-family", font_family)
        root.set("data-generator", GENERATOR)
        return ElementTree.tostring(root, encoding="unicode") + "\n"

    def picture(self, kind: str) -> bytes:
        """A png, with two pixels a unit, or a pdf, in light colours. Nothing can be drawn after it."""
        self.figure.draw_without_rendering()  # makes the ticks, to be coloured with the rest
        for artist in self.figure.findobj():
            _colour_light(artist)
        self.figure.patch.set(visible=True, facecolor=LIGHT_COLOURS["paper"])
        written = io.BytesIO()
        signed = {"Software" if kind == "png" else "Creator": GENERATOR}
        self.figure.savefig(written, format=kind, dpi=2 * UNITS_PER_INCH, metadata=signed)
        return written.getvalue()

    def _tree(self, title: str, described: str) -> ElementTree.Element:
        """The figure as plain SVG, its colours still the stand-ins."""
        written = io.BytesIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        self.figure.savefig(written, format="svg", metadata=nothing)
        source = ElementTree.fromstring(written.getvalue())
        root = ElementTree.Element(
            "svg",
            {
                "viewBox": f"0 0 {self.width:g} {self.height:g}",
                "role": "img",
                "font-size": f"{FONT_SIZE}",
                "stroke-linejoin": "round",
            },
        )
        _child(root, "title", title)
        _child(root, "desc", described)
        for part in source:
            self._copy(part, root)
        return root

    def _copy(self, source: ElementTree.Element, target: ElementTree.Element) -> None:
        """Shapes and text alone. Style attributes, which the pages' policy forbids, become attributes of their own."""
        tag = source.tag.removeprefix(f"{{{SVG}}}")
        if tag in ("defs", "metadata"):  # styles; clips, of which nothing has need; the circle that markers use
            return
        if tag == "g":
            said = self.said.get(source.get("id", ""))
            if said is not None:
                target = ElementTree.SubElement(target, "g")
                _child(target, "title", said)
            for part in source:
                self._copy(part, target)
            return
        attributes = _attributes(source)
        if tag == "use":
            attributes = {"cx": attributes.pop("x"), "cy": attributes.pop("y"), "r": f"{MARKER_RADIUS:g}", **attributes}
            tag = "circle"
        copied = ElementTree.SubElement(target, tag, attributes)
        copied.text = source.text if tag == "text" else None


def _colour_light(artist: Artist) -> None:
    """Gives it the light colours of the names that its stand-ins stand for."""
    from matplotlib.colors import is_color_like, to_hex

    for key in ("color", "facecolor", "edgecolor", "markerfacecolor", "markeredgecolor"):
        colour = getattr(artist, f"get_{key}", lambda: None)()
        if colour is not None and is_color_like(colour) and (name := NAMES.get(to_hex(colour))) is not None:
            artist.set(**{key: LIGHT_COLOURS[name]})


def _attributes(source: ElementTree.Element) -> dict[str, str]:
    """What is not said by default."""
    places = {key: value for key, value in source.items() if key in ("d", "x", "y", "transform")}
    kept = {key: " ".join(_NUMBER.sub(_hundredths, value).split()) for key, value in places.items()}
    if kept.get("transform", "").startswith("rotate(-0 "):
        del kept["transform"]
    for declaration in source.get("style", "").split(";"):
        key, _, value = (part.strip() for part in declaration.partition(":"))
        if key not in ("", "font-family", "stroke-dashoffset") and (key, value) != ("font-size", f"{FONT_SIZE}px"):
            kept[key] = value
    return kept


def _hundredths(number: re.Match[str]) -> str:
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")


def _child(parent: ElementTree.Element, tag: str, text: str) -> None:
    ElementTree.SubElement(parent, tag).text = printable(text)


@contextmanager
def sheet(width: float, height: float) -> Iterator[Sheet]:
    """An empty sheet in the pages' style. All that is drawn on it and written of it belongs into the block."""
    log = logging.getLogger("matplotlib")
    level = log.level
    log.setLevel(logging.ERROR)  # it tells of its search for fonts, which are of no concern here
    try:
        with optional_packages():
            import matplotlib
            from matplotlib.figure import Figure

        with warnings.catch_warnings(), matplotlib.rc_context():
            # Of letters that its font lacks: it measures with that font, the reader's own shows them.
            warnings.simplefilter("ignore")
            matplotlib.rcdefaults()  # whatever a matplotlibrc says
            matplotlib.rcParams.update(STYLE)
            figure = Figure((width / UNITS_PER_INCH, height / UNITS_PER_INCH), dpi=UNITS_PER_INCH)
            figure.patch.set_visible(False)
            yield Sheet(figure, width, height)
    finally:
        log.setLevel(level)


def widest(texts: Sequence[str]) -> float:
    """Width of the widest text, in DejaVu Sans, which most fonts are narrower than. Within a sheet's block."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(size=FONT_SIZE)
    return max((text_to_path.get_text_width_height_descent(text, font, False)[0] for text in texts), default=0.0)


def one_line(text: str, most: int = 50) -> str:
    """Text that can be drawn: printable, in one line, shortened in its middle to `most` characters."""
    line = " ".join(printable(text).split())
    half = (most - 1) / 2
    return line if len(line) <= most else f"{line[: math.ceil(half)]}\N{HORIZONTAL ELLIPSIS}{line[-math.floor(half) :]}"
