"""What pyproject.toml can't say: model_templates/ and the portrait stand beside the package, and inside it once
it is installed."""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

TEMPLATES = Path("model_templates")
PORTRAIT = Path("data") / "demo" / "astronaut.jpg"  # what exports are compared on


class BuildWithTemplates(build_py):
    def run(self) -> None:
        super().run()
        if self.editable_mode:  # which finds them beside the package
            return
        target = Path(self.build_lib) / "facekit" / TEMPLATES
        if target.exists():  # of an earlier build: what is gone now must not come along
            shutil.rmtree(target)
        for source in sorted(TEMPLATES.rglob("*")):
            if source.suffix in (".yaml", ".md", ".svg") or source.stem.startswith("facekit"):
                place = target / source.relative_to(TEMPLATES)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, place)
        portrait = Path(self.build_lib) / "facekit" / PORTRAIT
        portrait.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(PORTRAIT, portrait)


setup(cmdclass={"build_py": BuildWithTemplates})
