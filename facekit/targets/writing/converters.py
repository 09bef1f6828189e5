"""Converters that are programs or packages of their own."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import subprocess
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from facekit.base.reading import shown
from facekit.errors import FacekitError

TIMEOUT_S = 1800.0


@contextlib.contextmanager
def quiet_converter() -> Iterator[None]:
    """Keeps what a package tells of itself, its bars and its warnings off the user's screen, and a screen of its own
    off the root logger, where our lines would come out again."""
    root = logging.root
    disabled, handlers, level = root.manager.disable, root.handlers[:], root.level
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        root.handlers[:] = handlers
        root.setLevel(level)


def run_converter(
    command: Sequence[str | Path], folder: Path, what: str, environment: Mapping[str, str] | None = None
) -> str:
    """Runs it in the folder, and returns what it printed. Raises FacekitError, with its last words, where it fails."""
    try:
        done = subprocess.run(
            [str(part) for part in command], cwd=folder, capture_output=True, text=True, errors="replace", check=False,
            timeout=TIMEOUT_S, stdin=subprocess.DEVNULL, env={**os.environ, **(environment or {})},
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FacekitError(f"{what}: {command[0]} can't be run ({error}). Install it again.") from error
    text = done.stdout + done.stderr
    if done.returncode != 0:
        last = [line for line in text.splitlines() if line.strip()][-1:] or ["nothing was said"]
        raise FacekitError(f"{what}: failed with exit code {done.returncode}: {shown(last[0], 300)}")
    return text
