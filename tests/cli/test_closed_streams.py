"""Standard streams may be closed, as those of daemons are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    line = f"exec {sys.executable} -m facekit {command}"
    return subprocess.run(["sh", "-c", line], cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((32, 32, 3), np.uint8))
    return tmp_path


@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-"])
def test_a_command_does_its_work(folder: Path, closed: str) -> None:
    done = run(f"detect a.png --jsonl a.jsonl {closed}", folder)
    assert (done.returncode, done.stdout) == (0, "")
    assert (folder / "a.jsonl").read_text().count("\n") == 1
    assert run(f"detect a.png {closed}", folder).returncode == 0


def test_nothing_comes_by_standard_input(folder: Path) -> None:
    done = run("detect - <&-", folder)
    assert done.returncode != 0 and "the file is empty" in done.stdout and "Traceback" not in done.stderr
