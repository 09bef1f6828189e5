"""Stages that work at the same time: one reads, one looks, one writes. OpenCV, FFmpeg and the runtimes let go of
Python's lock, so threads are enough, and frames are handed over as they are."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from typing import Any, Generic, TypeVar

T = TypeVar("T")
_END = object()


def in_background(items: Iterator[T], ahead: int, drops: Callable[[], None] | None = None) -> Generator[T, None, None]:
    """The items, made in a thread, at most `ahead` of them waiting. With `drops` the thread never waits: the oldest
    that waits is dropped, and drops() called. What the thread raises is raised here; closing ends it."""
    waiting: queue.Queue[Any] = queue.Queue(ahead)
    is_closed = threading.Event()

    def put(item: Any, may_drop: bool = False) -> None:
        while not is_closed.is_set():
            with suppress(queue.Full):
                waiting.put(item, timeout=0.001 if may_drop else 0.1)
                return
            if may_drop and drops:
                with suppress(queue.Empty):
                    waiting.get_nowait()
                    drops()

    def work() -> None:
        try:
            for item in items:
                put(item, may_drop=drops is not None)
                if is_closed.is_set():
                    break
            put(_END)
        except BaseException as error:
            put(error)
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                close()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while (item := waiting.get()) is not _END:
            if isinstance(item, BaseException):
                raise item
            yield item
            del item
    finally:
        is_closed.set()
        thread.join()


class Stage(Generic[T]):
    """Calls `do` for each item that is put, in a thread, in their order; at most `ahead` wait. What it raises is raised
    by the next put(), or by finish(), behind which all is done."""

    def __init__(self, do: Callable[[T], None], ahead: int) -> None:
        self._do = do
        self._waiting: queue.Queue[Any] = queue.Queue(ahead)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        while (item := self._waiting.get()) is not _END:
            if self._error is None:
                try:
                    self._do(item)
                except BaseException as error:
                    self._error = error
            del item

    def put(self, item: T) -> None:
        self._raise()
        self._waiting.put(item)

    def finish(self) -> None:
        """Waits for all that was put."""
        self._waiting.put(_END)
        self._thread.join()
        self._raise()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error
