"""Progress with an ETA: a bar on a terminal, a line now and then in a log file."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm import tqdm

LINE_INTERVAL_S = 15.0  # between two lines in a log file


class _Lines:
    """Turns a bar's redrawing into lines."""

    def write(self, text: str) -> None:
        if line := text.strip():
            sys.stderr.write(line + "\n")

    def flush(self) -> None:
        sys.stderr.flush()


def progress_bar(
    iterable: Iterable[Any] | None = None, hidden: bool = False, delay_s: float = 0, **options: Any
) -> tqdm[Any]:
    """tqdm with our habits, shown on a terminal after delay_s; `options` are tqdm's (desc, unit, total, ...)."""
    from tqdm import tqdm  # here: a single picture shows no progress, and need not wait for it

    if sys.stderr.isatty():
        return tqdm(iterable, disable=hidden, dynamic_ncols=True, delay=delay_s, **options)
    lines: Any = _Lines()
    return tqdm(
        iterable, disable=hidden, file=lines, mininterval=LINE_INTERVAL_S,
        maxinterval=LINE_INTERVAL_S, delay=LINE_INTERVAL_S, leave=False, miniters=1,
        ncols=160, bar_format="{desc}: {n_fmt}/{total_fmt} {elapsed}<{remaining} {rate_fmt}{postfix}", **options,
    )  # fmt: skip
