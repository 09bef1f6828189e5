"""One Pascal VOC XML file: a picture's size and its objects. The two layouts that hold many are voc and voc_wider.

<annotation><folder>0--Parade</folder><filename>x.jpg</filename><size><width>1024</width><height>1385</height></size>
<object><name>face</name><difficult>0</difficult>
<bndbox><xmin>449</xmin><ymin>330</ymin><xmax>571</xmax><ymax>479</ymax></bndbox>
<has_lm>1</has_lm><lm><x1>488.9</x1><y1>373.6</y1> ... <y5>431.5</y5></lm></object></annotation>

Corners are taken as they stand, without the pixel that some VOC readers take off. Objects marked difficult become
is_crowd: neither learnt nor counted as missed, as VOC has it; so do those of <ignore> or <iscrowd>, and of CVAT's
<attributes> of such names (values.IGNORED_NAMES). Flags count by value: true is 1.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree
from xml.parsers import expat
from xml.sax.saxutils import escape

import numpy as np

from facekit.base.progress import progress_bar
from facekit.errors import FacekitError
from facekit.labels.formats.text_lines import format_number, pictures_beside, read_text, shorten
from facekit.labels.layout import known_size
from facekit.labels.picture_labels import MAX_COORDINATE, PictureLabels, Tally, finish_reading
from facekit.labels.picture_paths import PictureFinder
from facekit.labels.values import as_flag, is_ignored, kinds_to_read, say_no_flags

log = logging.getLogger(__name__)

MAX_XML_BYTES = 1 << 24
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_POINTS = tuple(f"{axis}{i}" for i in range(1, 6) for axis in "xy")


@dataclass
class VocFile:
    """What one XML file says, one entry an object."""

    folder: str
    file_name: str
    size_wh: tuple[int, int] | None
    names: list[str] = field(default_factory=list)
    corners: list[list[float]] = field(default_factory=list)
    points: list[list[float]] = field(default_factory=list)
    difficult: list[bool] = field(default_factory=list)
    no_flags: list[str] = field(default_factory=list)  # see values.is_ignored; mostly empty texts


def read_voc_file(path: Path) -> VocFile:
    """Raises FacekitError for a file that can't be read, is too large or no XML, or declares a document type
    (entities could make a small file huge, or read others), and for objects that are incomplete or no numbers."""
    text = read_xml_text(path)
    try:
        root = ElementTree.fromstring(text)  # given text, no encoding that the file names is looked up
    except ElementTree.ParseError as error:
        message = str(error).partition(":")[0]
        raise FacekitError(f"{path}:{error.position[0]}: not valid XML ({message}). Is the file cut off?") from error
    if root.tag != "annotation":
        raise FacekitError(f"{path}:1: expected the element <annotation>, got <{root.tag}>. Is this Pascal VOC?")
    found = VocFile((root.findtext("folder") or "").strip(), (root.findtext("filename") or "").strip(), _size(root))
    for number, element in enumerate(root.iterfind("object")):
        try:
            _add_object(found, element)
        except ValueError as error:
            raise FacekitError(f"{path}:{object_line(path, number)}: {error} Mend the object.") from error
    return found


def compose_voc(name: str, folder: str, labels: PictureLabels) -> str:
    """The XML of one picture; `name` is what goes into <filename>."""
    width, height = known_size(labels)
    lines = [
        "<annotation>", f"<folder>{escape(folder)}</folder>", f"<filename>{escape(name)}</filename>",
        f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>", "<segmented>0</segmented>",
    ]  # fmt: skip
    faces = zip(labels.boxes_xyxy.tolist(), labels.landmarks_xy.reshape(-1, 10), labels.is_crowd.tolist(), strict=True)
    for box, points, crowd in faces:
        lines += [
            "<object>", "<name>face</name>", "<pose>Unspecified</pose>", "<truncated>0</truncated>",
            f"<difficult>{int(crowd)}</difficult>", f"<bndbox>{_elements(_CORNERS, box)}</bndbox>",
        ]  # fmt: skip
        labelled = not np.isnan(points).any()
        if labelled:
            lines.append(f"<lm>{_elements(_POINTS, points.tolist())}</lm>")
        lines += [f"<has_lm>{int(labelled)}</has_lm>", "</object>"]
    return "\n".join([*lines, "</annotation>"]) + "\n"


def read_voc_files(
    xmls: Sequence[Path], find: Callable[[Path, VocFile], tuple[Path, str]], source: Path, finder: PictureFinder,
    as_written: bool, dropped: Tally | None,
) -> list[PictureLabels]:  # fmt: skip
    """The labels of many XML files in their order. Of several kinds of objects only those named face.

    find: from an XML file and its content to the picture and its name in the set, by means of the finder.
    """
    files = [read_voc_file(xml) for xml in progress_bar(xmls, desc=source.name, unit="file", delay_s=2)]
    kinds = {name for file in files for name in file.names}
    faces = kinds_to_read(kinds, str(source))
    numbers = [[i for i, name in enumerate(file.names) if name in faces] for file in files]
    read = [(xml, file.no_flags[i]) for xml, file, chosen in zip(xmls, files, numbers, strict=True) for i in chosen]
    say_no_flags([f"{xml}: {no_flag}" for xml, no_flag in read if no_flag], str(source))
    pictures = []
    for xml, file, chosen in zip(xmls, files, numbers, strict=True):
        path, name = find(xml, file)
        pictures.append(_to_labels(file, path, name, chosen))
    finder.finish()

    def locate(picture: int, face: int | None) -> str:
        if face is None:
            return f"{xmls[picture]}:1"
        return f"{xmls[picture]}:{object_line(xmls[picture], numbers[picture][face])}"

    return finish_reading(pictures, source, finder.root, locate, dropped, as_written, finder.looked_in)


def say_what_has_no_xml(pictures: Sequence[PictureLabels], folders: Iterable[Path], source: Path) -> None:
    without = pictures_beside(folders, {picture.path for picture in pictures})
    if without:
        log.warning(
            "%s: %d pictures without an XML file: not in the set (first: %s).", source, len(without), without[0]
        )


def object_line(path: Path, number: int) -> int:
    """The line where an object starts, counted from 0: the slow way, for messages."""
    lines: list[int] = []
    parser = expat.ParserCreate()

    def start(tag: str, _: dict[str, str]) -> None:
        if tag == "object":
            lines.append(parser.CurrentLineNumber)

    parser.StartElementHandler = start
    parser.Parse(read_xml_text(path), True)
    return lines[number] if number < len(lines) else 1


def read_xml_text(path: Path, max_bytes: int | None = None) -> str:
    """Raises FacekitError for what is no UTF-8 text of up to max_bytes (of MAX_XML_BYTES), and for document types and
    entities."""
    text = read_text(path, MAX_XML_BYTES if max_bytes is None else max_bytes)
    place = text.find("<!DOCTYPE")
    if place >= 0:
        line = text.count("\n", 0, place) + 1
        raise FacekitError(f"{path}:{line}: document types and entities are refused. Take <!DOCTYPE ...> out.")
    return text


def _add_object(found: VocFile, element: ElementTree.Element) -> None:
    parts = {child.tag: child for child in element}
    texts = {tag: (child.text or "").strip() for tag, child in parts.items()}
    points = [math.nan] * len(_POINTS)
    has_landmarks = texts.get("has_lm") or ("1" if "lm" in parts else "0")
    if has_landmarks not in ("0", "1"):
        raise ValueError(f"expected <has_lm> 0 or 1, got {shorten(has_landmarks)}.")
    if has_landmarks == "1":
        points = _numbers(parts.get("lm"), "lm", _POINTS)
    found.corners.append(_numbers(parts.get("bndbox"), "bndbox", _CORNERS))
    found.points.append(points)
    found.names.append(texts.get("name", "").lower())
    flags = {tag: as_flag(texts.get(tag)) for tag in ("difficult", "ignore", "iscrowd")}
    if wrong := [tag for tag, flag in flags.items() if flag is None]:
        raise ValueError(f"expected <{wrong[0]}> 0 or 1, got {shorten(texts[wrong[0]])}.")
    attributes = [(part.findtext("name"), part.findtext("value")) for part in element.iterfind("attributes/attribute")]
    is_crowd, no_flag = is_ignored(attributes)
    found.difficult.append(any(flags.values()) | is_crowd)
    found.no_flags.append(no_flag)


def _numbers(parent: ElementTree.Element | None, name: str, tags: Sequence[str]) -> list[float]:
    """The numbers in the elements `tags` of one element; raises ValueError for what is missing or no number."""
    if parent is None:
        raise ValueError(f"expected <{name}> in this <object>, got none.")
    texts = {child.tag: child.text or "" for child in parent}
    try:
        wanted = [texts[tag] for tag in tags]
        values = list(map(float, wanted))
        joined = "".join(wanted)
        # The sum is finite only if all are; min and max alone may step over a NaN.
        small = math.isfinite(sum(values)) and max(values) <= MAX_COORDINATE and min(values) >= -MAX_COORDINATE
        if small and joined.isascii() and "_" not in joined:
            return values
    except (KeyError, ValueError):
        pass
    got = ", ".join(f"{tag} {texts[tag]!r}" for tag in tags if tag in texts)
    raise ValueError(f"expected finite numbers in <{name}>: {', '.join(tags)}; got {shorten(got)}.")


def _size(root: ElementTree.Element) -> tuple[int, int] | None:
    texts = [(root.findtext(f"size/{side}") or "").strip() for side in ("width", "height")]
    if not all(text.isascii() and text.isdigit() and 0 < len(text) < 10 and int(text) > 0 for text in texts):
        return None
    return int(texts[0]), int(texts[1])


def _to_labels(file: VocFile, path: Path, name: str, chosen: list[int]) -> PictureLabels:
    boxes = np.array([file.corners[i] for i in chosen], np.float64).reshape(-1, 4)
    boxes[:, 2:] -= boxes[:, :2]
    points = np.array([file.points[i] for i in chosen], np.float64).reshape(-1, 5, 2)
    points[(points == -1).all(axis=2)] = np.nan
    is_crowd = np.array([file.difficult[i] for i in chosen], bool)
    return PictureLabels(path, file.size_wh, boxes, points, is_crowd, name=name)


def _elements(tags: Sequence[str], values: Sequence[float]) -> str:
    return "".join(f"<{tag}>{format_number(value)}</{tag}>" for tag, value in zip(tags, values, strict=True))
