"""Several processes, as torchrun or SLURM's srun starts them, or one."""

from __future__ import annotations

import logging
import os
import re
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from facekit.errors import FacekitError

if TYPE_CHECKING:  # a detector on one of the deployment runtimes goes without torch
    import torch

log = logging.getLogger(__name__)

# How long one process waits for another. The first computes metrics meanwhile, or fetches weights.
TIMEOUT = timedelta(minutes=30)
LOST = ("connection", "timed out", "timeout", "gloo", "nccl", "socket", "store")  # in what torch says


def group() -> Any:
    """torch.distributed where this process has joined others, else None. Who has joined has imported torch: nobody else
    has to, to hear that there are no others."""
    dist = sys.modules.get("torch.distributed")
    return dist if dist is not None and dist.is_available() and dist.is_initialized() else None


def world_size() -> int:
    return int(group().get_world_size()) if group() else 1


def rank() -> int:
    return int(group().get_rank()) if group() else 0


def is_one_of_several() -> bool:
    """Whether this process was started together with others, which it may have yet to join."""
    adopt_slurm()
    return int(os.environ.get("WORLD_SIZE", 1)) > 1


def join_processes() -> torch.device:
    """Joins the group of processes that this one was started with; returns the device that is ours.

    Raises FacekitError where the others don't come.
    """
    import torch
    import torch.distributed as dist

    adopt_slurm()
    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    device = torch.device("cpu")
    if torch.cuda.is_available():
        # SLURM may show each process its own GPU alone.
        device = torch.device("cuda", local_rank % torch.cuda.device_count())
        torch.cuda.set_device(device)
    count = int(os.environ.get("WORLD_SIZE", 1))
    if count > 1 and not dist.is_initialized():
        place = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        log.info("Process %s of %d meets the others at %s", os.environ.get("RANK"), count, place)
        try:
            store, number, count = next(dist.rendezvous("env://", timeout=TIMEOUT))  # type: ignore[attr-defined]
            # torchrun's store outlives the group: who joins again would read addresses of the one before.
            joined = store.add(f"facekit-joined-by-{number}", 1)
            store = dist.PrefixStore(f"facekit-{joined}", store)  # type: ignore[attr-defined]
            backend = "nccl" if device.type == "cuda" else "gloo"
            dist.init_process_group(backend, store=store, rank=number, world_size=count, timeout=TIMEOUT)
        except (RuntimeError, ValueError) as error:
            raise FacekitError(
                f"{place}: the {count} processes did not come together ({_first_line(error)}). Start as many, on nodes "
                f"that reach this one: by torchrun, or by srun (SLURM's tasks, not its batch script, train). Set "
                f"MASTER_PORT where the port is taken."
            ) from error
    return device


def adopt_slurm() -> bool:
    """Sets torchrun's variables by those of srun, where it started several tasks and torchrun none of them."""
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS") or os.environ.get("SLURM_NTASKS", "1")
    if "WORLD_SIZE" in os.environ or "SLURM_PROCID" not in os.environ or int(tasks) < 2:
        return False
    nodes = os.environ.get("SLURM_STEP_NODELIST") or os.environ.get("SLURM_NODELIST", "localhost")
    os.environ.setdefault("MASTER_ADDR", first_node(nodes))
    os.environ.setdefault("MASTER_PORT", str(15000 + int(os.environ.get("SLURM_JOB_ID", 0)) % 15000))
    os.environ["RANK"] = os.environ["SLURM_PROCID"]
    os.environ["LOCAL_RANK"] = os.environ.get("SLURM_LOCALID", "0")
    os.environ["WORLD_SIZE"] = tasks
    return True


def processes_started() -> int:
    """How many were started together, before they have joined."""
    adopt_slurm()
    return int(os.environ.get("WORLD_SIZE", 1))


def is_first_started() -> bool:
    """Whether this is the first of them."""
    adopt_slurm()
    return os.environ.get("RANK", "0") == "0"


def first_node(nodes: str) -> str:
    """The first host of SLURM's short form: "gpu[07-09,12],login1" -> "gpu07"."""
    return re.sub(r"\[(\w+)[^]]*\]", r"\1", re.split(r",(?![^[]*\])", nodes)[0])


def lost_process(error: RuntimeError, remedy: str) -> FacekitError | None:
    """What to say where torch failed because another process ended or hangs; None where it failed otherwise."""
    if not group() or not any(word in str(error).lower() for word in LOST):
        return None
    return FacekitError(
        f"Process {rank()} of {world_size()}: another one ended, or did not answer for {TIMEOUT.seconds // 60} minutes "
        f"({_first_line(error)}). Its own message says why. {remedy}"
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def leave_processes() -> None:
    if group():
        group().destroy_process_group()


def wait_for_all() -> None:
    if group():
        group().barrier()


def gather_over_processes(value: Any) -> list[Any]:
    """Every process's value, in the order of their ranks; every one must call."""
    if not group():
        return [value]
    values: list[Any] = [None] * world_size()
    group().all_gather_object(values, value)
    return values
