"""OpenCV's own inference, cv2.dnn, of exported .onnx files: no other runtime is needed. OpenCV 5 reads them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from facekit.errors import FacekitError
from facekit.machine.cores import usable_cores
from facekit.structures import Activated, Decoded
from facekit.targets.outputs import GraphOutputs
from facekit.template import Template
from facekit.weights.onnx_file import check_onnx_file


class OpenCvBackend:
    """An .onnx of ours in cv2.dnn. Its threads are the whole process's: OpenCV has one pool."""

    fixed_batch: int | None = 1
    fixed_size_hw: tuple[int, int] | None = None

    def __init__(self, weights: Path, template: Template | None, threads: int | None) -> None:
        if template is None:
            raise FacekitError(f"{weights}: cv2.dnn doesn't read what the file says of itself. Give its template.")
        cv2.setNumThreads(threads or usable_cores())
        self.template = template
        try:
            check_onnx_file(weights)
            self.network = cv2.dnn.readNetFromONNX(str(weights))
        except cv2.error as error:
            reason = " ".join(str(error.err or error).split())[:200]
            raise FacekitError(f"{weights}: OpenCV {cv2.__version__} can't read it: {reason}") from error
        self.outputs = GraphOutputs(template, str(weights))
        names = list(self.network.getUnconnectedOutLayersNames())
        size_hw = self.outputs.example_size(None)
        self.outputs.recognise(self._run(np.zeros((1, 3, *size_hw), dtype=np.float32), names), size_hw)

    def _run(self, blob: NDArray[np.float32], names: list[str]) -> dict[str, NDArray[np.float32]]:
        self.network.setInput(blob)
        try:
            arrays = self.network.forward(names)
        except cv2.error as error:
            reason = " ".join(str(error.err or error).split())[:200]
            raise FacekitError(f"{self.outputs.source}: OpenCV {cv2.__version__} can't run it: {reason}") from error
        return {name: np.asarray(array) for name, array in zip(names, arrays, strict=True)}

    def __call__(self, images_bgr: NDArray[np.uint8]) -> Activated | Decoded:
        found = self._run(self.outputs.feed(images_bgr), self.outputs.names)
        return self.outputs(found, images_bgr.shape[1:3])


def open_weights(weights: Path, template: Template | None, device: str | None, threads: int | None) -> OpenCvBackend:
    """Raises FacekitError for a file that this OpenCV doesn't read."""
    return OpenCvBackend(weights, template, threads)
