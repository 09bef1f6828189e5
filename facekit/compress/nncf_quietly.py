"""NNCF as we use it: without its progress bars and log lines, and with one fake-quantise kernel everywhere.

NNCF 3.4 would compile a C++ (or CUDA) extension at first use, half a minute with a compiler and a warning without one,
and its kernel rounds ties otherwise than its fallback in plain torch: weights restored on another machine would give
other numbers. The plain torch kernel is as fast here, needs no compiler, and is the same on every machine.
"""

from __future__ import annotations

import logging
import os

os.environ.setdefault("NNCF_CI", "1")  # no telemetry; must be set before the import
logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)

import nncf  # noqa: E402
import nncf.torch  # noqa: E402
import torch  # noqa: E402
from nncf.torch.quantization import extensions, reference  # noqa: E402

nncf.set_log_level(logging.ERROR)


class _PlainKernels:
    # Behind NNCF's wrapper that would try torch.compile first.
    Quantize_forward = staticmethod(getattr(reference.torch_forward, "_func", reference.torch_forward))
    Quantize_backward = staticmethod(getattr(reference.torch_backward, "_func", reference.torch_backward))


extensions.QuantizedFunctionsCPU._loaded_namespace = _PlainKernels
if torch.cuda.is_available():
    extensions.QuantizedFunctionsCUDA._loaded_namespace = _PlainKernels

__all__ = ["nncf"]
