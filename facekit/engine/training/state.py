"""All that a run brings to its checkpoints and back, for it to end with the same weights when it was interrupted."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from facekit.engine.training.average import WeightAverage
from facekit.engine.training.loop import Progress
from facekit.engine.training.optimizers import restore_optimizer
from facekit.engine.training.random_states import random_states, restore_random_states
from facekit.engine.training.stopping import EarlyStopper
from facekit.errors import FacekitError
from facekit.machine.reductions import largest_over_processes
from facekit.template import Template
from facekit.weights.checkpoint import Checkpoint, load_state, new_meta

log = logging.getLogger(__name__)


@dataclass
class TrainingState:
    """What changes in the course of a run, and the settings that its course depends on."""

    template: Template
    network: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    progress: Progress
    settings: dict[str, Any]  # numbers by name; kept to be compared
    device: torch.device
    average: WeightAverage | None
    early_stopper: EarlyStopper | None
    best_ap: float = -1.0
    start_ap: float = -1.0  # per cent, of the weights that the run started from; -1: random ones, or not measured
    validation: str = ""  # which pictures and protocol AP is of, by validation.key_of
    has_other_validation: bool = False  # than the run had before it was resumed

    @property
    def outcome(self) -> nn.Module:
        """The network that the run is for, which is evaluated and deployed: the averaged one where there is one."""
        return self.network if self.average is None else self.average.network

    def checkpoint(self) -> Checkpoint:
        """Of now; all processes must ask. Raises FacekitError for weights that are spoilt."""
        if not self.is_sound():
            raise FacekitError(
                f"The weights are no finite numbers behind iteration {self.progress.iteration}, and were not saved. "
                f"Lower `base_learning_rate`; the last saved checkpoint is not affected."
            )
        meta = new_meta(self.template, self.progress.epoch, self.progress.iteration) | {
            "epoch_iteration": self.progress.epoch_iteration,
            "best_ap": self.best_ap,
            "start_ap": self.start_ap,
            "validation": self.validation,
            "training": self.settings,
        }
        if self.early_stopper is not None:
            meta["stagnation"] = self.early_stopper.state()
        extra = {"scaler": self.scaler.state_dict(), "random": random_states(self.device)}
        if self.average is not None:
            # Whoever reads a checkpoint wants the average; the weights that steps are made on matter to --resume-from.
            average = {"steps": self.average.steps, "stepped": self.network.state_dict()}
            extra["average"] = average | ({"start": self.average.start} if self.average.start else {})
        return Checkpoint(meta, self.outcome.state_dict(), self.optimizer.state_dict(), extra)

    def is_sound(self) -> bool:
        """Whether all weights are finite numbers; all processes must ask."""
        states = [network.state_dict() for network in {self.network, self.outcome}]
        is_finite = all(bool(tensor.isfinite().all()) for state in states for tensor in state.values())
        return largest_over_processes([float(not is_finite)], self.device) == [0]

    def restore(self, checkpoint: Checkpoint, source: Path) -> None:
        """All but the progress, and the network that holds checkpoint.state_dict already. Raises FacekitError for
        another optimiser's state, or a damaged average."""
        validation = str(checkpoint.meta.get("validation", ""))
        self.has_other_validation = bool(validation and self.validation) and validation != self.validation
        if not self.has_other_validation:  # else they can't be compared
            self.best_ap = float(checkpoint.meta.get("best_ap", -1.0))
            self.start_ap = float(checkpoint.meta.get("start_ap", -1.0))
        self.validation = self.validation or validation
        self._restore_average(checkpoint, source)
        if checkpoint.optimizer is None:
            log.info("The snapshot holds no optimiser state: starting with a fresh optimiser.")
        else:
            restore_optimizer(self.optimizer, checkpoint.optimizer, source)
            if checkpoint.extra.get("scaler"):  # empty where training needed none
                self.scaler.load_state_dict(checkpoint.extra["scaler"])
        if "random" in checkpoint.extra:
            restore_random_states(checkpoint.extra["random"], self.device, str(source))

    def _restore_average(self, checkpoint: Checkpoint, source: Path) -> None:
        saved = checkpoint.extra.get("average")
        if saved is None:
            return
        steps, stepped = (saved.get(key) if isinstance(saved, dict) else None for key in ("steps", "stepped"))
        if not isinstance(steps, int) or not isinstance(stepped, dict):
            raise FacekitError(f"{source}: its averaged weights are damaged. Take the previous epoch's checkpoint.")
        if self.average is not None:
            self.average.network.load_state_dict(self.network.state_dict())
            self.average.steps = steps
            self._restore_start(saved.get("start"), source)
        load_state(self.network, stepped, str(source))

    def _restore_start(self, saved: dict[str, torch.Tensor] | None, source: Path) -> None:
        assert self.average is not None
        if self.average.start and saved is None:
            log.warning(
                "%s holds no weights that its run started from: training.start_share keeps a part of those that it "
                "goes on from.", source,
            )  # fmt: skip
        for name, value in self.average.start.items():
            value.copy_(value if saved is None else saved[name])


def settings_of(checkpoint: Checkpoint | None) -> dict[str, Any]:
    """The settings that it was saved with; empty where it holds none."""
    settings = checkpoint.meta.get("training") if checkpoint is not None else None
    if not isinstance(settings, dict) or not all(
        isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 for value in settings.values()
    ):
        return {}
    return settings


def resumed_progress(checkpoint: Checkpoint, settings: dict[str, Any], last_epoch: int, source: Path) -> Progress:
    """Where training goes on; a warning for each setting that has changed."""
    before, epoch_length = settings_of(checkpoint), settings["epoch_length"]
    for name, value in before.items():
        if settings.get(name) != value:
            log.warning(
                "%s was trained with %s %s, and this run has %s: its weights won't be an uninterrupted run's.",
                source, name.replace("_", " "), value, settings.get(name),
            )  # fmt: skip
    done = checkpoint.epoch_iteration
    if {"batch_size", "processes"} <= set(before):  # the same pictures, in steps of another size perhaps
        pictures = done * before["batch_size"] * before["processes"]
        done = pictures // (settings["batch_size"] * settings["processes"])
    # An imported snapshot knows its epoch only: its warm-up is long over.
    iteration = checkpoint.meta["iteration"] or checkpoint.epoch * epoch_length
    return Progress(checkpoint.epoch, last_epoch, iteration, min(done, epoch_length))
