"""SIGTERM, SIGINT and a closed terminal's SIGHUP ask a run to save and end; a second one of the first two ends it at
once."""

from __future__ import annotations

import multiprocessing
import os
import signal
import stat
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

STOPPING = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))


class StopSignals:
    """While entered, the first of the signals is only noted. Does nothing outside of the main thread, where
    Python allows no handlers, and leaves a signal alone that the starter of the process wants ignored (nohup)."""

    def __init__(self) -> None:
        self.received = 0  # the signal's number
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in STOPPING:
                before = signal.getsignal(number)
                # A program that facekit is a part of may read its settings anew at a SIGHUP.
                is_others = number not in (signal.SIGINT, signal.SIGTERM) and before is not signal.SIG_DFL
                if before is not signal.SIG_IGN and not is_others:
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number not in (signal.SIGINT, signal.SIGTERM):
            _leave_terminal()
            self.received = self.received or number  # the shell and the system may both send it
            return
        if self.received:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.received = number
        # Not by logging: its streams may be in the middle of a line.
        os.write(2, b"\nStopping after this step; once more stops at once.\n")


def _leave_terminal() -> None:
    """What is still written to a terminal that is gone would raise errors, in the middle of the work."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        with suppress(OSError):  # closed
            if stat.S_ISCHR(os.fstat(stream).st_mode):
                os.dup2(nowhere, stream)
    os.close(nowhere)


@contextmanager
def sigterm_unwinding() -> Generator[None, None, None]:
    """While entered, SIGTERM raises SystemExit, so that what was begun is removed as after Ctrl-C. Leaves SIGTERM to
    somebody else who handles it, and does nothing outside of the main thread."""
    is_ours = threading.current_thread() is threading.main_thread()
    if not is_ours or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)  # a second one ends it at once
        raise SystemExit(128 + number)  # no Exception: libraries catch those

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def sigterm_kept() -> Generator[None, None, None]:
    """Gives SIGTERM back to whom it had before, for the sake of packages that take it and keep it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


def shield_worker(worker: int) -> None:
    """For a process that reads data: signals to the whole group (Ctrl-C, a closed terminal, service managers, torchrun)
    reach it too, and must not end it before the step that its parent wants to finish. The parent's own SIGTERM still
    ends it."""
    for number in STOPPING:
        if number != signal.SIGTERM:
            signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # it tells who sent the signal
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_obey_parent, daemon=True).start()


def _obey_parent() -> None:
    parent = multiprocessing.parent_process()  # who asked for this process; a fork server may have started it
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid not in (os.getppid(), parent and parent.pid):
        pass
    os._exit(0)
