"""The command of docs/cluster.md runs as it stands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path


def test_torchrun_on_a_cpu(project_dir: Path, drawn_dir: Path, tmp_path: Path) -> None:
    page = (project_dir / "docs" / "cluster.md").read_text(encoding="utf-8")
    match = re.search(r"<!-- tested: torchrun -->\n```bash\n(.*?)```", page, re.DOTALL)
    assert match
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(project_dir),
        "PICTURES": str(drawn_dir),
        "OUT": str(tmp_path / "out"),
    }
    done = subprocess.run(
        ["bash", "-euc", match[1]], cwd=project_dir, env=environment, capture_output=True, text=True, timeout=240,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "2 iterations each, batch 4 x 2 process(es) on cpu" in done.stderr
    assert (tmp_path / "out" / "best.pth").is_file()
