"""What docs/cluster.md shows of other systems is at least whole, and of the versions that are pinned."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import yaml

from facekit.cli import cli


def blocks(project_dir: Path, kind: str) -> list[str]:
    page = (project_dir / "docs" / "cluster.md").read_text(encoding="utf-8")
    return re.findall(rf"```{kind}\n(.*?)```", page, re.DOTALL)


def check_flags(command: str) -> None:
    """A command line of facekit's has no flag that its command doesn't have."""
    words = shlex.split(command.replace("$", ""), comments=True)[1:]
    made: click.Command = cli
    while isinstance(made, click.Group):
        inner = made.get_command(click.Context(made), words.pop(0))
        assert inner is not None, command
        made = inner
    known = {flag for parameter in made.params for flag in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known, command


def test_kuberay(project_dir: Path) -> None:
    (text,) = blocks(project_dir, "yaml")
    job = yaml.safe_load(text)["spec"]
    pins = (project_dir / "requirements.txt").read_text(encoding="utf-8")
    assert f"ray[data]=={job['rayClusterSpec']['rayVersion']}\n" in pins
    check_flags(job["entrypoint"])
    (group,) = job["rayClusterSpec"]["workerGroupSpecs"]
    assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


def test_commands(project_dir: Path) -> None:
    lines = [line for text in blocks(project_dir, "bash") for line in text.splitlines() if line.startswith("facekit ")]
    assert len(lines) >= 7
    for line in lines:
        check_flags(line)


def test_the_plan_is_the_tool_s(project_dir: Path) -> None:
    page = (project_dir / "docs" / "cluster.md").read_text(encoding="utf-8")
    match = re.search(r"<!-- plan: (.*?) -->\n(\|.*?)\n\n", page, re.DOTALL)
    assert match
    command = [sys.executable, project_dir / "tools" / "plan_cluster.py", *match[1].split()]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == match[2]


def test_scripts_are_bash(project_dir: Path) -> None:
    for text in blocks(project_dir, "bash"):
        subprocess.run(["bash", "-n"], input=text, text=True, check=True)
