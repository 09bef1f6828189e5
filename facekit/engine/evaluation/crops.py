"""The worst mistakes of an evaluation, cut out of their pictures."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from facekit.base.progress import progress_bar
from facekit.engine.evaluation.evaluate import Measured
from facekit.metrics.mistakes import Mistake
from facekit.pictures.draw import draw_box
from facekit.pictures.read import as_uint8, read_picture
from facekit.records.evaluation import Crop

CONTEXT = 2.5  # sides of a crop in sides of its box: a face is judged by what is around it
LEAST_SIDE = 48  # pixels of the picture
SHOWN_SIDE = 240  # pixels of the crop
JPEG_QUALITY = 85
BOX_BGR = {"miss": (60, 60, 230), "false positive": (0, 165, 255)}


def cut_crops(measured: Measured, kind: str, mistakes: Sequence[Mistake]) -> list[Crop]:
    """A crop a mistake, in their order, under a progress bar; `kind` is "miss" or "false positive".

    Raises FacekitError where a picture, read before, can't be read any more.
    """
    crops = []
    for mistake in progress_bar(mistakes, delay_s=2, desc=f"cutting out: {kind}", unit="crop"):
        picture = measured.pictures[mistake.picture]
        image_bgr = cut_crop(read_picture(picture.path, picture.size_wh), mistake.box_xyxy, BOX_BGR[kind])
        _, jpeg = cv2.imencode(".jpg", image_bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        x1, y1, x2, y2 = (float(value) for value in mistake.box_xyxy)
        name = picture.name or picture.path.name
        crops.append(Crop(kind, name, (x1, y1, x2, y2), mistake.score, jpeg.tobytes()))
    return crops


def cut_crop(
    image_bgr: NDArray[np.uint8], box_xyxy: Sequence[float] | NDArray[np.floating], colour_bgr: tuple[int, int, int]
) -> NDArray[np.uint8]:
    """A square around the box with its surroundings, grey outside the picture, SHOWN_SIDE pixels a side, the box
    drawn."""
    x1, y1, x2, y2 = (float(value) for value in box_xyxy)
    side = min(max(CONTEXT * (x2 - x1), CONTEXT * (y2 - y1), LEAST_SIDE), 2.0 * max(image_bgr.shape[:2]))
    scale = SHOWN_SIDE / side
    left, top = (x1 + x2 - side) / 2, (y1 + y2 - side) / 2
    # Cut first: what lies far away needs no touching, and warping a large picture to a small one would flicker.
    height, width = image_bgr.shape[:2]
    cut_left, cut_top = (int(np.clip(value, 0, limit - 1)) for value, limit in ((left, width), (top, height)))
    cut = image_bgr[
        cut_top : int(np.clip(top + side, 0, height)) + 1, cut_left : int(np.clip(left + side, 0, width)) + 1
    ]
    shown = cv2.resize(
        cut, (max(1, round(cut.shape[1] * scale)), max(1, round(cut.shape[0] * scale))),
        interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC,
    )  # fmt: skip
    canvas = np.full((SHOWN_SIDE, SHOWN_SIDE, 3), 128, dtype=np.uint8)
    x, y = (round((cut_start - start) * scale) for cut_start, start in ((cut_left, left), (cut_top, top)))
    x, y = max(x, 0), max(y, 0)
    part = shown[: SHOWN_SIDE - y, : SHOWN_SIDE - x]
    canvas[y : y + part.shape[0], x : x + part.shape[1]] = part
    corners = [(value - start) * scale for value, start in ((x1, left), (y1, top), (x2, left), (y2, top))]
    draw_box(canvas, corners, colour_bgr, 2)
    return as_uint8(canvas)
