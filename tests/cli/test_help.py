from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.support import COMMANDS, SSD, fails, run


class TestHelp:
    def test_imports_no_torch(self) -> None:
        code = (
            "import sys; from facekit.cli import main\n"
            "try: main(['--help'])\n"
            "finally: print(sorted({'torch', 'cv2', 'openvino', 'nncf', 'onnxruntime'} & set(sys.modules)))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "[]"
        for command in COMMANDS:
            assert command in done.stdout

    @pytest.mark.parametrize("command", ["download", "browse", "convert", "merge", "check"])
    def test_of_data_commands(self, capsys: pytest.CaptureFixture[str], command: str) -> None:
        assert run("data", command, "--help") == 0
        assert "Usage: facekit data" in capsys.readouterr().out

    @pytest.mark.parametrize("command", COMMANDS)
    def test_of_every_command(self, capsys: pytest.CaptureFixture[str], command: str) -> None:
        assert run(command, "--help") == 0
        assert "Usage: facekit" in capsys.readouterr().out

    def test_version(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run("--version") == 0
        assert "facekit" in capsys.readouterr().out

    @pytest.mark.parametrize("args", [["trian"], ["train"], ["eval", "--template", SSD], ["--nonsense"]])
    def test_wrong_usage(self, capsys: pytest.CaptureFixture[str], args: list[str]) -> None:
        assert "Error: " in fails(capsys, *args)


def test_a_mistake_in_a_real_process_is_a_message(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "facekit", "import-weights", "none.pth", "--template", SSD, "--output", "a.pth"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.strip() == "Error: none.pth: there is no such file. Check the path."
    assert not list(tmp_path.iterdir())
