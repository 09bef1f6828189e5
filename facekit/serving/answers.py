"""Faces as JSON, painted on the picture, or covered in it."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from facekit.pictures.cover import Cover, Method, cover_faces
from facekit.pictures.draw import draw_faces
from facekit.serving.refusal import Refusal
from facekit.structures import SCHEMA_VERSION, Detections

Output = Literal["json", "annotated", "anonymized"]
JSON_TYPE = "application/json"
PICTURE_TYPES = {"image/jpeg": ".jpg", "image/png": ".png", "image/webp": ".webp"}
# Pixels a side: WebP's own limit, and what libjpeg and libpng write.
MOST_SIDE = {"image/jpeg": 65_500, "image/png": 1_000_000, "image/webp": 16_383}
# What is left out would be WebP without loss, in three times the time.
QUALITY = {"image/jpeg": [cv2.IMWRITE_JPEG_QUALITY, 90], "image/webp": [cv2.IMWRITE_WEBP_QUALITY, 90]}


def choose(accept: str, output: Output | None) -> tuple[Output, str]:
    """What is answered, and its media type: by the query, or else by whether pictures are preferred to JSON."""
    wanted = _preferences(accept)
    picture_type = next((kind for kind in wanted if kind in PICTURE_TYPES), "image/jpeg")
    if output is None:
        first = next((kind for kind in wanted if kind in (*PICTURE_TYPES, "image/*", JSON_TYPE, "*/*")), JSON_TYPE)
        output = "annotated" if first.startswith("image/") else "json"
    return output, JSON_TYPE if output == "json" else picture_type


def _preferences(accept: str) -> list[str]:
    """Media types of an Accept header, the most wanted first."""
    rows = []
    for part in accept.split(",")[:50]:
        kind, *parameters = (text.strip().lower() for text in part.split(";"))
        quality = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    quality = float(parameter[2:])
                except ValueError:
                    quality = 0.0
        if quality > 0:
            rows.append((kind, quality))
    return [kind for kind, _ in sorted(rows, key=lambda row: -row[1])]


def check_room(media_type: str, image_shape: tuple[int, ...]) -> None:
    """Raises Refusal for a picture with longer sides than its answer's kind has room for."""
    height, width = image_shape[:2]
    longest = max(height, width)
    if longest > MOST_SIDE.get(media_type, longest):
        others = [kind for kind, most in MOST_SIDE.items() if longest <= most]
        remedy = f"Ask for {' or '.join(others)} in the header Accept" if others else "Take output=json"
        raise Refusal(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            f"{width}x{height} pixels: {media_type} has room for {MOST_SIDE[media_type]} a side. {remedy}.",
        )


def as_json(faces: Detections, image_bgr: NDArray[np.uint8]) -> bytes:
    """The schema of `facekit detect`, without what only files have (docs/serve.md)."""
    height, width = image_bgr.shape[:2]
    row: dict[str, Any] = {
        "schema": SCHEMA_VERSION, "width": width, "height": height, "faces": faces.to_dicts(),
    }  # fmt: skip
    return json.dumps(row, separators=(",", ":")).encode()


def as_picture(
    faces: Detections, image_bgr: NDArray[np.uint8], output: Output, media_type: str, method: Method
) -> bytes:
    """The picture with its faces drawn or covered, encoded anew: nothing of the original file's metadata is in it."""
    is_drawn = output == "annotated"
    shown = draw_faces(image_bgr, faces) if is_drawn else cover_faces(image_bgr, faces.boxes_xyxy, Cover(method))
    done, data = cv2.imencode(PICTURE_TYPES[media_type], shown, QUALITY.get(media_type, []))
    if not done:
        raise RuntimeError(f"{image_bgr.shape} can't be encoded as {media_type}")
    return data.tobytes()
