"""Fixtures that several test files use."""

from __future__ import annotations

import os
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
