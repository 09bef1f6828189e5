"""Run by the Python of an overlay environment that has ai-edge-quantizer (facekit.targets.tflite makes it); imports
nothing of facekit.

python tflite_round.py FILE.json: {"float": FILE.tflite, "fed": a .npy of pictures as the network takes them,
"in_float": names of tensors whose convolutions are left alone, "written": FILE.tflite}
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from ai_edge_quantizer import quantizer
from ai_edge_quantizer.qtyping import TFLOperationName

CONVOLUTIONS = (TFLOperationName.CONV_2D, TFLOperationName.DEPTHWISE_CONV_2D)


class Pictures:
    """Inputs of a signature, read from the disk whenever they are gone through, which is more than once."""

    def __init__(self, name: str, pictures: Any) -> None:
        self.name, self.pictures = name, pictures

    def __len__(self) -> int:
        return len(self.pictures)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for picture in self.pictures:
            yield {self.name: np.asarray(picture, np.float32)}


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    signatures = Interpreter(model_path=job["float"]).get_signature_list()
    ((signature, takes),) = signatures.items()
    (name,) = takes["inputs"]
    rounding = quantizer.Quantizer(job["float"])
    for kind in CONVOLUTIONS:
        rounding.add_static_config(".*", kind, activation_num_bits=8, weight_num_bits=8)
        for tensor in job["in_float"]:
            whole = f"^{re.escape(tensor)}(;|$)"  # the quantizer ends each name with a semicolon
            rounding.update_quantization_recipe(whole, kind, algorithm_key="no_quantize")
    fed = Pictures(name, np.load(job["fed"], mmap_mode="r"))
    ranges = rounding.calibrate({signature: fed}, num_threads=1)
    done = rounding.quantize(ranges, enable_progress_report=False)
    Path(job["written"]).write_bytes(done.quantized_model)


if __name__ == "__main__":
    main()
