"""Exported .onnx files in ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from facekit.errors import FacekitError
from facekit.structures import Decoded
from facekit.targets.outputs import ExportedOutputs, fixed_input_size
from facekit.template import Template


class OnnxRuntimeBackend:
    def __init__(self, weights: Path, template: Template) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors only
        providers = [
            provider
            for provider in ("CUDAExecutionProvider", "CPUExecutionProvider")
            if provider in onnxruntime.get_available_providers()
        ]
        try:
            self.session = onnxruntime.InferenceSession(weights, options, providers=providers)
        except Exception as error:  # the runtime's own classes have no common base but this one
            reason = str(error).splitlines()[0][:200]
            raise FacekitError(f"{weights}: not an ONNX file that can be run: {reason} Export it again.") from error
        self.input_name = self.session.get_inputs()[0].name
        self.outputs = ExportedOutputs([value.name for value in self.session.get_outputs()], template, str(weights))
        self.fixed_size_hw = fixed_input_size(self.session.get_inputs()[0].shape[2:], template, weights)

    def __call__(self, images_bgr: NDArray[np.uint8]) -> Decoded:
        blob = np.ascontiguousarray(images_bgr.transpose(0, 3, 1, 2), dtype=np.float32)
        arrays = self.session.run(self.outputs.names, {self.input_name: blob})
        return self.outputs(dict(zip(self.outputs.names, arrays, strict=True)), images_bgr.shape[1:3])
