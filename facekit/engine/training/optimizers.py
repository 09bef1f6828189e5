"""Optimisers: made as the template says, brought back from a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from facekit.errors import FacekitError
from facekit.template import AdamW, Sgd

# What each keeps for a parameter once it has made a step.
_STATE_KEYS: dict[type[torch.optim.Optimizer], set[str]] = {
    torch.optim.SGD: {"momentum_buffer"},
    torch.optim.AdamW: {"step", "exp_avg", "exp_avg_sq"},
}


def make_optimizer(network: nn.Module, settings: Sgd | AdamW) -> torch.optim.Optimizer:
    """Over all of the network's parameters; its learning rate is 0 until the loop sets one, before every step."""
    if isinstance(settings, Sgd):
        return torch.optim.SGD(
            network.parameters(), lr=0.0, momentum=settings.momentum, weight_decay=settings.weight_decay
        )
    return torch.optim.AdamW(network.parameters(), lr=0.0, weight_decay=settings.weight_decay)


def restore_optimizer(optimizer: torch.optim.Optimizer, saved: dict[str, Any], source: Path) -> None:
    """Fills a fresh optimiser with what another one's state_dict() gave; momentum and weight decay stay as they are,
    for they are the template's, like the learning rate.

    Raises FacekitError for the state of another kind of optimiser or of other parameters.
    """
    if complaint := _complaint(optimizer, saved):
        raise FacekitError(
            f"{source}: its optimiser can't go on in this template's ({type(optimizer).__name__}): {complaint} Give "
            f"`load_weights={source}` to start at epoch 0 with its weights and a fresh optimiser, or the "
            f"training.optimizer that it was trained with."
        )
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": saved["state"], "param_groups": groups})


def _complaint(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> str | None:
    """What keeps the saved state from fitting."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    try:
        count = sum(len(group["params"]) for group in saved["param_groups"])
        entries = {number: dict(entry) for number, entry in saved["state"].items()}
    except (KeyError, TypeError, ValueError, AttributeError):
        return "the saved state is damaged."
    if count != len(parameters):
        return f"it is one of {count} parameters, expected {len(parameters)}."
    if not set(entries) <= set(range(count)):
        return "the saved state is damaged."
    wanted = _STATE_KEYS[type(optimizer)]
    for number, entry in entries.items():
        if set(entry) != wanted:
            return f"a parameter's state is {', '.join(map(str, entry))}, expected {', '.join(sorted(wanted))}."
        for name, value in entry.items():
            if name == "momentum_buffer" and value is None:  # trained without momentum
                continue
            shape = () if name == "step" else tuple(parameters[number].shape)
            given = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            if given != shape:
                return f"{name} of parameter {number} is {given}, expected {shape}."
    return None
