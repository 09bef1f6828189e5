"""COCO average precision through pycocotools, in memory and silent."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facekit.base.extras import optional_packages
from facekit.errors import FacekitError
from facekit.metrics.overlaps import as_rows

MAX_DETECTIONS = 100  # a picture, best score first
ANY_AREA = [0.0, 1e10]  # square pixels, COCO's "all"


def coco_ap(
    annotation: Mapping[str, Any],
    detections: Mapping[int, tuple[ArrayLike, ArrayLike]],
    category_id: int,
    iou_thresholds: Sequence[float] | None = None,
) -> float:
    """COCO AP of one category: IoU 0.50:0.95 or the mean over those given, area all, at most 100 detections a picture.

    Args:
        annotation: a loaded COCO json; annotations without `iscrowd` count as 0, without `area` as w * h.
        detections: image id to boxes_xyxy (N, 4) in pixels and scores (N,); equal scores are taken in the order
            given, and images left out have none.
        category_id: all detections are of this category.

    Returns:
        0..1; NaN without annotations of the category (crowds aside): there is nothing to average.

    Raises:
        FacekitError: detections of unknown images, a category that the json doesn't have, or values that aren't
            finite.
        ValueError: arrays of other shapes.
    """
    image_ids = {image["id"] for image in annotation.get("images", ())}
    unknown = [image_id for image_id in detections if image_id not in image_ids]
    if unknown:
        raise FacekitError(
            f"detections: {len(unknown)} image ids aren't in the annotation file, such as "
            f"{', '.join(map(str, unknown[:3]))}. Evaluate with the file that the pictures were listed from."
        )
    known = {category["id"]: category.get("name") for category in annotation.get("categories", ())}
    if known and category_id not in known:
        raise FacekitError(f"annotation file: no category {category_id}, expected one of {known}.")
    faces = _faces(annotation, category_id)
    found = _found(detections, category_id)
    if all(face["iscrowd"] for face in faces):
        return math.nan
    if not found:
        return 0.0
    with optional_packages():
        from pycocotools.cocoeval import COCOeval
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(_indexed(image_ids, category_id, faces), _indexed(image_ids, category_id, found), "bbox")
        if iou_thresholds is not None:
            evaluation.params.iouThrs = np.asarray(iou_thresholds, dtype=float)
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [ANY_AREA], ["all"]
        evaluation.params.maxDets = [MAX_DETECTIONS]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"]
    known = precision[precision > -1]  # -1 marks thresholds without a value
    return float(known.mean()) if known.size else float("nan")


def _faces(annotation: Mapping[str, Any], category_id: int) -> list[dict[str, Any]]:
    # New ids, as pycocotools takes a match with id 0 for no match, and files that count from 0 exist.
    faces = (face for face in annotation.get("annotations", ()) if face["category_id"] == category_id)
    return [
        {
            "id": index,
            "image_id": face["image_id"],
            "category_id": category_id,
            "bbox": face["bbox"],
            "area": face.get("area", face["bbox"][2] * face["bbox"][3]),
            "iscrowd": face.get("iscrowd", 0),
        }
        for index, face in enumerate(faces, start=1)
    ]


def _found(detections: Mapping[int, tuple[ArrayLike, ArrayLike]], category_id: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for image_id, (boxes_xyxy, scores) in detections.items():
        boxes_xywh, best_scores = _best(image_id, boxes_xyxy, scores)
        areas = boxes_xywh[:, 2] * boxes_xywh[:, 3]
        found.extend(
            {"image_id": image_id, "category_id": category_id, "id": index, "bbox": bbox, "area": area, "score": score}
            for index, (bbox, area, score) in enumerate(
                zip(boxes_xywh.tolist(), areas.tolist(), best_scores.tolist(), strict=True), start=len(found) + 1
            )
        )
    return found


def _best(image_id: int, boxes_xyxy: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """pycocotools would drop the rest too, but only after a slow walk through all of them."""
    boxes = as_rows(boxes_xyxy, 4, f"detections[{image_id}]: boxes_xyxy")
    score = as_rows(scores, 0, f"detections[{image_id}]: scores")
    if len(boxes) != len(score):
        raise ValueError(f"detections[{image_id}]: must have {len(boxes)} scores, but got {len(score)}.")
    best = np.argsort(-score, kind="stable")[:MAX_DETECTIONS]
    boxes = boxes[best]
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1), score[best]


def _indexed(image_ids: set[int], category_id: int, annotations: list[dict[str, Any]]) -> Any:
    from pycocotools.coco import COCO

    coco = COCO()
    coco.dataset = {
        "images": [{"id": image_id} for image_id in sorted(image_ids)],
        "categories": [{"id": category_id}],
        "annotations": annotations,
    }
    coco.createIndex()
    return coco
