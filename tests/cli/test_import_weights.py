from __future__ import annotations

from pathlib import Path

import pytest
import torch

from facekit.commands.inputs import read_template
from facekit.weights.checkpoint import save_checkpoint
from facekit.weights.load import load_weights
from facekit.weights.torch_file import read_torch_file
from tests.cli.support import SSD, fails, run, written


class TestImportWeights:
    def test_own_checkpoint(self, capsys: pytest.CaptureFixture[str], tmp_path: Path, ssd_weights: Path) -> None:
        assert run("import-weights", ssd_weights, "--template", SSD, "--output", tmp_path / "a.pth") == 0
        assert "epoch 70" in capsys.readouterr().out
        assert read_torch_file(tmp_path / "a.pth")["meta"]["template"] == SSD

    def test_leaves_out_what_only_training_needs(self, tmp_path: Path, ssd_weights: Path) -> None:
        given = load_weights(ssd_weights, read_template(SSD))
        given.optimizer = {"state": {0: {"momentum_buffer": torch.ones(9)}}, "param_groups": []}
        given.extra = {"more": {"steps": 3}}
        given.meta |= {"best_ap": 12.5}
        save_checkpoint(tmp_path / "latest.pth", given)
        assert run("import-weights", tmp_path / "latest.pth", "--template", SSD, "--output", tmp_path / "a.pth") == 0
        snapshot = read_torch_file(tmp_path / "a.pth")
        assert (snapshot["optimizer"], snapshot["extra"]) == (None, {})
        assert snapshot["meta"] == read_torch_file(ssd_weights)["meta"]
        assert all(torch.equal(value, given.state_dict[name]) for name, value in snapshot["state_dict"].items())

    @pytest.mark.parametrize("place", ["file/a.pth", "."])
    def test_unwritable(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path, ssd_weights: Path, place: str
    ) -> None:
        (tmp_path / "file").touch()
        text = fails(capsys, "import-weights", ssd_weights, "--template", SSD, "--output", tmp_path / place)
        assert "can't be written" in text
        assert written(tmp_path) == ["file"]
