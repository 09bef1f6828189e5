"""COCO json: `images` with file_name, `annotations` with bbox (x, y, w, h) and optionally keypoints for landmarks."""

from __future__ import annotations

import json
import logging
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from facekit.datasets.labels import PictureLabels, check_pictures_exist, drop_unusable_boxes, picture_path
from facekit.errors import FacekitError
from facekit.structures import LANDMARK_NAMES

log = logging.getLogger(__name__)

MAX_COORDINATE = 1e9  # pixels; anything beyond is a mistake, and would overflow later


def read_coco(annotation_file: Path, data_root: Path, as_written: bool = False) -> list[PictureLabels]:
    """Pictures in the file's order, those without faces too.

    Raises FacekitError for a file that is missing or no COCO json, an annotation whose picture is not listed, boxes
    that are no four finite numbers, and pictures that are not under data_root. Boxes without area or outside their
    picture are left out with a warning. as_written keeps every box and number and asks for no picture, for checks.
    """
    limit = None if as_written else MAX_COORDINATE
    content = _load(annotation_file)
    images = _images_by_id(content, annotation_file)
    wanted_category = _face_category(content, annotation_file)

    boxes: dict[Any, list[list[float]]] = defaultdict(list)
    landmarks: dict[Any, list[list[float]]] = defaultdict(list)
    crowds: dict[Any, list[bool]] = defaultdict(list)
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
    if orphans:
        number, image_id = orphans[0]
        raise FacekitError(
            f"{annotation_file}: {len(orphans)} annotations name no picture of this file; the first is "
            f"annotations[{number}] with image_id {image_id!r}. Add the picture to 'images' or take them out."
        )

    pictures = [
        PictureLabels(
            path=picture_path(data_root, image["file_name"], f"{annotation_file}: image {image_id!r}"),
            size_wh=_size_wh(image),
            boxes_xywh=np.array(boxes[image_id], dtype=np.float64).reshape(-1, 4),
            landmarks_xy=np.array(landmarks[image_id], dtype=np.float64).reshape(-1, len(LANDMARK_NAMES), 2),
            is_crowd=np.array(crowds[image_id], dtype=bool),
        )
        for image_id, image in images.items()
    ]
    if as_written:
        return pictures
    check_pictures_exist(
        pictures, str(annotation_file), f"Give the folder that holds them as data root (now {data_root})."
    )
    return drop_unusable_boxes(pictures, str(annotation_file))


def to_coco(pictures: list[PictureLabels]) -> dict[str, Any]:
    """The labels as a COCO json dict; image ids are the pictures' positions, the one category is 1."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, picture in enumerate(pictures):
        width, height = picture.size_wh or (0, 0)
        images.append({"id": image_id, "file_name": picture.path.name, "width": width, "height": height})
        for box, crowd in zip(picture.boxes_xywh.tolist(), picture.is_crowd.tolist(), strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": 1,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": int(crowd),
                }
            )
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "face"}]}


def _load(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise FacekitError(f"{path}: the annotation file can't be read ({error.strerror}). Check the path.") from error
    except json.JSONDecodeError as error:
        raise FacekitError(f"{path}:{error.lineno}: not valid JSON ({error.msg}). Is this a COCO json file?") from error
    except (ValueError, RecursionError) as error:  # no UTF-8, a number of thousands of digits, nested without end
        raise FacekitError(f"{path}: not a JSON text file ({error}). Is this a COCO json file?") from error
    keys = list(content)[:5] if isinstance(content, dict) else type(content).__name__
    for key in ("images", "annotations"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise FacekitError(f"{path}: expected COCO json with lists 'images' and 'annotations', got {keys}.")
    return content


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
    return names["face"]


def _numbers(value: Any, count: int, where: str, limit: float | None) -> list[float]:
    """The list as floats, refused where one is beyond the limit or NaN; None allows any number."""
    good = isinstance(value, list) and len(value) == count
    if not good or not all(isinstance(v, int | float) and (limit is None or abs(v) <= limit) for v in value):
        raise FacekitError(f"{where}: expected {count} finite numbers, got {_shorten(value)}.")
    return [_as_float(v) for v in value]


def _as_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:  # JSON knows whole numbers of any length
        return math.inf


def _landmarks(keypoints: Any, where: str, limit: float | None) -> list[float]:
    """x, y of the five points; NaN unless all five are labelled (v > 0)."""
    if keypoints is None:
        return [math.nan] * 10
    values = _numbers(keypoints, 3 * len(LANDMARK_NAMES), f"{where}.keypoints", limit)
    labelled = all(visible > 0 for visible in values[2::3])
    return [v for i, v in enumerate(values) if i % 3 != 2] if labelled else [math.nan] * 10


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
