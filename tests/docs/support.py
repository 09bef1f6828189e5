"""The pages of the documentation, and the blocks of code in them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent.parent
PAGES = [PROJECT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES += [PROJECT / "model_templates" / "face-detection" / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^(?:<!-- tested: ([a-z ]+) -->\n)?```([a-z]+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def name_of(page: Path) -> str:
    return page.relative_to(PROJECT).as_posix()


def block(page: str, name: str) -> str:
    found = [text for mark, _, text in BLOCK.findall((PROJECT / page).read_text(encoding="utf-8")) if mark == name]
    assert len(found) == 1, f"{page}: {len(found)} blocks {name!r}"
    return found[0]


def run_bash(commands: str, **variables: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands], cwd=PROJECT, capture_output=True, text=True, check=False,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(PROJECT), **variables},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def run_python(code: str, folder: Path = PROJECT) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"-?[0-9]+\.?[0-9]*", text)]
