"""Learning rate over the course of training."""

from __future__ import annotations

from dataclasses import dataclass

from facekit.template import TrainingSettings


@dataclass(frozen=True)
class StepSchedule:
    """Linear warm-up, then steps at epochs, then a constant: the last step's rate unless the user says else."""

    base_learning_rate: float
    warmup_iterations: int
    warmup_start: float
    milestones: tuple[int, ...]
    factor: float
    end_epoch: int  # the template's last epoch
    rate_after_end: float | None  # for fine-tuning beyond it; None: the schedule's last rate

    def __call__(self, epoch: int, iteration: int) -> float:
        """The rate for the 0-based iteration (counted from the start of training) within the 0-based epoch."""
        if epoch >= self.end_epoch and self.rate_after_end is not None:
            return self.rate_after_end
        rate = self.base_learning_rate * self.factor ** sum(epoch >= milestone for milestone in self.milestones)
        if iteration < self.warmup_iterations:
            rate *= self.warmup_start + (1 - self.warmup_start) * iteration / self.warmup_iterations
        return rate


def step_schedule(settings: TrainingSettings, base_learning_rate: float | None, total_iterations: int) -> StepSchedule:
    """The template's schedule; a base_learning_rate that the user gave replaces the template's, and is itself the rate
    beyond the template's last epoch, where no schedule is left to scale it. Warm-up takes at most a tenth of the run,
    or few pictures would never leave it; a resumed run keeps the one that it started with, whatever --epochs is."""
    return StepSchedule(
        base_learning_rate=base_learning_rate or settings.base_learning_rate,
        warmup_iterations=min(settings.warmup_iterations, total_iterations // 10),
        warmup_start=settings.warmup_start,
        milestones=settings.milestones,
        factor=settings.milestone_factor,
        end_epoch=settings.epochs,
        rate_after_end=base_learning_rate,
    )
