from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_help_starts_no_server(project_dir: Path) -> None:
    command = [sys.executable, project_dir / "tools" / "verify_server.py", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0 and done.stdout.startswith("usage: verify_server.py")
