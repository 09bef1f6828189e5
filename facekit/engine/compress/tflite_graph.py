"""Graphs of TFLite, rounded by ai-edge-quantizer; where that costs too much the first layers stay in float."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from facekit.detector import Detector
from facekit.engine.compress.heads import head_layers, nodes_of_tflite
from facekit.engine.compress.judging import ap_50, measure
from facekit.errors import FacekitError
from facekit.feed import prepare
from facekit.labels.picture_labels import PictureLabels
from facekit.targets.tflite import TfliteBackend, plain_network, rounded, save_rounded

# Convolutions at the beginning that are left in float: they see pixels, whose rounding all others inherit.
FIRST_IN_FLOAT = (0, 3, 9)


class TfliteGraph:
    """A .tflite's graph; the model is the file's content."""

    def __init__(self, weights: Path, detector: Detector) -> None:
        self.weights, self.detector = weights, detector
        self.model: Any = weights.read_bytes()

    def feed(self, image_bgr: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(1, 3, H, W) or (1, H, W, 3). Raises FacekitError for a network that does not take plain pixels."""
        backend = cast(TfliteBackend, self.detector.backend)
        blob = backend.fed(prepare(image_bgr, self.detector.template)[0][None])
        pixels = blob.astype(np.uint8)
        if not np.array_equal(pixels, blob):
            raise FacekitError(f"{self.weights}: takes pixels that are normalised before. Export it by facekit.")
        return pixels

    def is_rounded(self, model: Any) -> bool:
        return any(tensor["dtype"] is np.int8 for tensor in plain_network(model).get_tensor_details())

    def rounded(
        self, fed: Sequence[Any], pictures: Sequence[PictureLabels], ap_before: float | None, max_drop: float
    ) -> Any:
        """The INT8 file's content: with the heads in float, and with more of the first layers where AP asks for it."""
        nodes, outputs = nodes_of_tflite(plain_network(self.weights))
        heads = head_layers(nodes, outputs)
        convolutions = [name for name, node in nodes.items() if node.channels is not None]
        content = b""
        for count in FIRST_IN_FLOAT:
            content = rounded(self.weights, fed, [*heads, *convolutions[:count]])
            if ap_before is None or ap_before - (self._ap_50(content, pictures) or 0) <= max_drop:
                break
        return content

    def _ap_50(self, content: bytes, pictures: Sequence[PictureLabels]) -> float | None:
        with tempfile.TemporaryDirectory(prefix="facekit-") as scratch:
            (file,) = self.save(content, Path(scratch) / self.weights.name)
            return ap_50(measure(Detector.open(file, self.detector.template), pictures))

    def save(self, model: Any, path: Path) -> list[Path]:
        save_rounded(model, self.weights, path)
        return [path]
