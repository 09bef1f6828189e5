"""From one command to one process a GPU."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import torch

from facekit.errors import FacekitError

log = logging.getLogger(__name__)


def launch_over_gpus(wanted: int, asked: bool) -> bool:
    """Starts this very command once a GPU under torchrun and waits; False where one process is enough (go on then).

    `asked`: the number comes from the user, not from the template. Raises FacekitError when a process fails, or when
    the user asks for more GPUs than there are.
    """
    if "LOCAL_RANK" in os.environ:  # started by torchrun already, ours or the user's
        return False
    if wanted == 0:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before anything asks CUDA
        return False
    available = torch.cuda.device_count()
    if asked and wanted > max(available, 1):
        raise FacekitError(f"--gpu-num {wanted}: this machine has {available} GPUs. Give --gpu-num {available}.")
    if wanted > max(available, 1):
        log.info(
            "The template was made with %d GPUs; training in one process on %s.",
            wanted, "the GPU" if available else "the CPU",
        )  # fmt: skip
    count = min(wanted, available)
    if count < 2:
        return False
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}", *sys.argv
    ]  # fmt: skip
    if subprocess.run(command, check=False).returncode:
        raise FacekitError("A training process failed; its message stands above.")
    return True
