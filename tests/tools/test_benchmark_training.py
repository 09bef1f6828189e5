"""The tools that print figures run; what they print is for people."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_prints_the_three_rates_and_their_ratios(project_dir: Path, drawn_dir: Path) -> None:
    command = [
        sys.executable, project_dir / "tools" / "benchmark_training.py", "--template", "yunet-n", "--size", "96x96",
        "--batch", "2", "--workers", "0", "--iterations", "1", "--rounds", "1",
        "--ann-file", drawn_dir / "annotations.json", "--data-root", drawn_dir,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    for word in ("data", "model", "both"):
        assert word in done.stdout
