"""COCO json: `images` with file_name, `annotations` with bbox (x, y, w, h) and optionally keypoints for landmarks.

{"images": [{"id": 1, "file_name": "0--Parade/x.jpg", "width": 1024, "height": 1385}], "annotations": [{"id": 1,
"image_id": 1, "category_id": 1, "bbox": [449, 330, 122, 149], "keypoints": [488.9, 373.6, 2, ...],
"attributes": {"blur": 0, "expression": 0, "illumination": 0, "invalid": 0, "occlusion": 0, "pose": 0}}]}

The attributes are ours, after CVAT's; they are read of the pictures whose annotations all have all six.
"""

from __future__ import annotations

import json
import logging
import math
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from facekit.errors import FacekitError
from facekit.files import write_text
from facekit.labels.formats.text_lines import is_picture_name
from facekit.labels.layout import Named
from facekit.labels.picture_labels import (
    MAX_COORDINATE,
    WIDER_ATTRIBUTES,
    PictureLabels,
    Tally,
    finish_reading,
    picture_path,
)
from facekit.structures import LANDMARK_NAMES

log = logging.getLogger(__name__)

_NUMBER_TYPES = {int, float}


def looks_like_coco(source: Path, lines: list[str]) -> bool:
    """A JSON text; names of pictures may start with { too."""
    return bool(lines) and lines[0][0] in "{[" and not is_picture_name(lines[0])


def read_coco(
    annotation_file: Path, data_root: Path | None = None, as_written: bool = False, dropped: Tally | None = None
) -> list[PictureLabels]:
    """Pictures in the file's order, those without faces too.

    Raises FacekitError for a file that is missing or no COCO json, an annotation whose picture is not listed, boxes
    that are no four finite numbers, and pictures that are not under data_root. Boxes without area or outside their
    picture are left out with a warning. as_written keeps every box and number and asks for no picture, for checks.
    """
    limit = None if as_written else MAX_COORDINATE
    data_root = annotation_file.parent if data_root is None else data_root
    content = _load(annotation_file)
    images = _images_by_id(content, annotation_file)
    wanted_category = _face_category(content, annotation_file)

    boxes: dict[Any, list[list[float]]] = defaultdict(list)
    landmarks: dict[Any, list[list[float]]] = defaultdict(list)
    crowds: dict[Any, list[bool]] = defaultdict(list)
    attributes: dict[Any, list[list[int] | None]] = defaultdict(list)
    numbers: dict[Any, list[int]] = defaultdict(list)
    orphans = []
    for number, annotation in enumerate(content["annotations"]):
        where = f"{annotation_file}: annotations[{number}]"
        if not isinstance(annotation, dict) or "image_id" not in annotation or "bbox" not in annotation:
            raise FacekitError(f"{where}: expected a mapping with image_id and bbox, got {_shorten(annotation)}.")
        if wanted_category is not None and annotation.get("category_id") != wanted_category:
            continue
        image_id = annotation["image_id"]
        if not isinstance(image_id, int | str) or image_id not in images:
            orphans.append((number, image_id))
            continue
        boxes[image_id].append(_numbers(annotation["bbox"], 4, f"{where}.bbox", limit))
        landmarks[image_id].append(_landmarks(annotation.get("keypoints"), where, limit))
        crowds[image_id].append(bool(annotation.get("iscrowd", 0)))
        attributes[image_id].append(_attributes(annotation.get("attributes")))
        numbers[image_id].append(number)
    if orphans:
        number, image_id = orphans[0]
        raise FacekitError(
            f"{annotation_file}: {len(orphans)} annotations name no picture of this file; the first is "
            f"annotations[{number}] with image_id {image_id!r}. Add the picture to 'images' or take them out."
        )

    known = _known_attributes(images, attributes, annotation_file)
    pictures = []
    for image_id, image in images.items():
        path = picture_path(data_root, image["file_name"], f"{annotation_file}: image {image_id!r}")
        pictures.append(
            PictureLabels(
                path=path,
                size_wh=_size_wh(image),
                boxes_xywh=np.array(boxes[image_id], dtype=np.float64).reshape(-1, 4),
                landmarks_xy=np.array(landmarks[image_id], dtype=np.float64).reshape(-1, len(LANDMARK_NAMES), 2),
                is_crowd=np.array(crowds[image_id], dtype=bool),
                attributes=known.get(image_id),
                name=path.relative_to(data_root).as_posix(),
            )
        )
    if as_written:
        return pictures
    ids = list(images)

    def locate(picture: int, face: int | None) -> str:
        return f"images[{picture}]" if face is None else f"annotations[{numbers[ids[picture]][face]}]"

    return finish_reading(pictures, annotation_file, data_root, locate, dropped)


def write_coco(destination: Path, pictures: Sequence[Named]) -> None:
    """Sizes that aren't known are written as 0, which readers take for unknown."""
    content = to_coco([labels for _, labels in pictures], [name for name, _ in pictures])
    write_text(destination, json.dumps(content) + "\n")


def to_coco(pictures: Sequence[PictureLabels], names: Sequence[str] | None = None) -> dict[str, Any]:
    """The labels as a COCO json dict; image ids are the pictures' positions, the one category is 1."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    category: dict[str, Any] = {"id": 1, "name": "face"}
    for image_id, picture in enumerate(pictures):
        width, height = picture.size_wh or (0, 0)
        name = picture.path.name if names is None else names[image_id]
        images.append({"id": image_id, "file_name": name, "width": width, "height": height})
        for face, (box, points) in enumerate(zip(picture.boxes_xywh.tolist(), picture.landmarks_xy, strict=True)):
            annotation = {
                "id": len(annotations) + 1,
                "image_id": image_id,
                "category_id": 1,
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": int(picture.is_crowd[face]),
            }
            if np.isfinite(points).all():
                annotation["keypoints"] = [value for x, y in points.tolist() for value in (x, y, 2)]
                annotation["num_keypoints"] = len(LANDMARK_NAMES)
                category["keypoints"] = list(LANDMARK_NAMES)
            if picture.attributes is not None:
                annotation["attributes"] = dict(zip(WIDER_ATTRIBUTES, picture.attributes[face].tolist(), strict=True))
            annotations.append(annotation)
    return {"images": images, "annotations": annotations, "categories": [category]}


def _load(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise FacekitError(f"{path}: the annotation file can't be read ({error.strerror}). Check the path.") from error
    except json.JSONDecodeError as error:
        raise FacekitError(f"{path}:{error.lineno}: not valid JSON ({error.msg}). Is this a COCO json file?") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise FacekitError(f"{path}:{line}: expected UTF-8 text, got other bytes. Is this a COCO json file?") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, nested without end
        raise FacekitError(f"{path}: not a JSON text file ({error}). Is this a COCO json file?") from error
    keys = list(content)[:5] if isinstance(content, dict) else type(content).__name__
    for key in ("images", "annotations"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise FacekitError(f"{path}: expected COCO json with lists 'images' and 'annotations', got {keys}.")
    return cast(dict[str, Any], content)


def _images_by_id(content: dict[str, Any], path: Path) -> dict[Any, dict[str, Any]]:
    images: dict[Any, dict[str, Any]] = {}
    for number, image in enumerate(content["images"]):
        where = f"{path}: images[{number}]"
        if not isinstance(image, dict) or not isinstance(image.get("file_name"), str):
            raise FacekitError(f"{where}: expected a mapping with id and file_name, got {_shorten(image)}.")
        if not isinstance(image.get("id"), int | str):
            raise FacekitError(f"{where}: id must be a number or text, got {image.get('id')!r}.")
        if image["id"] in images:
            raise FacekitError(f"{where}: id {image['id']!r} is given twice; ids must be unique.")
        images[image["id"]] = image
    if not images:
        raise FacekitError(f"{path}: 'images' is empty; there is nothing to train or to measure on.")
    return images


def _face_category(content: dict[str, Any], path: Path) -> int | None:
    """The category to read; None: there is but one, so all."""
    categories = content.get("categories") or []
    if not isinstance(categories, list) or not all(isinstance(category, dict) for category in categories):
        raise FacekitError(f"{path}: categories: expected a list of mappings, got {_shorten(categories)}.")
    if len(categories) < 2:
        return None
    names = {str(category.get("name", "")).lower(): category.get("id") for category in categories}
    if "face" not in names:
        raise FacekitError(
            f"{path}: several categories and none named 'face': {', '.join(names)}. Rename one to 'face'."
        )
    log.warning("%s: only the category 'face' is read; left alone: %s.", path, ", ".join(set(names) - {"face"}))
    return cast(int | None, names["face"])


def _numbers(value: Any, count: int, where: str, limit: float | None) -> list[float]:
    """The list as floats, refused where one is beyond the limit or NaN; None allows any number."""
    if isinstance(value, list) and len(value) == count and _NUMBER_TYPES.issuperset(map(type, value)):
        try:
            floats = list(map(float, value))
        except OverflowError:  # JSON knows whole numbers of any length
            floats = [math.inf if abs(v) > sys.float_info.max else float(v) for v in value]
        # The sum is finite only if all are; min and max alone may step over a NaN.
        if limit is None or (math.isfinite(sum(floats)) and -limit <= min(floats) and max(floats) <= limit):
            return floats
    raise FacekitError(f"{where}: expected {count} finite numbers, got {_shorten(value)}.")


def _landmarks(keypoints: Any, where: str, limit: float | None) -> list[float]:
    """x, y of the five points; NaN where they aren't labelled (v > 0)."""
    if keypoints is None:
        return [math.nan] * 10
    values = _numbers(keypoints, 3 * len(LANDMARK_NAMES), f"{where}.keypoints", limit)
    return [v if values[i - i % 3 + 2] > 0 else math.nan for i, v in enumerate(values) if i % 3 != 2]


def _known_attributes(
    images: dict[Any, Any], attributes: dict[Any, list[list[int] | None]], path: Path
) -> dict[Any, NDArray[np.int8]]:
    """(N, 6) of the pictures whose annotations all have them; of those without any, where the file has some."""
    if not any(row for rows in attributes.values() for row in rows):
        return {}
    known: dict[Any, NDArray[np.int8]] = {}
    lost = 0
    for image_id in images:
        whole = [row for row in attributes[image_id] if row is not None]
        if len(whole) == len(attributes[image_id]):
            known[image_id] = np.array(whole, np.int8).reshape(-1, len(WIDER_ATTRIBUTES))
        else:
            lost += len(whole)
    if lost:
        log.warning("%s: %d attributes aren't read, as other faces of the same pictures have none.", path, lost)
    return known


def _attributes(value: Any) -> list[int] | None:
    """The six, or None where they aren't all there as small whole numbers: other tools have other attributes."""
    if not isinstance(value, dict):
        return None
    row = [number for name in WIDER_ATTRIBUTES if type(number := value.get(name)) is int and 0 <= number <= 2]
    return row if len(row) == len(WIDER_ATTRIBUTES) else None


def _size_wh(image: dict[str, Any]) -> tuple[int, int] | None:
    width, height = image.get("width"), image.get("height")
    if (
        isinstance(width, int)
        and isinstance(height, int)
        and 0 < min(width, height) <= max(width, height) <= MAX_COORDINATE
    ):
        return width, height
    return None


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
