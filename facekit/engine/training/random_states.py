"""The random states that training depends on, brought to a checkpoint and back.

Pictures need none: what happens to them depends on (seed, epoch, picture). Networks that drop paths at random do.
"""

from __future__ import annotations

import logging
from typing import Any

import torch

from facekit.errors import FacekitError
from facekit.machine.processes import gather_over_processes, rank, world_size

log = logging.getLogger(__name__)


def random_states(device: torch.device) -> list[dict[str, Any]]:
    """Torch's states of every process, in the order of ranks; every process must call."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return gather_over_processes(state)


def restore_random_states(states: Any, device: torch.device, source: str) -> None:
    """Brings back what random_states() gave this process; with another number of processes that can't be, which is a
    warning. Raises FacekitError for anything else."""
    if isinstance(states, list) and len(states) != world_size():
        log.warning(
            "%s was saved by %d process(es), and this run has %d: going on with other random numbers.",
            source, len(states), world_size(),
        )  # fmt: skip
        return
    try:
        state = states[rank()]
        torch.set_rng_state(state["cpu"])
        if device.type == "cuda" and "cuda" in state:
            torch.cuda.set_rng_state(state["cuda"], device)
    except (RuntimeError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise FacekitError(
            f"{source}: its random states are damaged ({error}). Give `load_weights={source}` to start at epoch 0."
        ) from error
