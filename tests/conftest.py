"""Fixtures that several test files use."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def project_dir() -> Path:
    return PROJECT


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Real pictures, weights and reference figures; tests that need them are skipped without."""
    folder = Path(os.environ.get("FACEKIT_SHARED", PROJECT.parent / "shared"))
    if not (folder / "weights").is_dir():
        pytest.skip(f"needs the shared pictures and weights ({folder} is absent; set FACEKIT_SHARED)")
    return folder


@pytest.fixture(scope="session")
def drawn_weights() -> Path:
    """A yunet-n that finds the faces that tools/draw_pictures.py draws."""
    return PROJECT / "data" / "demo" / "yunet-n-drawn.pth"


@pytest.fixture(scope="session")
def drawn_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve drawn pictures: images/*.jpg and annotations.json."""
    folder = tmp_path_factory.mktemp("drawn")
    command = [sys.executable, PROJECT / "tools" / "draw_pictures.py", folder, "--pictures", "12", "--seed", "5"]
    subprocess.run(command, check=True, capture_output=True)
    return folder
