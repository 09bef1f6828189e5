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
            scale_xy=scale_xy,
        )


def prepare(image_bgr: NDArray[np.uint8], template: Template) -> tuple[NDArray[np.uint8], tuple[float, float]]:
    """The picture as the template's protocol feeds it, and the factors (x, y) that lead back to its own pixels."""
    rule = template.evaluation
    scale_xy = (1.0, 1.0)
    if rule.resize == "stretch":
        height, width = template.input.size_hw
        scale_xy = (image_bgr.shape[1] / width, image_bgr.shape[0] / height)
        image_bgr = as_uint8(cv2.resize(image_bgr, (width, height)))
    return pad_to_multiple(image_bgr, rule.size_multiple), scale_xy


def pad_to_multiple(image_bgr: NDArray[np.uint8], multiple: int) -> NDArray[np.uint8]:
    """Zeros right and bottom until both sides are multiples of `multiple`."""
    bottom, right = (-side % multiple for side in image_bgr.shape[:2])
    if not bottom and not right:
        return image_bgr
    return np.pad(image_bgr, ((0, bottom), (0, right), (0, 0)))
