"""Early stopping: when a run's AP gains no more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from facekit.template import EarlyStopping, Template
from facekit.weights.checkpoint import Checkpoint


@dataclass
class EarlyStopper:
    """How long ago the last gain was."""

    settings: EarlyStopping
    ap: float = -1.0  # per cent, of the last gain; -1 before the first evaluation
    gain_epoch: int = 0  # epochs that were finished then
    epoch: int = 0  # epochs that were finished at the last evaluation

    def note(self, epoch: int, ap: float) -> None:
        """An evaluation behind that many epochs."""
        self.epoch = epoch
        if self.ap < 0 or (ap > self.ap and ap >= self.ap + self.settings.least_gain):
            self.ap, self.gain_epoch = float(ap), epoch

    @property
    def is_over(self) -> bool:
        """Whether the run should end."""
        return self.epoch - self.gain_epoch >= self.settings.patience

    def message(self) -> str:
        return (
            f"Stopped early behind epoch {self.epoch}: AP has not gained {self.settings.least_gain:g} points on epoch "
            f"{self.gain_epoch}'s {self.ap:.2f} % in {self.settings.patience} epochs. To go on, raise "
            f"training.early_stopping.patience and give `resume_from`."
        )

    def state(self) -> dict[str, Any]:
        """Plain data for a checkpoint."""
        return {"ap": self.ap, "gain_epoch": self.gain_epoch, "epoch": self.epoch}


def early_stopper_of(template: Template, resumed: Checkpoint | None) -> EarlyStopper | None:
    """Of a run that starts or goes on from a checkpoint; None where the template stops nothing early."""
    settings = template.training.early_stopping
    if settings is None:
        return None
    saved = resumed.meta.get("stagnation") if resumed is not None else None
    if (
        isinstance(saved, dict)
        and isinstance(saved.get("ap"), float)
        and all(isinstance(saved.get(name), int) for name in ("gain_epoch", "epoch"))
    ):
        return EarlyStopper(settings, saved["ap"], saved["gain_epoch"], saved["epoch"])
    return EarlyStopper(settings)
