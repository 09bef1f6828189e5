"""A list, done in shards by workers; its results come back in the list's order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Generic, TypeVar

from facekit.base.progress import progress_bar
from facekit.cluster.pool import Workers, over_workers, ray_of
from facekit.cluster.trials import Trial
from facekit.machine.signals import StopSignals

T = TypeVar("T")
R = TypeVar("R")
Do = Callable[[Sequence[T]], Sequence[R]]  # a result an item


@dataclass(frozen=True)
class _Numbered(Generic[T, R]):
    """Makes the job, once a worker: a shard comes with the number of its first item, and goes back with it."""

    make: Callable[[], Do[T, R]]

    def __call__(self) -> Callable[[tuple[int, Sequence[T]], Trial], tuple[int, Sequence[R]]]:
        do = self.make()
        return lambda item, _: (item[0], do(item[1]))


def mapped(
    make: Callable[[], Do[T, R]], items: Sequence[T], workers: Workers, shard_size: int, description: str
) -> tuple[list[R | None], int]:
    """The result of each item, None for those that were not reached before a signal asked for the end, and that signal.

    make: called once a worker; what it makes is called with some of the items. Raises the FacekitError that it raises.
    """
    results: list[R | None] = [None] * len(items)
    shards = [(first, items[first : first + shard_size]) for first in range(0, len(items), shard_size)]
    bar = progress_bar(None, total=len(items), desc=description, unit="picture")
    with ray_of(workers) as count, StopSignals() as stop, bar:
        done = over_workers(_Numbered(make), shards, workers, count)
        with closing(done):
            for first, found in done:
                results[first : first + len(found)] = found
                bar.update(len(found))
                if stop.received:
                    break
        return results, stop.received
