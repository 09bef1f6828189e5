"""Rows as COCO json, with a "score" for each face: what pycocotools, CVAT and `facekit data` read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from facekit.base.reading import open_file, shown
from facekit.errors import FacekitError
from facekit.results.row import Row, Run
from facekit.structures import LANDMARK_NAMES

MAX_BYTES = 1 << 36
CATEGORY = {"id": 1, "name": "face", "supercategory": "person", "keypoints": list(LANDMARK_NAMES), "skeleton": []}


def coco_text(rows: Callable[[], Iterable[Row]], run: Run) -> Iterator[str]:
    """`rows` is called twice: COCO has pictures and faces apart. Pictures that could not be read are in info.unread;
    a frame is a picture, SOURCE#FRAME."""
    unread = [{"file_name": row.source, "error": row.error} for row in rows() if row.error is not None]
    info = {"description": f"faces found by {run.model}", "run": run.to_dict(), "unread": unread}
    yield f'{{"info":{json.dumps(info)},\n"categories":[{json.dumps(CATEGORY)}],\n"images":['
    yield from _joined(_image(number, row) for number, row in enumerate(rows(), 1) if row.error is None)
    yield '\n],\n"annotations":['
    yield from _joined(_annotations(rows()))
    yield "\n]}\n"


def count_coco(path: Path) -> int:
    """How many pictures a file of coco_text() has, read line by line. Raises FacekitError where it breaks off."""
    found, is_images, line = 0, False, b""
    with open_file(path, MAX_BYTES, "Write it again.") as file:
        for number, line in enumerate(file, 1):
            try:
                if line.startswith(b'{"id":'):
                    json.loads(line.rstrip(b",\n"))
                    found += is_images
                elif line.startswith(b'"images":['):
                    is_images = True
                elif line.startswith(b"],"):
                    is_images = False
            except ValueError as error:
                raise FacekitError(f"{path}:{number}: no COCO json ({shown(error)}). Write it again.") from error
    if line != b"]}\n":
        raise FacekitError(f"{path}: breaks off. Write it again.")
    return found


def _joined(items: Iterable[dict[str, Any]]) -> Iterator[str]:
    between = "\n"
    for item in items:
        yield between + json.dumps(item, separators=(",", ":"))
        between = ",\n"


def _image(number: int, row: Row) -> dict[str, Any]:
    width, height = row.size_wh or (0, 0)
    name = row.source if row.frame is None else f"{row.source}#{row.frame}"
    return {"id": number, "file_name": name, "width": width, "height": height}


def _annotations(rows: Iterable[Row]) -> Iterator[dict[str, Any]]:
    face_id = 0
    for number, row in enumerate(rows, 1):
        for face in row.faces:
            face_id += 1
            x1, y1, x2, y2 = (float(value) for value in np.asarray(face.box_xyxy, np.float64).round(4))
            width, height = round(x2 - x1, 4), round(y2 - y1, 4)
            annotation: dict[str, Any] = {
                "id": face_id, "image_id": number, "category_id": 1, "bbox": [x1, y1, width, height],
                "area": round(width * height, 4), "iscrowd": 0, "score": round(face.score, 6),
            }  # fmt: skip
            if face.landmarks_xy is not None:
                points = np.asarray(face.landmarks_xy, np.float64).round(4)
                annotation |= {"keypoints": [v for x, y in points.tolist() for v in (x, y, 2)], "num_keypoints": 5}
            if face.track_id is not None:
                annotation["attributes"] = {"track_id": face.track_id, "interpolated": face.is_interpolated}
            yield annotation
