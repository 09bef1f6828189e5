from __future__ import annotations

from pathlib import Path

import pytest

import facekit
from facekit.base.installation import checkout_dir, package_dir, templates_dir


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """facekit as if it lay in site-packages."""
    package = tmp_path / "site-packages" / "facekit"
    (package / "model_templates" / "face-detection").mkdir(parents=True)
    monkeypatch.setattr(facekit, "__path__", [str(package)])
    return package


def test_in_a_checkout(project_dir: Path) -> None:
    assert package_dir() == project_dir / "facekit"
    assert checkout_dir() == project_dir
    assert (templates_dir() / "yunet-n" / "template.yaml").is_file()


def test_from_a_wheel(installed: Path) -> None:
    assert package_dir() == installed
    assert templates_dir() == installed / "model_templates" / "face-detection"
    assert checkout_dir() is None


def test_from_a_wheel_installed_into_a_checkout(installed: Path) -> None:
    """As by `pip install --target .`: the package's own templates are meant."""
    (installed.parent / "model_templates" / "face-detection").mkdir(parents=True)
    (installed.parent / "pyproject.toml").touch()
    assert templates_dir() == installed / "model_templates" / "face-detection"
    assert checkout_dir() is None
