"""Completion, tracebacks on demand, exit codes in the help, typos."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from facekit.cli import COMMANDS, cli
from tests.cli.support import run

RUNNER = "import sys; from facekit.cli import main; sys.argv[0] = 'facekit'; main()"


def completed(words: str) -> list[str]:
    """What a shell that asks by click's protocol is told, the last word being begun."""
    environment = os.environ | {
        "COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1), "_FACEKIT_COMPLETE": "bash_complete",
    }  # fmt: skip
    done = subprocess.run([sys.executable, "-c", RUNNER], env=environment, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_commands_flags_and_templates_are_completed() -> None:
    assert completed("facekit inst") == ["plain,instantiate"]
    assert completed("facekit train --batch") == ["plain,--batch-size"]
    assert completed("facekit flops ultralight-r") == [
        "plain,ultralight-rfb-320", "plain,ultralight-rfb-640", "file,ultralight-r",
    ]  # fmt: skip


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts_for_shells(shell: str) -> None:
    environment = os.environ | {"_FACEKIT_COMPLETE": f"{shell}_source"}
    done = subprocess.run([sys.executable, "-c", RUNNER], env=environment, capture_output=True, text=True, check=True)
    assert f"_FACEKIT_COMPLETE={shell}_complete" in done.stdout


@pytest.mark.parametrize("arguments", [("--debug", "flops", "nosuch"), ("flops", "nosuch", "--debug")])
def test_debug_shows_where(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]) -> None:
    assert run(*arguments) == 1
    said = capsys.readouterr().err
    assert "in find_template" in said and said.splitlines()[-1].startswith("Error: No template 'nosuch'")
    assert run("flops", "nosuch") == 1
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has it")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [["templates", "yunet"], ["--help"], ["detect", "data/demo/astronaut.jpg"]])
def test_standard_output_without_space(project_dir: Path, arguments: list[str], unbuffered: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", RUNNER, *arguments], env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
            cwd=project_dir, stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    (said,) = done.stderr.splitlines()
    assert said.startswith("Error: standard output: No space left on device.")


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_exit_codes_stand_in_every_help(name: str) -> None:
    assert "Exit codes: 0" in (cli.commands[name].epilog or "")


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("doctr",), "Did you mean doctor?"),
        (("info",), "Did you mean facekit doctor?"),
        (("data", "chek"), "Did you mean check?"),
        (("templates", "--jason"), "--json"),
        (("templates", "--sort", "app"), "'ap'"),
        (("flops", "yunet_n"), "Did you mean yunet-n?"),
    ],
)
def test_typos(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], hint: str) -> None:
    assert run(*arguments) in (1, 2)
    assert hint in capsys.readouterr().err


def test_work_dirs_scripts_take_debug(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from facekit.cli import run_in_work_dir; run_in_work_dir('export', Path('nowhere'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "--debug"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0 and "Traceback" in done.stderr
