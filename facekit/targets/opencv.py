"""OpenCV's own inference, cv2.dnn, of exported .onnx files: no other runtime is needed. OpenCV 5 reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from facekit.errors import FacekitError
from facekit.machine.cores import usable_cores
from facekit.structures import Activated, Decoded
from facekit.targets import Backend, Given
from facekit.targets.reading.about import KEY, check_fits, parse_about, stated_template
from facekit.targets.reading.layouts import GraphFacts, read_graph
from facekit.targets.reading.outputs import TEMPLATE_KEY, GraphInput
from facekit.weights.onnx_file import OnnxFile, check_onnx_file


class OpenCvBackend(Backend):
    """An .onnx of ours in cv2.dnn. Its threads are the whole process's: OpenCV has one pool."""

    fixed_batch: int | None = 1

    def __init__(self, weights: Path, template: Given, threads: int | None) -> None:
        cv2.setNumThreads(threads or usable_cores())
        try:
            file = check_onnx_file(weights)
            refuse_suppression(file, "cv2.dnn")
            self.network = cv2.dnn.readNetFromONNX(str(weights))
        except cv2.error as error:
            reason = " ".join(str(error.err or error).split())[:200]
            raise FacekitError(f"{weights}: OpenCV {cv2.__version__} can't read it: {reason}") from error
        self.source = str(weights)
        # cv2.dnn says nothing of what a graph takes, and runs pictures of other sizes all the same, wrongly.
        shapes = [sides for _, sides in file.inputs]
        takes = GraphInput(
            shapes, ["float32" if kind == 1 else f"type {kind}" for kind, _ in file.inputs], str(weights)
        )
        said = parse_about(file.metadata.get(KEY), weights, template)
        check_fits(template, said, weights)
        stated = template or stated_template(said, weights, file.metadata.get(TEMPLATE_KEY))
        self.fixed_size_hw = takes.fixed_size_hw
        self.outputs = read_graph(stated, GraphFacts(str(weights), takes), self._run)
        self.template = self.outputs.template

    def _run(self, blob: NDArray[np.float32], names: list[str] | None = None) -> dict[str, NDArray[Any]]:
        names = names or list(self.network.getUnconnectedOutLayersNames())
        self.network.setInput(blob)
        try:
            arrays = self.network.forward(names)
        except cv2.error as error:
            reason = " ".join(str(error.err or error).split())[:200]
            raise FacekitError(f"{self.source}: OpenCV {cv2.__version__} can't run it: {reason}") from error
        return {name: np.asarray(array) for name, array in zip(names, arrays, strict=True)}

    def __call__(self, images_bgr: NDArray[np.uint8]) -> Activated | Decoded:
        found = self._run(self.outputs.feed(images_bgr), self.outputs.names)
        return self.outputs(found, images_bgr.shape[1:3])


def refuse_suppression(file: OnnxFile, runtime: str) -> None:
    """Raises FacekitError for a graph with suppression in it: OpenCV reads it, and gives nothing."""
    if "NonMaxSuppression" in file.kinds:
        raise FacekitError(
            f"{file.path}: has suppression in its graph (NonMaxSuppression), which {runtime} can't run. Export it "
            f"without `nms`, or run it by `backend=onnx`."
        )


def open_weights(weights: Path, template: Given, device: str | None, threads: int | None) -> OpenCvBackend:
    """Raises FacekitError for a file that this OpenCV doesn't read."""
    return OpenCvBackend(weights, template, threads)
