from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def find_tests(monkeypatch: pytest.MonkeyPatch, project_dir: Path) -> None:
    """Test files that start themselves as processes of their own find `tests.` there, too."""
    monkeypatch.setenv("PYTHONPATH", str(project_dir))
