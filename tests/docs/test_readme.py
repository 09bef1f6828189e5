"""The README fits on a screen, its tree is the tree, its table is the templates'."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest


def test_fits_on_one_screen(project_dir: Path) -> None:
    assert (project_dir / "README.md").stat().st_size <= 8192


def test_tree_is_the_tree(project_dir: Path) -> None:
    listed = re.search(r"## Where things are\n\n```text\n(.*?)```", (project_dir / "README.md").read_text(), re.DOTALL)
    assert listed
    top, inner = set(), set()
    for line in listed[1].splitlines():
        names = re.match(r" *((?:[a-z_]+(?:/|\.py)(?: {1,2}|$))+)", line)
        assert names, line
        (inner if line.startswith(" ") else top).update(names[1].split())
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    files = subprocess.run(command, cwd=project_dir, capture_output=True, text=True, check=True).stdout.splitlines()
    kept = [Path(file) for file in files if (project_dir / file).is_file()]
    assert top == {f"{file.parts[0]}/" for file in kept if len(file.parts) > 1 and not file.parts[0].startswith(".")}
    within = {file.relative_to("facekit") for file in kept if file.parts[0] == "facekit"}
    folders = {f"{file.parts[0]}/" for file in within if len(file.parts) > 1}
    modules = {file.name for file in within if len(file.parts) == 1 and file.suffix == ".py" and file.name[0] != "_"}
    assert inner == folders | modules


@pytest.mark.parametrize(
    ("function", "path"),
    [
        ("zoo_page", "docs/zoo.md"),
        ("folder_page", "model_templates/face-detection/README.md"),
        ("readme", "README.md"),
    ],
)
def test_zoo_tables_are_the_templates(project_dir: Path, function: str, path: str) -> None:
    code = f"import runpy; print(runpy.run_path('tools/zoo_table.py')['{function}'](), end='')"
    done = subprocess.run([sys.executable, "-c", code], cwd=project_dir, capture_output=True, text=True, check=True)
    assert done.stdout == (project_dir / path).read_text()


@pytest.mark.parametrize("script", ["tools/demo.sh", "tools/test.sh", "init_venv.sh", ".ci/run"])
def test_shell_scripts_parse(project_dir: Path, script: str) -> None:
    subprocess.run(["bash", "-n", script], cwd=project_dir, check=True)
