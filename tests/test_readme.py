"""The README's commands run as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml


def block(readme: str, name: str) -> str:
    match = re.search(rf"<!-- tested: {name} -->\n```[a-z]+\n(.*?)```", readme, re.DOTALL)
    assert match, f"no block {name!r} in the README"
    return match[1]


def in_venv() -> dict[str, str]:
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def test_first_look_finds_the_face(project_dir: Path, tmp_path: Path) -> None:
    command = block((project_dir / "README.md").read_text(), "first look").replace(
        " faces.jpg", f" {tmp_path}/faces.jpg"
    )
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command], cwd=project_dir, env=in_venv(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "astronaut.jpg: 1 faces in" in done.stderr
    drawn, plain = cv2.imread(str(tmp_path / "faces.jpg")), cv2.imread(str(project_dir / "data/demo/astronaut.jpg"))
    changed_y, changed_x = np.nonzero(np.abs(drawn.astype(int) - plain).max(axis=2) > 60)
    # Her face, as measured in the picture, the score above it, and nothing far from it.
    assert 165 < changed_x.min() < 195 and 255 < changed_x.max() < 285
    assert 30 < changed_y.min() < 100 and 160 < changed_y.max() < 195


def test_python_lines(project_dir: Path) -> None:
    code = block((project_dir / "README.md").read_text(), "python")
    done = subprocess.run([sys.executable, "-c", code], cwd=project_dir, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"[0-9]\.?[0-9]*", done.stdout)) >= 15


def test_walkthrough_raises_ap(project_dir: Path, shared_dir: Path, tmp_path: Path) -> None:
    commands = block((project_dir / "README.md").read_text(), "walkthrough")
    environment = {
        **in_venv(),
        "AIRPORT": str(shared_dir / "data" / "airport"),
        "IR": str(shared_dir / "weights" / "openvino" / "face-detection-0200.xml"),
        "WORK_DIR": str(tmp_path / "my_model"),
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands], cwd=project_dir, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Warning" not in done.stderr and "deprecated" not in done.stderr.lower()

    def ap(name: str) -> float:
        metrics = yaml.safe_load((tmp_path / "my_model" / name).read_text())["metrics"]
        return next(metric["value"] for metric in metrics if metric["key"] == "ap")

    assert ap("metrics_after.yaml") > ap("metrics_before.yaml") + 2
    for made in ("outputs/latest.pth", "export/model.onnx", "compressed/model.bin", "found/image_000000.jpg"):
        assert (tmp_path / "my_model" / made).is_file()


@pytest.mark.parametrize("script", ["tools/demo.sh", "tools/test.sh", "init_venv.sh", ".ci/run"])
def test_shell_scripts_parse(project_dir: Path, script: str) -> None:
    subprocess.run(["bash", "-n", script], cwd=project_dir, check=True)


@pytest.mark.parametrize(
    ("function", "path"), [("page", "model_templates/face-detection/README.md"), ("readme", "README.md")]
)
def test_zoo_tables_are_the_templates(project_dir: Path, function: str, path: str) -> None:
    code = f"import runpy; print(runpy.run_path('tools/zoo_table.py')['{function}'](), end='')"
    done = subprocess.run([sys.executable, "-c", code], cwd=project_dir, capture_output=True, text=True, check=True)
    assert done.stdout == (project_dir / path).read_text()
