"""cv2.FaceDetectorYN: OpenCV's own detector for YuNet's .onnx files, decoding and suppression inside."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from facekit.errors import FacekitError
from facekit.machine.cores import usable_cores
from facekit.machine.native_output import quiet_opencv
from facekit.structures import Decoded
from facekit.targets import Backend, Given
from facekit.targets.opencv import refuse_suppression
from facekit.targets.reading.about import KEY, check_fits, parse_about, stated_template
from facekit.targets.reading.layouts import GraphFacts, Layout, find_layout
from facekit.targets.reading.outputs import TEMPLATE_KEY, GraphInput
from facekit.template import Template
from facekit.weights.onnx_file import check_onnx_file

MOST_BOXES = 100_000  # before suppression, where the protocol has no cap: more than any picture has


class FaceDetectorYnBackend(Backend):
    """A YuNet in OpenCV's class. Its scores are the roots of facekit's, class times objectness; they are squared here,
    so that thresholds mean the same."""

    fixed_batch: int | None = 1

    def __init__(self, weights: Path, given: Given, threads: int | None) -> None:
        if not hasattr(cv2, "FaceDetectorYN"):
            raise FacekitError(f"{weights}: OpenCV {cv2.__version__} has no FaceDetectorYN. Install 4.5.4 or later.")
        file = check_onnx_file(weights)
        refuse_suppression(file, "cv2.FaceDetectorYN")
        types = ["float32" if kind == 1 else f"type {kind}" for kind, _ in file.inputs]
        takes = GraphInput([sides for _, sides in file.inputs], types, str(weights))
        said = parse_about(file.metadata.get(KEY), weights, given)
        check_fits(given, said, weights)
        stated = given or stated_template(said, weights, file.metadata.get(TEMPLATE_KEY)) or find_layout("yunet")
        facts = GraphFacts(str(weights), takes)
        self.template = stated.template(facts) if isinstance(stated, Layout) else stated
        _check_is_yunet(self.template, weights)
        self.source, self.fixed_size_hw = str(weights), takes.fixed_size_hw
        cv2.setNumThreads(threads or usable_cores())
        rule = self.template.evaluation
        size_hw = takes.fixed_size_hw or (64, 96)
        self.size_hw: tuple[int, int] = size_hw
        try:
            with quiet_opencv():  # whose new engine says that it can't be told where to run
                self.detector = cv2.FaceDetectorYN.create(
                    str(weights), "", size_hw[::-1], math.sqrt(rule.score_threshold), rule.nms_iou_threshold,
                    rule.max_candidates or MOST_BOXES,
                )  # fmt: skip
        except cv2.error as error:
            raise self._refusal("read", error) from error
        self(np.zeros((1, *size_hw, 3), dtype=np.uint8))  # says now what it can't run

    def __call__(self, images_bgr: NDArray[np.uint8]) -> Decoded:
        size_hw = (images_bgr.shape[1], images_bgr.shape[2])
        try:
            if size_hw != self.size_hw:
                self.detector.setInputSize(size_hw[::-1])
                self.size_hw = size_hw
            _, rows = self.detector.detect(images_bgr[0])
        except cv2.error as error:
            raise self._refusal("run", error) from error
        found = np.empty((0, 15), dtype=np.float32) if rows is None else np.asarray(rows, dtype=np.float32)
        corners = np.concatenate([found[:, :2], found[:, :2] + found[:, 2:4]], axis=1)
        return Decoded(corners[None], found[None, :, 14] ** 2, found[None, :, 4:14])

    def _refusal(self, what: str, error: cv2.error) -> FacekitError:
        reason = " ".join(str(error.err or error).split())[:200]
        return FacekitError(f"{self.source}: FaceDetectorYN of OpenCV {cv2.__version__} can't {what} it: {reason}")


def _check_is_yunet(template: Template, weights: Path) -> None:
    head = template.model.head
    if head is None or head.strides != (8, 16, 32) or not (head.has_objectness and head.has_landmarks):
        raise FacekitError(f"{weights}: FaceDetectorYN runs YuNet alone; {template.name} is none.")


def open_weights(weights: Path, given: Given, device: str | None, threads: int | None) -> FaceDetectorYnBackend:
    """Raises FacekitError for a file that is no YuNet, or that this OpenCV doesn't read."""
    return FaceDetectorYnBackend(weights, given, threads)
