"""labelme's JSON, also AnyLabeling's: a file a picture, beside it.

{"version": "5.5.0", "flags": {}, "shapes": [{"label": "face", "points": [[180, 54], [273, 174]], "group_id": null,
"shape_type": "rectangle", "flags": {}}], "imagePath": "x.jpg", "imageData": null, "imageHeight": 512,
"imageWidth": 512}

Rectangles, polygons, circles and masks give their box. Points that are named as landmarks belong to the face of their
group_id, or that they lie in. A flag or attribute of values.IGNORED_NAMES makes a crowd. Give
the folder, or one file. Read alone.
"""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

from facekit.base.progress import progress_bar
from facekit.errors import FacekitError
from facekit.labels.drawn import Drawing, DrawnBox, DrawnFaces, DrawnPoint, box_around, is_finite
from facekit.labels.formats.json_file import load_json
from facekit.labels.formats.text_lines import (
    find_picture,
    first_lines,
    is_file,
    label_files_below,
    pictures_beside,
    shorten,
)
from facekit.labels.picture_labels import PictureLabels, Tally, finish_reading
from facekit.labels.picture_paths import PictureFinder
from facekit.labels.values import as_number, as_whole, class_name, is_ignored, named_values

log = logging.getLogger(__name__)

_AREAS = ("rectangle", "polygon", "mask", "rotation", "circle")


def looks_like_labelme(source: Path, lines: list[str]) -> bool:
    """A JSON text with shapes, or a folder with one somewhere in it."""
    if source.is_dir():
        first = next(iter(_files_below(source)), None)
        lines = first_lines(first, 40) if first is not None else []
    return bool(lines) and lines[0][0] == "{" and any('"shapes"' in line for line in lines)


def read_labelme(
    source: Path, data_root: Path | None = None, as_written: bool = False, dropped: Tally | None = None
) -> list[PictureLabels]:
    """Pictures by the names of their files; pictures without one are no part of the set, with a warning.

    data_root: the folder above the pictures where they aren't beside their files.
    Raises FacekitError with the file and the shape.
    """
    top = source if source.is_dir() else source.parent
    files = _files_below(source) if source.is_dir() else [source]
    contents = [_load(file) for file in progress_bar(files, desc=source.name, unit="file", delay_s=2)]
    faces = DrawnFaces(source, [_drawing(content, file) for content, file in zip(contents, files, strict=True)])
    guesses = [folder / name for folder in (top, top.parent) for name in ("", "images")]
    finder = PictureFinder(source, data_root, guesses)
    pictures = []
    for number, (content, file) in enumerate(zip(contents, files, strict=True)):
        beside = _beside(content["imagePath"], file) if data_root is None else None
        if beside is not None:
            path, name = beside, beside.relative_to(top).as_posix()
        else:
            below = (file.relative_to(top).parent / content["imagePath"]).as_posix()
            path, name = finder.find(below, f"{file}: imagePath")
        pictures.append(faces.labels(number, path, name, _size_wh(content)))
    finder.finish()
    if source.is_dir():
        _say_what_has_no_file({picture.path for picture in pictures}, {file.parent for file in files}, source)

    def locate(picture: int, face: int | None) -> str:
        return str(files[picture]) if face is None else faces.boxes[picture][face].place

    return finish_reading(pictures, source, finder.root, locate, dropped, as_written, finder.looked_in)


def _files_below(folder: Path) -> list[Path]:
    return sorted(label_files_below(folder, ".json"))


def _load(file: Path) -> dict[str, Any]:
    content = load_json(file, "labelme's JSON")
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        raise FacekitError(f"{file}: expected labelme's JSON with a list 'shapes', got {shorten(content)}.")
    if not isinstance(content.get("imagePath"), str):
        raise FacekitError(f"{file}: imagePath: expected the picture's name, got {shorten(content.get('imagePath'))}.")
    content.pop("imageData", None)  # the whole picture
    return content


def _beside(image_path: str, file: Path) -> Path | None:
    """The picture beside its file, by the name that the file says, or by the file's own."""
    said = file.with_name(image_path.replace("\\", "/").rpartition("/")[2].strip(".") or "-")
    beside = said if is_file(said) else file.with_name(find_picture(file.parent, file.stem))
    return beside if is_file(beside) else None


def _drawing(content: dict[str, Any], file: Path) -> Drawing:
    drawing = Drawing()
    for number, shape in enumerate(content["shapes"]):
        where = f"{file}: shapes[{number}]"
        if not isinstance(shape, dict) or not isinstance(shape.get("label"), str):
            raise FacekitError(f"{where}: expected a mapping with label and points, got {shorten(shape)}.")
        kind = shape.get("shape_type") or "polygon"  # files of labelme before 3 have polygons alone
        points = _points(shape.get("points"), where)
        group = shape.get("group_id") if isinstance(shape.get("group_id"), int | str) else None
        if kind == "point" and len(points) == 1:
            drawing.points.append(DrawnPoint(shape["label"], points[0], group))
        elif kind in _AREAS and len(points) > 1:
            if kind == "circle":
                (x, y), radius = points[0], math.dist(*points[:2])
                points = [(x - radius, y - radius), (x + radius, y + radius)]
            label = class_name(shape["label"])
            flags = [*shape.items(), *named_values(shape.get("flags")), *named_values(shape.get("attributes"))]
            is_crowd, no_flag = is_ignored(flags)  # by its own, labelme's `flags` and X-AnyLabeling's `attributes`
            drawing.boxes.append(DrawnBox(label, box_around(points), group, is_crowd, where, no_flag))
        else:
            drawing.passed_over[f"{shorten(kind)} of {len(points)} points"] += 1
    return drawing


def _points(value: Any, where: str) -> list[tuple[float, float]]:
    points: list[tuple[float, float]] = []
    for pair in value if isinstance(value, list) else [None]:
        x, y = (as_number(v) for v in pair) if isinstance(pair, list) and len(pair) == 2 else (None, None)
        if x is None or y is None or not is_finite((x, y)):
            raise FacekitError(f"{where}: expected points, a list of [x, y] of finite numbers, got {shorten(value)}.")
        points.append((x, y))
    return points


def _size_wh(content: dict[str, Any]) -> tuple[int, int] | None:
    width, height = as_whole(content.get("imageWidth")), as_whole(content.get("imageHeight"))
    return (width, height) if width and height and width > 0 and height > 0 else None


def _say_what_has_no_file(known: set[Path], folders: set[Path], source: Path) -> None:
    without = pictures_beside(folders, known)
    if without:
        log.warning("%s: %d pictures without a JSON: not in the set (first: %s).", source, len(without), without[0])
