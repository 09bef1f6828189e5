"""What the loop measures between two looks at the losses."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor

from facekit.machine.reductions import mean_over_processes

T = TypeVar("T")


class Meter:
    """Losses of the steps since the last look, kept on the device that computed them: each look waits for it."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._started = time.perf_counter()
        self._waited = 0.0
        self._images = 0
        self._steps: list[dict[str, Tensor]] = []

    def timed(self, batches: Iterable[T]) -> Iterator[T]:
        """The batches; the time that they are waited for counts as such."""
        iterator = iter(batches)
        while True:
            started = time.perf_counter()
            try:
                batch = next(iterator)
            except StopIteration:
                return
            finally:
                self._waited += time.perf_counter() - started
            yield batch

    def add(self, losses: dict[str, Tensor], images: int) -> None:
        """Notes a step's losses by name and its number of pictures, those of all processes."""
        self._steps.append({name: value.detach() for name, value in losses.items()})
        self._images += images

    def first_not_finite(self) -> tuple[int, dict[str, float]] | None:
        """Of the steps since the last look, the first one with a loss that is no finite number: how many steps back
        it lies (0: the newest) and its losses by name."""
        totals = torch.stack([torch.stack(list(losses.values())).sum() for losses in self._steps])
        for number, is_finite in enumerate(totals.isfinite().tolist()):
            if not is_finite:
                losses = {name: float(value) for name, value in self._steps[number].items()}
                return len(self._steps) - 1 - number, losses
        return None

    def read(self) -> dict[str, float]:
        """Means since the last look, over all processes, every one of which must ask; and starts anew. loss, loss_NAME,
        images_per_s, data_wait (the share of the time, 0..1, that this process spent waiting for pictures)."""
        elapsed = time.perf_counter() - self._started
        steps = torch.stack([torch.stack(list(losses.values())) for losses in self._steps])
        means = dict(zip(self._steps[0], mean_over_processes(steps.mean(dim=0)).tolist(), strict=True))
        record = {
            "loss": sum(means.values()),
            **{f"loss_{name}": value for name, value in means.items()},
            "images_per_s": self._images / elapsed,
            "data_wait": min(1.0, self._waited / elapsed),
        }
        self._reset()
        return record


def one_line(record: dict[str, Any]) -> str:
    """A record of the journal for the progress line."""
    parts = [f"{key.removeprefix('loss_')} {value:.3f}" for key, value in record.items() if key.startswith("loss")]
    left = timedelta(seconds=round(record["eta_s"]))
    return (
        f"{' '.join(parts)} lr {record['learning_rate']:.2g} {record['images_per_s']:.1f} img/s "
        f"data {record['data_wait']:.0%} run {left} left"
    )
