"""Figures of many short trainings, a line each in a file: a tool that was ended goes on where it was."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class Figures:
    """FOLDER/figures.jsonl. Several processes may add to one."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "figures.jsonl"

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.path.read_text().splitlines()] if self.path.exists() else []

    def has(self, case: NamedTuple) -> bool:
        return any(case._asdict().items() <= line.items() for line in self.lines())

    def add(self, case: NamedTuple, figures: dict[str, Any]) -> None:
        line = case._asdict() | figures
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
        print(line, flush=True)

    def groups(self, keys: Sequence[str]) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
        """The lines that are alike in these, in the order in which they came."""
        found: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
        for line in self.lines():
            found[tuple(line[key] for key in keys)].append(line)
        return found


def mean_and_spread(figures: Sequence[float | None]) -> str:
    """The mean; of several also half of their range. None: a run that diverged."""
    values = [figure for figure in figures if figure is not None]
    if len(values) < len(figures):
        return "diverged" if not values else f"{len(figures) - len(values)} of {len(figures)} diverged"
    spread = f" ± {(max(values) - min(values)) / 2:.1f}" if len(values) > 1 else ""
    return f"{np.mean(values):.1f}{spread}"
