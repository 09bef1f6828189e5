from __future__ import annotations

from pathlib import Path

import pytest

from facekit.checkpoint import read_torch_file
from tests.cli.support import SSD, fails, run, written


class TestImportWeights:
    def test_own_checkpoint(self, capsys: pytest.CaptureFixture[str], tmp_path: Path, ssd_weights: Path) -> None:
        assert run("import-weights", ssd_weights, "--template", SSD, "--output", tmp_path / "a.pth") == 0
        assert "epoch 70" in capsys.readouterr().out
        assert read_torch_file(tmp_path / "a.pth")["meta"]["template"] == SSD

    @pytest.mark.parametrize("place", ["file/a.pth", "."])
    def test_unwritable(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path, ssd_weights: Path, place: str
    ) -> None:
        (tmp_path / "file").touch()
        text = fails(capsys, "import-weights", ssd_weights, "--template", SSD, "--output", tmp_path / place)
        assert "can't be written" in text
        assert written(tmp_path) == ["file"]
