"""What one image or one annotation of a COCO json says, by value, whoever wrote it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facekit.errors import FacekitError
from facekit.labels.formats.text_lines import shorten
from facekit.labels.picture_labels import MAX_COORDINATE, WIDER_ATTRIBUTES
from facekit.labels.values import as_flag, as_number, as_whole, is_ignored, named_values

log = logging.getLogger(__name__)


def has_box(annotation: dict[str, Any]) -> bool:
    """Whether it has a bbox, or polygons to take it from."""
    return "bbox" in annotation or polygon_box(annotation.get("segmentation")) is not None


def polygon_box(segmentation: Any) -> list[float] | None:
    """x, y, w, h around polygons [[x1, y1, x2, y2, ...], ...]; None for what are none."""
    if not isinstance(segmentation, list) or not all(isinstance(polygon, list) for polygon in segmentation):
        return None
    if not segmentation or any(len(polygon) < 6 or len(polygon) % 2 for polygon in segmentation):
        return None
    numbers = [[as_number(value) for value in polygon] for polygon in segmentation]
    xs = [value for polygon in numbers for value in polygon[0::2] if value is not None]
    ys = [value for polygon in numbers for value in polygon[1::2] if value is not None]
    if len(xs) + len(ys) < sum(map(len, numbers)):
        return None
    return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]


def is_crowd(annotation: dict[str, Any], where: str, no_flags: list[str]) -> bool:
    """Whether iscrowd, or another flag or attribute of IGNORED_NAMES says so; `no_flags` takes the places of those that
    are none. Raises FacekitError for an iscrowd or ignore of its own that is none."""
    for name in ("iscrowd", "ignore"):
        if as_flag(annotation.get(name)) is None:
            raise FacekitError(f"{where}.{name}: expected 0 or 1, got {shorten(annotation[name])}.")
    is_set, no_flag = is_ignored([*annotation.items(), *named_values(annotation.get("attributes"))])
    if no_flag:
        no_flags.append(f"{where}.{no_flag}")
    return is_set


def known_attributes(attributes: dict[Any, list[list[int] | None]], path: Path) -> dict[Any, NDArray[np.int8]]:
    """(N, 6) of the pictures whose annotations all have them; of those without any, where the file has some."""
    if not any(row for rows in attributes.values() for row in rows):
        return {}
    known: dict[Any, NDArray[np.int8]] = {}
    lost = 0
    for image_id, rows in attributes.items():
        whole = [row for row in rows if row is not None]
        if len(whole) == len(rows):
            known[image_id] = np.array(whole, np.int8).reshape(-1, len(WIDER_ATTRIBUTES))
        else:
            lost += len(whole)
    if lost:
        log.warning("%s: %d attributes aren't read, as other faces of the same pictures have none.", path, lost)
    return known


def attributes_of(value: Any) -> list[int] | None:
    """The six, or None where they aren't all there as small whole numbers: other tools have other attributes."""
    if not isinstance(value, dict):
        return None
    row = [number for name in WIDER_ATTRIBUTES if type(number := value.get(name)) is int and 0 <= number <= 2]
    return row if len(row) == len(WIDER_ATTRIBUTES) else None


def size_of(image: dict[str, Any]) -> tuple[int, int] | None:
    """Width and height; None where they aren't both said."""
    width, height = as_whole(image.get("width")), as_whole(image.get("height"))
    if width is None or height is None or not 0 < min(width, height) <= max(width, height) <= MAX_COORDINATE:
        return None
    return width, height
