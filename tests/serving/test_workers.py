from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor

from facekit.serving.workers import noting_signals


def test_in_a_thread_signals_are_left_alone() -> None:
    """Python allows no handlers there."""

    def handlers() -> list[object]:
        with noting_signals():
            return [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]

    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(handlers).result() == before
    noted = handlers()
    assert all(handler not in before for handler in noted)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
