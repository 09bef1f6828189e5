"""NNCF as we use it, and compressed networks restored from their checkpoints; making them is facekit.engine.compress.

NNCF 3.4 would compile a C++ (or CUDA) extension at first use, half a minute with a compiler and a warning without one,
and its kernel rounds ties otherwise than its fallback in plain torch: weights restored on another machine would give
other numbers. The plain torch kernel is as fast here, needs no compiler, and is the same on every machine.
"""

from __future__ import annotations

import json
import logging
import os
from typing import Any

os.environ.setdefault("NNCF_CI", "1")  # no telemetry; must be set before the import
logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)

import nncf  # noqa: E402
import nncf.torch  # noqa: E402
import torch  # noqa: E402
from nncf.torch.quantization import extensions, reference  # noqa: E402
from torch import nn  # noqa: E402

from facekit.errors import FacekitError  # noqa: E402
from facekit.weights.checkpoint import Checkpoint, load_state  # noqa: E402

__all__ = ["describe_compression", "nncf", "restore_compressed"]

nncf.set_log_level(logging.ERROR)


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
    except (KeyError, RuntimeError, ValueError, nncf.InternalError, nncf.ValidationError) as error:
        raise FacekitError(
            f"{source}: its description of the compression can't be read ({error}). Compress the weights again."
        ) from error
    load_state(compressed, checkpoint.state_dict, source)
    return compressed
