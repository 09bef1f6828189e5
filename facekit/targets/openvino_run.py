"""OpenVINO IR (.xml beside .bin) on the CPU, in full precision unless told otherwise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from facekit.errors import FacekitError
from facekit.structures import Decoded
from facekit.targets.outputs import ExportedOutputs, fixed_input_size
from facekit.template import Template


class OpenVinoBackend:
    def __init__(self, weights: Path, template: Template) -> None:
        xml, binary = weights.with_suffix(".xml"), weights.with_suffix(".bin")
        for part in (xml, binary):
            if not part.is_file():
                raise FacekitError(f"{part}: there is no such file; an OpenVINO IR is a pair of .xml and .bin.")
        core = ov.Core()
        try:
            model = core.read_model(xml, binary)
            # Processors with bf16 units would compute in bf16 and move the scores in the third digit.
            self.compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        except RuntimeError as error:
            reason = str(error).splitlines()[-1][:200]
            raise FacekitError(f"{xml}: not an OpenVINO IR that can be run: {reason} Export it again.") from error
        self.outputs = ExportedOutputs([value.get_any_name() for value in model.outputs], template, str(xml))
        size_hw = [None if side.is_dynamic else side.get_length() for side in list(model.inputs[0].partial_shape)[2:]]
        self.fixed_size_hw = fixed_input_size(size_hw, template, xml)

    def __call__(self, images_bgr: NDArray[np.uint8]) -> Decoded:
        blob = np.ascontiguousarray(images_bgr.transpose(0, 3, 1, 2), dtype=np.float32)
        result = self.compiled(blob)
        arrays = {name: result[name] for name in self.outputs.names}
        return self.outputs(arrays, images_bgr.shape[1:3])
