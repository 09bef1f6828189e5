"""What tests of foreign label files share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from facekit.errors import FacekitError
from facekit.labels.formats import read_labels
from facekit.labels.picture_labels import PictureLabels

SIDE = 512
BOX = [180, 54, 93, 120]
POINTS = [[207, 95], [246, 95], [227, 118], [211, 142], [242, 142]]


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.zeros((SIDE, SIDE, 3), np.uint8))
    return path


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def coco(root: Path, *faces: dict[str, Any], name: str = "labels.json", **changed: Any) -> Path:
    images = [{"id": 0, "file_name": "a.jpg", "width": SIDE, "height": SIDE}]
    annotations = [{"id": i, "image_id": 0, "category_id": 0, "bbox": BOX} | face for i, face in enumerate(faces)]
    content = {"images": images, "categories": [{"id": 0, "name": "face"}], "annotations": annotations} | changed
    return write(root / name, json.dumps(content))


def keypoints(points: Any) -> list[float]:
    return [value for x, y in points for value in (x, y, 2)]


def complaint(source: Path, data_root: Path | None = None) -> str:
    with pytest.raises(FacekitError) as caught:
        read_labels(source, data_root)
    return str(caught.value)


def boxes(pictures: list[PictureLabels]) -> list[list[float]]:
    return [box for picture in pictures for box in picture.boxes_xywh.round(6).tolist()]
