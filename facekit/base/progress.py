"""Progress with an ETA: a bar on a terminal, a line now and then in a log file."""

from __future__ import annotations

import sys
import threading
import time
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm import tqdm

LINE_INTERVAL_S = 15.0  # between two lines in a log file: long trainings write many
SIGN_INTERVAL_S = 2.0  # the longest silence of a command that somebody waits for


class _Signs:
    """Of a command whose bars are to show a sign of life every SIGN_INTERVAL_S, also within a long step."""

    def __init__(self) -> None:
        self.bars: list[weakref.ref[tqdm[Any]]] = []  # the newest last
        self.last_s = time.monotonic()  # when something was shown

    def newest(self) -> tqdm[Any] | None:
        self.bars = [bar for bar in self.bars if (live := bar()) is not None and not live.disable]  # closed ones are
        return self.bars[-1]() if self.bars else None

    def keep_showing(self, ended: threading.Event) -> None:
        while not ended.wait(SIGN_INTERVAL_S / 10):
            bar = self.newest()
            if bar is not None and time.monotonic() - self.last_s > 0.9 * SIGN_INTERVAL_S:
                self.last_s = time.monotonic()
                bar.refresh()


_signs: ContextVar[_Signs | None] = ContextVar("signs", default=None)


class _Lines:
    """Turns a bar's redrawing into lines; none where there is no standard error, as in a daemon."""

    def __init__(self, signs: _Signs | None) -> None:
        self.signs = signs

    def write(self, text: str) -> None:
        if sys.stderr is not None and (line := text.strip()):
            sys.stderr.write(line + "\n")
            if self.signs is not None:
                self.signs.last_s = time.monotonic()

    def flush(self) -> None:
        if sys.stderr is not None:
            sys.stderr.flush()


def progress_bar(
    iterable: Iterable[Any] | None = None, hidden: bool = False, delay_s: float = 0, **options: Any
) -> tqdm[Any]:
    """tqdm with our habits, shown on a terminal after delay_s; `options` are tqdm's (desc, unit, total, ...)."""
    from tqdm import tqdm  # here: a single picture shows no progress, and need not wait for it

    signs = _signs.get()
    if sys.stderr is not None and sys.stderr.isatty():
        bar = tqdm(iterable, disable=hidden, dynamic_ncols=True, delay=delay_s, **options)
    else:
        lines: Any = _Lines(signs)
        interval_s = LINE_INTERVAL_S if signs is None else SIGN_INTERVAL_S
        bar = tqdm(
            iterable, disable=hidden, file=lines, mininterval=interval_s,
            maxinterval=interval_s, delay=interval_s, leave=False, miniters=1,
            ncols=160, bar_format="{desc}: {n_fmt}/{total_fmt} {elapsed}<{remaining} {rate_fmt}{postfix}", **options,
        )  # fmt: skip
    if signs is not None:
        signs.last_s = time.monotonic()
        signs.bars.append(weakref.ref(bar))
    return bar


@contextmanager
def signs_of_life() -> Iterator[None]:
    """Bars within show something every SIGN_INTERVAL_S, in a log file too, however long a step takes."""
    signs, ended = _Signs(), threading.Event()
    shower = threading.Thread(target=signs.keep_showing, args=(ended,), daemon=True)
    before = _signs.set(signs)
    shower.start()
    try:
        yield
    finally:
        _signs.reset(before)
        ended.set()
        shower.join()


@contextmanager
def working(what: str) -> Iterator[None]:
    """A sign of life every SIGN_INTERVAL_S while something runs that doesn't say how far it is: what, and for how long.

    On a terminal the line is written over; not to be used around a bar.
    """
    screen = sys.stderr  # which a converter's is taken away from
    if screen is None:
        yield
        return
    ended, started, is_terminal = threading.Event(), time.monotonic(), screen.isatty()

    def tell() -> None:
        while not ended.wait(SIGN_INTERVAL_S):
            text = f"{what} ... {time.monotonic() - started:.0f} s"
            screen.write(f"\r{text}\033[K\r" if is_terminal else f"{text}\n")
            screen.flush()
        if is_terminal:
            screen.write("\033[K")
            screen.flush()

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        ended.set()
        teller.join()
