"""CVAT's own XML, "CVAT for images 1.1": all pictures of a task in one file.

<annotations><version>1.1</version><meta>...</meta>
<image id="0" name="a/x.jpg" width="512" height="512">
<box label="face" xtl="180" ytl="54" xbr="273" ybr="174" occluded="0" z_order="0" group_id="1">
<attribute name="difficult">false</attribute></box>
<skeleton label="points" group_id="1"><points label="left_eye" points="207.5,95.1" outside="0"/>...</skeleton>
</image></annotations>

Boxes (turned ones too), polygons, masks and ellipses give a face's box. Points that are named as landmarks, alone or of
a skeleton, belong to the box of their group, or that they lie in. A shape with an attribute that says so
(values.IGNORED_NAMES) is a crowd. Read alone.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from facekit.errors import FacekitError
from facekit.labels.drawn import XY, Drawing, DrawnBox, DrawnFaces, DrawnPoint, box_around, box_of_ellipse, is_finite
from facekit.labels.formats.text_lines import shorten
from facekit.labels.formats.voc_xml import read_xml_text
from facekit.labels.picture_labels import PictureLabels, Tally, finish_reading
from facekit.labels.picture_paths import PictureFinder, guesses_beside
from facekit.labels.values import as_number, as_whole, class_name, is_ignored

log = logging.getLogger(__name__)

MAX_CVAT_BYTES = 1 << 28
_CHUNK = 1 << 16  # characters


@dataclass
class _Image:
    name: str
    size_wh: tuple[int, int] | None
    drawing: Drawing = field(default_factory=Drawing)


def looks_like_cvat(source: Path, lines: list[str]) -> bool:
    """An XML text whose first element is <annotations>."""
    return any("<annotations" in line for line in lines[:5]) and lines[0].startswith("<")


def read_cvat(
    source: Path, data_root: Path | None = None, as_written: bool = False, dropped: Tally | None = None
) -> list[PictureLabels]:
    """Pictures in the file's order. Raises FacekitError with the picture at fault."""
    images = _images(source)
    faces = DrawnFaces(source, [image.drawing for image in images])
    finder = PictureFinder(source, data_root, guesses_beside(source))
    pictures = []
    for number, image in enumerate(images):
        path, name = finder.find(image.name, f"{source}: <image> {number}")
        pictures.append(faces.labels(number, path, name, image.size_wh))
    finder.finish()

    def locate(picture: int, face: int | None) -> str:
        return f"{source}: <image> {picture}" if face is None else faces.boxes[picture][face].place

    return finish_reading(pictures, source, finder.root, locate, dropped, as_written, finder.looked_in)


def _images(source: Path) -> list[_Image]:
    text = read_xml_text(source, MAX_CVAT_BYTES)
    parser: Any = ElementTree.XMLPullParser(events=("start", "end"))
    images: list[_Image] = []
    tracks, depth = 0, 0
    root: ElementTree.Element | None = None
    try:
        for start in range(0, len(text) + 1, _CHUNK):
            parser.feed(text[start : start + _CHUNK])
            if start + _CHUNK > len(text):
                parser.close()
            for event, element in parser.read_events():
                root = element if root is None else root
                depth += 1 if event == "start" else -1
                if event == "end" and depth == 1:
                    tracks += element.tag == "track"
                    if element.tag == "image":
                        images.append(_read_image(element, f"{source}: <image> {len(images)}"))
                    root.clear()  # or millions of elements would stay
    except ElementTree.ParseError as error:
        message = str(error).partition(":")[0]
        raise FacekitError(f"{source}:{error.position[0]}: not valid XML ({message}). Is the file cut off?") from error
    if not images and tracks:
        raise FacekitError(
            f"{source}: holds {tracks} tracks of a video and no <image>. Export it as 'CVAT for images 1.1' instead."
        )
    if not images:
        raise FacekitError(f"{source}: no <image> is listed; there is nothing to train or to measure on.")
    return images


def _read_image(element: ElementTree.Element, where: str) -> _Image:
    name = element.get("name")
    if not name:
        raise FacekitError(f"{where}: expected an attribute name, got none.")
    width, height = as_whole(element.get("width")), as_whole(element.get("height"))
    size_wh = (width, height) if width and height and width > 0 and height > 0 else None
    image = _Image(name, size_wh)
    for number, shape in enumerate(element):
        try:
            _add(image.drawing, shape, f"{where}, shape {number}")
        except ValueError as error:
            raise FacekitError(f"{where}, shape {number}: {error}") from error
    return image


def _add(drawing: Drawing, shape: ElementTree.Element, place: str) -> None:
    """Raises ValueError for numbers that are none."""
    group = shape.get("group_id") or None
    if shape.tag in ("points", "skeleton"):
        _add_points(drawing, shape, group)
        return
    box = _box(shape)
    if box is None:
        drawing.passed_over[f"<{shorten(shape.tag)[1:-1]}>"] += 1
        return
    flags = [(part.get("name"), part.text) for part in shape.iterfind("attribute")]
    is_crowd, no_flag = is_ignored(flags)
    drawing.boxes.append(DrawnBox(class_name(shape.get("label")), box, group, is_crowd, place, no_flag))


def _add_points(drawing: Drawing, shape: ElementTree.Element, group: str | None) -> None:
    for part in shape.iterfind("points") if shape.tag == "skeleton" else [shape]:
        points = _points(part)
        if part.get("outside") == "1":  # not in the picture
            continue
        if len(points) != 1:
            drawing.passed_over["points drawn together"] += len(points)
            continue
        drawing.points.append(DrawnPoint(part.get("label", ""), points[0], group))


def _box(shape: ElementTree.Element) -> tuple[float, float, float, float] | None:
    """x, y, w, h; None for a shape without an area."""
    angle = math.radians(_numbers(shape, "rotation")[0]) if shape.get("rotation") else 0.0
    if shape.tag == "box":
        x1, y1, x2, y2 = _numbers(shape, "xtl", "ytl", "xbr", "ybr")
        if not angle:
            return x1, y1, x2 - x1, y2 - y1
        w, h = x2 - x1, y2 - y1
        half_w = (abs(w * math.cos(angle)) + abs(h * math.sin(angle))) / 2
        half_h = (abs(w * math.sin(angle)) + abs(h * math.cos(angle))) / 2
        return (x1 + x2) / 2 - half_w, (y1 + y2) / 2 - half_h, 2 * half_w, 2 * half_h
    if shape.tag == "mask":
        left, top, width, height = _numbers(shape, "left", "top", "width", "height")
        return left, top, width, height
    if shape.tag == "ellipse":
        cx, cy, rx, ry = _numbers(shape, "cx", "cy", "rx", "ry")
        return box_of_ellipse(cx, cy, rx, ry, angle)
    if shape.tag == "polygon":
        points = _points(shape)
        return box_around(points) if len(points) > 2 else None
    return None


def _numbers(shape: ElementTree.Element, *names: str) -> list[float]:
    values = [number for name in names if (number := as_number(shape.get(name))) is not None]
    if len(values) < len(names) or not is_finite(values):
        raise ValueError(f"expected finite numbers {', '.join(names)}, got {shorten(dict(shape.attrib))}.")
    return values


def _points(shape: ElementTree.Element) -> list[XY]:
    """Of "x,y;x,y"."""
    points = []
    for pair in (shape.get("points") or "").split(";"):
        x, y = (as_number(value) for value in pair.split(",")) if pair.count(",") == 1 else (None, None)
        if x is None or y is None or not is_finite((x, y)):
            raise ValueError(f'expected points "x,y;x,y" of finite numbers, got {shorten(shape.get("points"))}.')
        points.append((x, y))
    return points
