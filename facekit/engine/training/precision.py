"""In which precision a network is trained, and whether it is compiled."""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
from typing import cast

import torch
from torch import nn

from facekit.errors import FacekitError

log = logging.getLogger(__name__)

MANTISSA_BITS = {None: 24, torch.bfloat16: 8, torch.float16: 11}  # by what autocast_dtype gives
COMPILERS = ("c++", "g++", "clang++")


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """What convolutions compute in by `precision` auto, fp32, bf16 or fp16; None: float32, without autocast.

    Weights, batch-norm statistics, assignment and losses stay in float32 in any case. `auto` is bf16 where the
    hardware multiplies it (a CPU with AMX or AVX512-bf16: 1.3 times as fast for yunet-n, and less memory; most GPUs),
    fp16 on other GPUs, and fp32 on other CPUs. Raises FacekitError for what the device can't.
    """
    if precision == "fp32":
        return None
    if device.type == "cuda":
        if precision == "auto":
            return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
        return torch.bfloat16 if precision == "bf16" else torch.float16
    if precision == "fp16":
        raise FacekitError("`precision=fp16`: training in 16-bit floats needs a GPU. Give auto, bf16 or fp32.")
    if precision == "auto":
        return torch.bfloat16 if cpu_multiplies_bf16() else None
    if not cpu_multiplies_bf16():
        log.warning("`precision=bf16`: this CPU has neither AMX nor AVX512-bf16 and emulates it; fp32 is faster.")
    return torch.bfloat16


def cpu_multiplies_bf16() -> bool:
    """Whether the CPU has AMX or AVX512-bf16."""
    found = torch.cpu.get_capabilities()
    return bool(found.get("amx_bf16") or found.get("avx512_bf16"))


def compile_network(network: nn.Module, device: torch.device) -> nn.Module:
    """The network with its forward and backward compiled for the sizes of its batches; weights are shared with the one
    given. The first step takes a minute or so. Raises FacekitError where there is no compiler."""
    if device.type == "cpu":
        wanted = (os.environ["CXX"],) if os.environ.get("CXX") else COMPILERS
        if not any(map(shutil.which, wanted)):
            raise FacekitError(
                f"`compile`: needs a C++ compiler, and there is none ({', '.join(wanted)}). Install one, such as g++, "
                f"or leave `compile` out."
            )
    elif importlib.util.find_spec("triton") is None:
        raise FacekitError("`compile`: needs the package triton on a GPU. Install it, or leave `compile` out.")
    log.info("Compiling the network: the first step of each batch size takes a minute or so ...")
    # Not dynamic: an epoch has two batch sizes at most, and kernels for one size are faster.
    return cast(nn.Module, torch.compile(network, dynamic=False))
