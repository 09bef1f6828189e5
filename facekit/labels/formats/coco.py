"""COCO json: `images` with file_name, `annotations` with bbox (x, y, w, h) and optionally keypoints for landmarks.

{"images": [{"id": 1, "file_name": "0--Parade/x.jpg", "width": 1024, "height": 1385}], "annotations": [{"id": 1,
"image_id": 1, "category_id": 1, "bbox": [449, 330, 122, 149], "keypoints": [488.9, 373.6, 2, ...],
"attributes": {"blur": 0, "expression": 0, "illumination": 0, "invalid": 0, "occlusion": 0, "pose": 0}}]}

Ids and flags are compared by value: "27" is 27. Flags and attributes of values.IGNORED_NAMES (iscrowd, ignore, ...)
make a crowd. Points are mapped by their category's names (keypoints.py). A folder is read whose files are
annotations/*.json beside images/ (CVAT), or _annotations.coco.json in it or in a set's folder (Roboflow).

The attributes are ours, after CVAT's; they are read of the pictures whose annotations all have all six.
"""

from __future__ import annotations

import json
import logging
import math
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from facekit.base.files import is_passed_over, write_text
from facekit.errors import FacekitError
from facekit.labels.formats.coco_points import AS_SEEN, CocoPoints
from facekit.labels.formats.coco_values import attributes_of, has_box, is_crowd, known_attributes, polygon_box, size_of
from facekit.labels.formats.json_file import load_json
from facekit.labels.formats.text_lines import is_picture_name, shorten
from facekit.labels.layout import Named
from facekit.labels.picture_labels import (
    MAX_COORDINATE,
    WIDER_ATTRIBUTES,
    PictureLabels,
    Tally,
    finish_reading,
)
from facekit.labels.picture_paths import PictureFinder, guesses_beside
from facekit.labels.values import ById, as_number, as_whole, face_names, say_no_flags, say_only_kind
from facekit.structures import LANDMARK_NAMES

log = logging.getLogger(__name__)

ROBOFLOW_NAME = "_annotations.coco.json"
_SETS = {"train": "train", "valid": "val", "val": "val", "test": "test"}  # by the name of a set's folder
_NUMBER_TYPES = {int, float}


def looks_like_coco(source: Path, lines: list[str]) -> bool:
    """A JSON text (names of pictures may start with { too), or a folder of them in CVAT's or Roboflow's layout."""
    if source.is_dir():
        return bool(coco_files(source))
    return bool(lines) and lines[0][0] in "{[" and not is_picture_name(lines[0])


def coco_files(folder: Path, part: str | None = None) -> list[Path]:
    """The label files of a folder in CVAT's or Roboflow's layout, or those of one of its sets (train, val, test)."""
    found = {folder / name / ROBOFLOW_NAME: own for name, own in _SETS.items()} | {folder / ROBOFLOW_NAME: None}
    if not (folder / "labels").is_dir() and not (folder / "data.yaml").is_file():  # those are YOLO's
        for file in sorted((folder / "annotations").glob("*.json")):
            found[file] = next((own for name, own in _SETS.items() if name in file.stem.lower()), None)
    files = [file for file in found if file.is_file() and not is_passed_over(file)]
    return [file for file in files if part in (None, found[file])]


def read_coco(
    annotation_file: Path, data_root: Path | None = None, as_written: bool = False, dropped: Tally | None = None,
    part: str | None = None,
) -> list[PictureLabels]:  # fmt: skip
    """Pictures in the file's order, those without faces too; of a folder, of all its files, or of those of one set.

    Raises FacekitError for a file that is missing or no COCO json, an annotation whose picture is not listed, boxes
    that are no four finite numbers, flags that are none, and pictures that are not under data_root. Boxes without area
    or outside their picture are left out with a warning; so are points that are not the five landmarks, and faces keep
    their boxes. as_written keeps every box and number and asks for no picture, for checks.
    """
    if not annotation_file.is_dir():
        if part is not None:
            raise FacekitError(f"{annotation_file}: has no sets to choose {part!r} from. Give the file alone.")
        return _File(annotation_file, data_root, as_written).read(dropped)
    files = coco_files(annotation_file, part)
    if not files:
        raise FacekitError(
            f"{annotation_file}: a folder without COCO files{f' of {part!r}' if part else ''}; looked for "
            f"annotations/*.json and {ROBOFLOW_NAME}. Give the file itself."
        )
    if len(files) > 1:
        log.warning("%s: %s are read together.", annotation_file, ", ".join(map(str, files)))
    return [picture for file in files for picture in _File(file, data_root, as_written).read(dropped)]


@dataclass
class _Faces:
    """Of one picture."""

    boxes: list[list[float]] = field(default_factory=list)
    landmarks: list[list[float]] = field(default_factory=list)
    crowds: list[bool] = field(default_factory=list)
    attributes: list[list[int] | None] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)  # of the annotations


class _File:
    """One COCO json on its way to PictureLabels."""

    def __init__(self, file: Path, data_root: Path | None, as_written: bool) -> None:
        self.file = file
        self.as_written = as_written
        self.finder = PictureFinder(file, data_root, guesses_beside(file))
        self.content = _load(file)
        self.images = ById(_images_by_id(self.content, file))
        self.points = CocoPoints(file, self.content.get("info"), as_written)
        self.texts = 0  # numbers that are written as texts
        self.no_flags: list[str] = []

    def read(self, dropped: Tally | None) -> list[PictureLabels]:
        faces: dict[Any, _Faces] = {image_id: _Faces() for image_id in self.images.things}
        for number, image_id, category_id, annotation in self._annotations():
            where = f"{self.file}: annotations[{number}]"
            one = faces[image_id]
            one.boxes.append(self._box(annotation, where))
            one.landmarks.append(self.points.read(annotation.get("keypoints"), category_id, where))
            one.crowds.append(is_crowd(annotation, where, self.no_flags))
            one.attributes.append(attributes_of(annotation.get("attributes")))
            one.numbers.append(number)
        self._say_what_was_read_by_value()
        say_no_flags(self.no_flags, str(self.file))
        known = known_attributes({key: one.attributes for key, one in faces.items()}, self.file)
        landmarks = self.points.finish(
            [np.array(one.landmarks, np.float64).reshape(-1, len(LANDMARK_NAMES), 2) for one in faces.values()]
        )
        pictures = []
        for (image_id, one), landmarks_xy in zip(faces.items(), landmarks, strict=True):
            image = self.images.things[image_id]
            path, name = self.finder.find(image["file_name"], f"{self.file}: image {image_id!r}")
            pictures.append(
                PictureLabels(
                    path=path,
                    size_wh=size_of(image),
                    boxes_xywh=np.array(one.boxes, dtype=np.float64).reshape(-1, 4),
                    landmarks_xy=landmarks_xy,
                    is_crowd=np.array(one.crowds, dtype=bool),
                    attributes=known.get(image_id),
                    name=name,
                )
            )
        self.finder.finish()
        order = list(faces.values())

        def locate(picture: int, face: int | None) -> str:
            return f"images[{picture}]" if face is None else f"annotations[{order[picture].numbers[face]}]"

        return finish_reading(
            pictures, self.file, self.finder.root, locate, dropped, self.as_written, self.finder.looked_in
        )

    def _annotations(self) -> Iterator[tuple[int, Any, Any, dict[str, Any]]]:
        """Number, the ids of picture and category as the file lists them, and the annotation, of every face."""
        categories, wanted = self._categories()
        orphans: list[tuple[int, Any]] = []
        others: Counter[Any] = Counter()
        unlisted: Counter[Any] = Counter()
        read = 0
        for number, annotation in enumerate(self.content["annotations"]):
            where = f"{self.file}: annotations[{number}]"
            if not isinstance(annotation, dict) or "image_id" not in annotation or not has_box(annotation):
                raise FacekitError(f"{where}: expected a mapping with image_id and bbox, got {shorten(annotation)}.")
            category_id = categories.find(annotation.get("category_id"))
            if wanted is not None and category_id not in wanted:
                (unlisted if category_id is None else others)[shorten(annotation.get("category_id"))] += 1
                continue
            image_id = self.images.find(annotation["image_id"])
            if image_id is None:
                orphans.append((number, annotation["image_id"]))
                continue
            read += 1
            yield number, image_id, next(iter(categories.things), None) if wanted is None else category_id, annotation
        if orphans:
            number, image_id = orphans[0]
            raise FacekitError(
                f"{self.file}: {len(orphans)} annotations name no picture of this file; the first is "
                f"annotations[{number}] with image_id {shorten(image_id)}. Add the picture to 'images' or take them "
                f"out."
            )
        if not read and (others or unlisted):
            counts = _counts(others + unlisted)
            log.warning("%s: no annotation is of the category 'face', %s; category_ids: %s.", self.file, wanted, counts)
        elif unlisted:
            log.warning(
                "%s: %d annotations are left out: 'categories' doesn't list their category_id: %s. Add the category, "
                "named face if that is what they are.", self.file, sum(unlisted.values()), _counts(unlisted),
            )  # fmt: skip

    def _categories(self) -> tuple[ById[dict[str, Any]], set[Any] | None]:
        """The categories, and the ids of those to read; None: there is but one, so all."""
        listed = self.content.get("categories") or []
        if not isinstance(listed, list) or not all(isinstance(category, dict) for category in listed):
            raise FacekitError(f"{self.file}: categories: expected a list of mappings, got {shorten(listed)}.")
        for number, category in enumerate(listed):
            if not isinstance(category.get("id"), int | float | str | None):
                got = shorten(category["id"])
                raise FacekitError(f"{self.file}: categories[{number}]: id must be a number or text, got {got}.")
        categories = ById({category.get("id"): category for category in listed})
        wanted = None
        if len(listed) > 1:
            names = {str(category.get("name", "")).lower() for category in listed}
            faces = face_names(names)
            if not faces:
                shown = ", ".join(dict.fromkeys(str(category.get("name", "")).lower() for category in listed))
                raise FacekitError(
                    f"{self.file}: several categories and none named 'face': {shown}. Rename one to 'face'."
                )
            wanted = {category.get("id") for category in listed if str(category.get("name", "")).lower() in faces}
            if names - faces:
                left = ", ".join(sorted(names - faces))
                log.warning("%s: only the category 'face' is read; left alone: %s.", self.file, left)
        if len(listed) == 1:
            say_only_kind(str(listed[0].get("name") or ""), str(self.file))
        for category in listed:
            if wanted is None or category.get("id") in wanted:
                self.points.know_category(category.get("id"), category.get("keypoints"))
        self.categories = categories
        return categories, wanted

    def _box(self, annotation: dict[str, Any], where: str) -> list[float]:
        """x, y, w, h; of a polygon its box where there is no other. Refused beyond MAX_COORDINATE, or NaN; as_written
        allows any number."""
        value: Any = annotation.get("bbox") or polygon_box(annotation.get("segmentation"))
        if isinstance(value, list) and len(value) == 4:
            if str in map(type, value) and None not in (read := [as_number(v) for v in value]):
                self.texts += 1
                value = read
            if _NUMBER_TYPES.issuperset(map(type, value)):
                try:
                    floats = list(map(float, value))
                except OverflowError:  # JSON knows whole numbers of any length
                    floats = [math.inf if abs(v) > sys.float_info.max else float(v) for v in value]
                # The sum is finite only if all are; min and max alone may step over a NaN.
                small = math.isfinite(sum(floats)) and min(floats) >= -MAX_COORDINATE and max(floats) <= MAX_COORDINATE
                if self.as_written or small:
                    return floats
        raise FacekitError(f"{where}.bbox: expected 4 finite numbers, got {shorten(annotation.get('bbox'))}.")

    def _say_what_was_read_by_value(self) -> None:
        for what, ids in (("image_id", self.images), ("category_id", self.categories)):
            if ids.otherwise:
                log.warning(
                    "%s: %d %ss are text where the id is a number, or the other way (first: %r): read by value.",
                    self.file, ids.otherwise, what, ids.first_otherwise,
                )  # fmt: skip
        if self.texts:
            log.warning("%s: %d bboxes hold texts for numbers: read by value.", self.file, self.texts)


def _counts(numbered: Counter[Any]) -> str:
    return ", ".join(f"{key} ({count})" for key, count in numbered.most_common(5))


def write_coco(destination: Path, pictures: Sequence[Named]) -> None:
    """Sizes that aren't known are written as 0, which readers take for unknown."""
    content = to_coco([labels for _, labels in pictures], [name for name, _ in pictures])
    write_text(destination, json.dumps(content) + "\n")


def to_coco(pictures: Sequence[PictureLabels], names: Sequence[str] | None = None) -> dict[str, Any]:
    """The labels as a COCO json dict; image ids are the pictures' positions, the one category is 1."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    category: dict[str, Any] = {"id": 1, "name": "face"}
    info: dict[str, Any] = {}
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
                info = {"info": AS_SEEN}
            if picture.attributes is not None:
                annotation["attributes"] = dict(zip(WIDER_ATTRIBUTES, picture.attributes[face].tolist(), strict=True))
            annotations.append(annotation)
    return {**info, "images": images, "annotations": annotations, "categories": [category]}


def _load(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = load_json(path, "a COCO json file")
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
            raise FacekitError(f"{where}: expected a mapping with id and file_name, got {shorten(image)}.")
        if not isinstance(image.get("id"), int | str) and as_whole(image.get("id")) is None:
            raise FacekitError(f"{where}: id must be a number or text, got {image.get('id')!r}.")
        if image["id"] in images:
            raise FacekitError(f"{where}: id {image['id']!r} is given twice; ids must be unique.")
        images[image["id"]] = image
    if not images:
        raise FacekitError(f"{path}: 'images' is empty; there is nothing to train or to measure on.")
    return images
