"""One detector for all runtimes: a picture in, its faces out."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from facekit.backends import Backend, open_backend
from facekit.datasets.pictures import as_uint8
from facekit.ops.nms import select_detections
from facekit.structures import Detections
from facekit.template import Template, find_template, load_template


class Detector:
    """Follows the template's evaluation protocol: resize or padding, thresholds, suppression."""

    def __init__(self, backend: Backend, template: Template) -> None:
        self.backend = backend
        self.template = template

    @classmethod
    def open(cls, weights: str | Path, template: str | Path | Template, device: str | None = None) -> Detector:
        """Loads .pth, .onnx, .xml or .bin weights of a template (its name, its file, or a work dir).

        Raises FacekitError for weights that are missing, damaged or of another detector.
        """
        if not isinstance(template, Template):
            template = load_template(find_template(str(template)))
        return cls(open_backend(Path(weights), template, device), template)

    def detect(self, image_bgr: NDArray[np.uint8]) -> Detections:
        """(H, W, 3) BGR uint8 -> faces over the template's score threshold, in the picture's own pixels."""
        rule = self.template.evaluation
        image_bgr, scale_xy = prepare(image_bgr, self.template)
        return select_detections(
            self.backend(image_bgr[None]),
            0,
            score_threshold=rule.score_threshold,
            nms_iou_threshold=rule.nms_iou_threshold,
            max_candidates=rule.max_candidates,
            max_detections=rule.max_detections,
            union_slack=rule.nms_union_slack * image_bgr.shape[0] * image_bgr.shape[1],
            scale_xy=scale_xy,
        )


def prepare(image_bgr: NDArray[np.uint8], template: Template) -> tuple[NDArray[np.uint8], tuple[float, float]]:
    """The picture as the template's protocol feeds it, and the factors (x, y) that lead back to its own pixels."""
    rule = template.evaluation
    height, width = image_bgr.shape[:2]
    input_height, input_width = template.input.size_hw
    scale_xy = (1.0, 1.0)
    if rule.resize == "stretch":
        scale_xy = (width / input_width, height / input_height)
        image_bgr = as_uint8(cv2.resize(image_bgr, (input_width, input_height)))
    elif rule.resize in ("fit", "letterbox"):
        scale = max(height / input_height, width / input_width)
        scale_xy = (scale, scale)  # also where rounding to whole pixels has bent the shape a little
        size_wh = (max(1, round(width / scale)), max(1, round(height / scale)))
        image_bgr = as_uint8(cv2.resize(image_bgr, size_wh))
    if rule.resize == "letterbox":
        return pad(image_bgr, input_height - image_bgr.shape[0], input_width - image_bgr.shape[1]), scale_xy
    bottom, right = (-side % rule.size_multiple for side in image_bgr.shape[:2])
    return pad(image_bgr, bottom, right), scale_xy


def pad(image_bgr: NDArray[np.uint8], bottom: int, right: int) -> NDArray[np.uint8]:
    """That many rows and columns of zeros more."""
    if not bottom and not right:
        return image_bgr
    return np.pad(image_bgr, ((0, bottom), (0, right), (0, 0)))
