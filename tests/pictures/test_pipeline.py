from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from facekit.pictures.pipeline import Stage, in_background


def numbers(count: int, seen: list[int] | None = None) -> Iterator[int]:
    for number in range(count):
        if seen is not None:
            seen.append(number)
        yield number


def test_order_and_bound() -> None:
    made: list[int] = []
    ahead = in_background(numbers(50, made), 3)
    assert next(ahead) == 0
    time.sleep(0.1)
    assert len(made) <= 6  # one taken, three waiting, one in hand
    assert list(ahead) == list(range(1, 50))


def test_live_sources_drop_the_oldest() -> None:
    dropped: list[int] = []
    is_taken, is_over = threading.Event(), threading.Event()

    def source() -> Iterator[int]:
        yield 0
        assert is_taken.wait(10)
        yield from range(1, 100)
        is_over.set()

    live = in_background(source(), 1, lambda: dropped.append(1))
    assert next(live) == 0
    is_taken.set()
    assert is_over.wait(10)  # it never waits for us
    assert list(live) == [99]
    assert len(dropped) == 98


def test_errors_come_through() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise ValueError("here")

    ahead = in_background(broken(), 2)
    assert next(ahead) == 1
    with pytest.raises(ValueError, match="here"):
        next(ahead)


def test_closing_ends_the_thread() -> None:
    before = threading.active_count()
    ahead = in_background(numbers(10**9), 2)
    next(ahead)
    ahead.close()
    assert threading.active_count() == before


def test_stage_does_all_in_order_and_says_what_failed() -> None:
    done: list[int] = []
    stage = Stage(done.append, 2)
    for number in range(20):
        stage.put(number)
    stage.finish()
    assert done == list(range(20))

    def fail(number: int) -> None:
        raise OSError(str(number))

    broken = Stage(fail, 2)
    with pytest.raises(OSError, match="0"):
        for number in range(100):
            broken.put(number)
            time.sleep(0.001)
    with pytest.raises(OSError, match="0"):
        broken.finish()
