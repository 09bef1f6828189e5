"""Runtimes, one a file: a batch of pictures in, the same Decoded out. The suffix of the weights chooses."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from facekit.errors import FacekitError
from facekit.structures import Decoded
from facekit.template import Template

WEIGHT_SUFFIXES = (".pth", ".pt", ".tar", ".onnx", ".xml", ".bin")


class Backend(Protocol):
    """A loaded network of some runtime."""

    fixed_size_hw: tuple[int, int] | None  # the only size of picture that it takes; None: any

    def __call__(self, images_bgr: NDArray[np.uint8]) -> Decoded:
        """(B, H, W, 3) BGR pixels 0..255 of the size that the network takes -> its boxes, scores, landmarks."""


def open_backend(weights: Path, template: Template, device: str | None = None) -> Backend:
    """Loads weights of any kind that we run. `device` is PyTorch's ("cpu", "cuda"); None: a GPU where there is one.

    Raises FacekitError for a file that is missing, unknown, damaged or of another detector.
    """
    if not weights.is_file():
        raise FacekitError(f"{weights}: there are no such weights. Check --load-weights.")
    suffix = weights.suffix.lower()
    if suffix == ".onnx":
        from facekit.targets.onnx_run import OnnxRuntimeBackend

        return OnnxRuntimeBackend(weights, template)
    if suffix in (".xml", ".bin"):
        from facekit.targets.openvino_run import OpenVinoBackend

        return OpenVinoBackend(weights, template)
    if suffix in (".pth", ".pt", ".tar"):
        from facekit.targets.pytorch import PyTorchBackend

        return PyTorchBackend.from_file(weights, template, device)
    raise FacekitError(f"{weights}: unknown kind of weights; expected one of {', '.join(WEIGHT_SUFFIXES)}.")
