"""The README's commands run as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml


def block(readme: str, name: str) -> str:
    match = re.search(rf"<!-- tested: {name} -->\n```bash\n(.*?)```", readme, re.DOTALL)
    assert match, f"no block {name!r} in the README"
    return match[1]


def test_walkthrough_raises_ap(project_dir: Path, shared_dir: Path, tmp_path: Path) -> None:
    commands = block((project_dir / "README.md").read_text(), "walkthrough")
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
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
