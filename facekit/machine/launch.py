"""From one command to one process a GPU."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from types import FrameType

import torch

from facekit.errors import FacekitError, Interrupted
from facekit.machine.processes import adopt_slurm

log = logging.getLogger(__name__)


def launch_over_gpus(wanted: int, asked: bool, arguments: Sequence[str], hint: str = "") -> bool:
    """Starts `facekit ARGUMENTS` once a GPU under torchrun and waits; False where one process is enough (go on then).

    `asked`: the number comes from the user, not from the template. `hint`: what to do where there are fewer GPUs than
    the template was made with. Raises FacekitError when a process fails, or when
    the user asks for more GPUs than there are; Interrupted when they all ended after a SIGTERM or SIGINT.
    """
    is_under_slurm = adopt_slurm()
    if wanted == 0:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before anything asks CUDA
        return False
    if "LOCAL_RANK" in os.environ or is_under_slurm:  # started several times already, by torchrun or by srun
        return False
    available = torch.cuda.device_count()
    if asked and wanted > max(available, 1):
        raise FacekitError(f"`gpu_num={wanted}`: this machine has {available} GPUs. Give `gpu_num={available}`.")
    if wanted > max(available, 1):
        log.info(
            "The template was made with %d GPUs; training on %s. %s",
            wanted, "one GPU" if available == 1 else f"{available} GPUs" if available else "the CPU", hint,
        )  # fmt: skip
    count = min(wanted, available)
    if count < 2:
        return False
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}",
        "--module", "facekit", *arguments,
    ]  # fmt: skip
    run_and_forward(command)
    return True


def run_and_forward(command: Sequence[str]) -> None:
    """Runs the command to its end and hands SIGTERM and SIGINT on to it, for it to save and end by itself.

    Raises FacekitError when it fails, Interrupted when it ended after a signal.
    """
    received: list[int] = []
    # In a session of its own: a Ctrl-C reached it twice else, and the second one means at once.
    process = subprocess.Popen(command, start_new_session=True)

    def forward(number: int, frame: FrameType | None) -> None:
        received.append(number)
        process.send_signal(number)

    before = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        failed = process.wait() != 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if failed and received:
        raise Interrupted("Stopped; what was saved stands above.", received[0])
    if failed:
        raise FacekitError("A training process failed; its message stands above.")
