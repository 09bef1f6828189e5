"""Where this facekit lies: its files are found through the package, in a checkout as from a wheel."""

from __future__ import annotations

from pathlib import Path

import facekit

TEMPLATES = Path("model_templates") / "face-detection"
DEMO = Path("data") / "demo"


def package_dir() -> Path:
    """The folder of the package facekit."""
    return Path(facekit.__path__[0]).resolve()


def templates_dir() -> Path:
    """The folder with a folder a template: inside the package of a wheel, beside the package in a checkout."""
    inside = package_dir() / TEMPLATES
    return inside if inside.is_dir() else package_dir().parent / TEMPLATES


def demo_dir() -> Path:
    """The folder with the pictures and weights of demonstrations: in the same places."""
    inside = package_dir() / DEMO
    return inside if inside.is_dir() else package_dir().parent / DEMO


def checkout_dir() -> Path | None:
    """The checkout that this facekit runs from; None for one that was installed from a wheel."""
    folder = package_dir().parent
    is_checkout = not (package_dir() / TEMPLATES).is_dir() and (folder / TEMPLATES).is_dir()
    return folder if is_checkout and (folder / "pyproject.toml").is_file() else None
