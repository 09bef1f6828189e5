"""What somebody may have meant who wrote a name that is none."""

from __future__ import annotations

import difflib
import itertools
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

MOST_NAMES, MOST_LETTERS = 2000, 100  # that are compared, for a hint may not take longer than the command


def did_you_mean_path(path: Path) -> str:
    """The nearest name that is there, as a sentence with a space before it; empty where none is near."""
    folder = next((parent for parent in path.parents if parent.is_dir()), None)
    if folder is None:
        return ""
    with suppress(OSError):
        with os.scandir(folder) as entries:
            names = [entry.name for entry in itertools.islice(entries, MOST_NAMES)]
        return did_you_mean(path.relative_to(folder).parts[0], names, before=folder)
    return ""


def did_you_mean(name: str, known: Iterable[str], before: Path | None = None) -> str:
    """The nearest of the known names, as did_you_mean_path; `before`: the folder that they are in."""
    near = difflib.get_close_matches(name[:MOST_LETTERS], list(known), n=1)
    return f" Did you mean {near[0] if before is None else before / near[0]}?" if near else ""
