"""The Dockerfile, as far as it can be checked without Docker."""

from __future__ import annotations

import shlex
from pathlib import Path

import click
import pytest

from facekit.cli import cli


@pytest.fixture(scope="module")
def lines(project_dir: Path) -> list[str]:
    text = (project_dir / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def test_it_does_not_run_as_root(lines: list[str]) -> None:
    users = [line.split()[1] for line in lines if line.startswith("USER")]
    assert users and users[-1].isdigit() and int(users[-1]) > 0
    assert lines.index(f"USER {users[-1]}") < next(i for i, line in enumerate(lines) if line.startswith("ENTRYPOINT"))


def test_its_command_exists(lines: list[str]) -> None:
    entry = next(line for line in lines if line.startswith("ENTRYPOINT")).removeprefix("ENTRYPOINT ")
    words = list(shlex.split(entry.strip("[]").replace(",", " ")))
    assert words[:2] == ["facekit", "serve"]
    command = cli.commands["serve"]
    assert isinstance(command, click.Command)
    known = {name for option in command.params for name in option.opts}
    assert {word for word in words if word.startswith("--")} <= known


def test_it_is_built_from_the_package(lines: list[str], project_dir: Path) -> None:
    text = "\n".join(lines)
    assert "[serve]" in text and "pip wheel" in text
    copied = [word for line in lines if line.startswith("COPY") and "--from" not in line for word in line.split()[1:-1]]
    assert copied and all((project_dir / name).exists() for name in copied)
    assert "/healthz" in next(line for line in lines if line.startswith("HEALTHCHECK"))
