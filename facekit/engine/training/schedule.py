"""Learning rate over the course of training."""

from __future__ import annotations

import math
from dataclasses import dataclass

from facekit.template import StepDecay, TrainingSettings


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
        return rate * _warmup(iteration, self.warmup_iterations, self.warmup_start)


@dataclass(frozen=True)
class CosineSchedule:
    """Linear warm-up, the full rate for as long as it is held, half a cosine down to the end, then a constant: the
    final rate unless the user says else.

    Loshchilov and Hutter, SGDR, ICLR 2017, equation 5, without restarts.
    """

    base_learning_rate: float
    warmup_iterations: int
    warmup_start: float
    final_factor: float
    end_iteration: int  # at which the rate is the final one
    rate_after_end: float | None
    held: float = 0.0  # the part of the iterations up to the end, in 0..1, before the rate falls

    def __call__(self, epoch: int, iteration: int) -> float:
        """As of StepSchedule; iterations alone decide."""
        if iteration >= self.end_iteration:
            return self.rate_after_end or self.base_learning_rate * self.final_factor
        if iteration < self.warmup_iterations:
            return self.base_learning_rate * _warmup(iteration, self.warmup_iterations, self.warmup_start)
        start = max(self.warmup_iterations, min(round(self.held * self.end_iteration), self.end_iteration - 1))
        done = max(0, iteration - start) / (self.end_iteration - start)
        return self.base_learning_rate * (
            self.final_factor + (1 - self.final_factor) * (1 + math.cos(math.pi * done)) / 2
        )


def _warmup(iteration: int, iterations: int, start: float) -> float:
    return start + (1 - start) * iteration / iterations if iteration < iterations else 1.0


def make_schedule(
    settings: TrainingSettings,
    base_learning_rate: float | None,
    total_iterations: int,
    started: dict[str, int],
) -> StepSchedule | CosineSchedule:
    """The template's schedule; a base_learning_rate that the user gave replaces the template's, and is itself the rate
    beyond the schedule's end (the template's last epoch, or the cosine's), where nothing is left to scale it. Warm-up
    takes at most a tenth of the run, or few pictures would never leave it.

    started: what schedule_lengths() gave when the run started: a resumed run keeps it, whatever --epochs is.
    """
    rate = base_learning_rate or settings.base_learning_rate
    warmup = started.get("warmup_iterations", min(settings.warmup_iterations, total_iterations // 10))
    if isinstance(settings.schedule, StepDecay):
        return StepSchedule(
            rate, warmup, settings.warmup_start, settings.schedule.milestones, settings.schedule.factor,
            settings.epochs, base_learning_rate,
        )  # fmt: skip
    end = started.get("cosine_iterations", total_iterations)
    return CosineSchedule(
        rate, warmup, settings.warmup_start, settings.schedule.final_factor, end, base_learning_rate,
        settings.schedule.held,
    )  # fmt: skip


def schedule_lengths(schedule: StepSchedule | CosineSchedule) -> dict[str, int]:
    """What of the schedule the length of the run decided when it started."""
    settled = {"warmup_iterations": schedule.warmup_iterations}
    if isinstance(schedule, CosineSchedule):
        settled["cosine_iterations"] = schedule.end_iteration
    return settled
