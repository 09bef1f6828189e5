from __future__ import annotations

import json
from pathlib import Path

import pytest

from facekit.weights.torch_file import read_torch_file
from tests.cli.support import fails, run, train


class TestPreset:
    def test_fine_tune_says_and_records_its_values(
        self, capsys: pytest.CaptureFixture[str], pictures: Path, tmp_path: Path, ssd_weights: Path
    ) -> None:
        out = tmp_path / "out"
        assert run(*train(ssd_weights, pictures, out, "--preset", "fine-tune")) == 0
        text = capsys.readouterr().err
        assert "Preset fine-tune for 2 pictures with 1 faces" in text
        assert "  start_share 0.5: under 30 pictures or 200 faces: much would be forgotten" in text
        assert "  epochs 1: --epochs" in text
        record = json.loads((out / "run.json").read_text())
        assert (record["flags"]["preset"], record["flags"]["val_interval"]) == ("fine-tune", 1)
        assert record["template"]["training"]["frozen_batch_norm"] and not record["template"]["training"]["frozen"]
        assert f"learning rate {record['template']['training']['base_learning_rate']:g} (now " in text
        assert record["template"]["training"]["schedule"] == {"kind": "cosine", "final_factor": 0.01, "held": 0}
        before, after = (read_torch_file(path)["state_dict"] for path in (ssd_weights, out / "latest.pth"))
        assert all((before[name] == after[name]).all() for name in before if "running_" in name)
        assert any((before[name] != after[name]).any() for name in before if name.startswith("backbone."))
        assert run("reproduce", out / "run.json") == 0
        assert "Bit-equal" in capsys.readouterr().out

    def test_goes_on_with_the_same_flags(
        self, capsys: pytest.CaptureFixture[str], pictures: Path, tmp_path: Path
    ) -> None:  # fmt: skip
        out = tmp_path / "out"
        args = train(None, pictures, out, "--preset", "scratch", "--from-scratch", "--epochs", 2)
        assert run(*args) == 0
        whole = read_torch_file(out / "latest.pth")["digest"]
        (out / "latest.pth").unlink()
        (out / "epoch_2.pth").unlink()
        args.remove("--from-scratch")
        assert run(*args, "--resume-from", out) == 0
        assert "won't be an uninterrupted run's" not in capsys.readouterr().err
        assert read_torch_file(out / "latest.pth")["digest"] == whole

    @pytest.mark.parametrize("flags", [(), ("--base-learning-rate", "1e-5"), ("--preset", "fine-tune")])
    def test_without_it_the_rate_is_warned_of(
        self, capsys: pytest.CaptureFixture[str], pictures: Path, tmp_path: Path, ssd_weights: Path,
        flags: tuple[str, ...],
    ) -> None:  # fmt: skip
        assert run(*train(ssd_weights, pictures, tmp_path / "out", "--max-iterations", "1", *flags)) == 0
        warned = "2 pictures at the template's own learning rate of" in capsys.readouterr().err
        assert warned == (not flags)

    @pytest.mark.parametrize(
        ("flags", "message"),
        [
            (("--preset", "fine-tune"), "--preset fine-tune needs weights: give --load-weights"),
            (("--preset", "scratch", "--load-weights", "W"), "--preset scratch starts without weights"),
            (("--preset", "fine-tune", "--resume-from", "W"), "no run of facekit's, so there is nothing to go on with"),
            (("--preset", "finetune"), "--preset"),
        ],
    )
    def test_refused(
        self, capsys: pytest.CaptureFixture[str], pictures: Path, tmp_path: Path, ssd_weights: Path,
        flags: tuple[str, ...], message: str,
    ) -> None:  # fmt: skip
        given = [ssd_weights if flag == "W" else flag for flag in flags]
        assert message in fails(capsys, *train(None, pictures, tmp_path / "out", *given))
        assert not list((tmp_path / "out").glob("*.pth"))
