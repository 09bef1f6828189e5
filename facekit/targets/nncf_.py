"""NNCF as we use it, and compressed networks restored from their checkpoints; making them is facekit.engine.compress.

NNCF 3.4 would compile a C++ (or CUDA) extension at first use, half a minute with a compiler and a warning without one,
and its kernel rounds ties otherwise than its fallback in plain torch: weights restored on another machine would give
other numbers. The plain torch kernel is as fast here, needs no compiler, and is the same on every machine.
"""

from __future__ import annotations

import json
import logging
import math
from typing import Any

logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)

import nncf  # noqa: E402
import nncf.torch  # noqa: E402
import torch  # noqa: E402
from nncf.torch.quantization import extensions, reference  # noqa: E402
from torch import nn  # noqa: E402

from facekit.base.reading import shown  # noqa: E402
from facekit.errors import FacekitError  # noqa: E402
from facekit.weights.checkpoint import Checkpoint, load_state  # noqa: E402

__all__ = ["describe_compression", "nncf", "restore_compressed"]

nncf.set_log_level(logging.ERROR)
MAX_ELEMENTS = 1 << 26  # of a mask or a scale


class _PlainKernels:
    # Behind NNCF's wrapper that would try torch.compile first.
    Quantize_forward = staticmethod(getattr(reference.torch_forward, "_func", reference.torch_forward))
    Quantize_backward = staticmethod(getattr(reference.torch_backward, "_func", reference.torch_backward))


extensions.QuantizedFunctionsCPU._loaded_namespace = _PlainKernels
if torch.cuda.is_available():
    extensions.QuantizedFunctionsCUDA._loaded_namespace = _PlainKernels


def describe_compression(network: nn.Module) -> dict[str, Any]:
    """What a checkpoint must keep beside the tensors to build the compressed network again: plain data."""
    # Through JSON: NNCF's enumerations look like text but are classes, which a safe torch.load refuses.
    return {"nncf": json.loads(json.dumps(nncf.torch.get_config(network)))}


def restore_compressed(network: nn.Module, checkpoint: Checkpoint, source: str) -> nn.Module:
    """The compressed network: quantisers and masks as saved, put around a fresh `network` of the template."""
    try:
        compressed: nn.Module = nncf.torch.load_from_config(network, checkpoint.meta["compression"]["nncf"])
    except Exception as error:  # NNCF trusts what it is given: anything else trips it anywhere
        raise FacekitError(
            f"{source}: its description of the compression can't be read ({shown(error, 120)}). Compress the weights "
            f"again."
        ) from error
    load_state(compressed, checkpoint.state_dict, source)
    return compressed


def _largest(description: Any) -> float:
    """How many numbers the largest shape in the description has, whatever it is the shape of."""
    if isinstance(description, dict):
        return max(map(_largest, description.values()), default=0)
    if isinstance(description, list):
        sides = [abs(side) for side in description if isinstance(side, int | float)]
        return max(math.prod(max(1, side) for side in sides), *map(_largest, description), 0)
    return 0
