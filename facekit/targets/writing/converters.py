"""Converters that are programs of their own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from facekit.base.reading import shown
from facekit.errors import FacekitError

TIMEOUT_S = 1800.0


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
