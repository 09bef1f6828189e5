"""Several processes that serve at one address; one that dies is replaced."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from types import FrameType
from typing import Any

from facekit.errors import FacekitError

log = logging.getLogger(__name__)

YOUNG_S = 10.0  # a worker that ends earlier can't work at all
MOST_YOUNG_DEATHS = 3


class Signals:
    """The signals that ask for an end, noted."""

    def __init__(self) -> None:
        self.received = 0  # the last one's number
        self.on_signal: Callable[[], None] = lambda: None

    def note(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        self.on_signal()


@contextmanager
def noting_signals() -> Iterator[Signals]:
    """SIGTERM and SIGINT neither end the process nor raise anything inside. Does nothing outside of the main thread,
    where Python allows no handlers."""
    signals = Signals()
    is_main = threading.current_thread() is threading.main_thread()
    taken = (signal.SIGTERM, signal.SIGINT) if is_main else ()
    before = {number: signal.signal(number, signals.note) for number in taken}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_workers(count: int, target: Callable[..., None], arguments: tuple[Any, ...], signals: Signals) -> None:
    """Runs target(*arguments) in `count` processes until a signal, which each of them is handed on.

    Raises FacekitError where workers end as soon as they are started.
    """
    spawn = multiprocessing.get_context("spawn")  # a fork would inherit the runtime's threads in any state
    workers: dict[SpawnProcess, float] = {}

    def start() -> None:
        worker = spawn.Process(target=_while_parent_lives, args=(target, arguments), name="facekit-serve")
        worker.start()
        workers[worker] = time.monotonic()
        if signals.received:  # while it was started, and not yet known to stop_all()
            worker.terminate()

    def stop_all() -> None:
        for worker in list(workers):
            if worker.is_alive():
                worker.terminate()

    signals.on_signal = stop_all
    young_deaths = 0
    for _ in range(count):
        start()
    try:
        while workers:
            wait([worker.sentinel for worker in workers], timeout=1)
            for worker in [worker for worker in workers if not worker.is_alive()]:
                lived_s = time.monotonic() - workers.pop(worker)
                if signals.received:
                    continue
                log.warning("Worker %s ended with exit code %s; another takes its place", worker.pid, worker.exitcode)
                young_deaths = young_deaths + 1 if lived_s < YOUNG_S else 0
                if young_deaths >= MOST_YOUNG_DEATHS:
                    raise FacekitError("Workers end as soon as they are started; the lines above say why.")
                start()
    finally:
        stop_all()
        for worker in workers:
            worker.join()


def _while_parent_lives(target: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    """Calls it; asks this process to end where the one that started it was killed: else it would keep the address."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
    target(*arguments)
