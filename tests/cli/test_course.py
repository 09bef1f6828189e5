from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from tests.cli.support import fails, label, run, train, written


class TestCourseOfTraining:
    """Signals, records, curves; tests/engine and tests/pages look closer."""

    def test_stopped_run_says_how_to_go_on(
        self, capsys: pytest.CaptureFixture[str], pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("facekit.engine.training.train.StopSignals", lambda: AskedToStop())
        assert run(*train(None, pictures, tmp_path / "out", "--epochs", 2)) == 143
        text = capsys.readouterr().err
        assert "Stopped by SIGTERM behind iteration 1" in text and f"--resume-from {tmp_path / 'out'}" in text
        assert "Error" not in text
        assert written(tmp_path / "out") == ["latest.pth"]

    def test_reproduces_and_plots(
        self, capsys: pytest.CaptureFixture[str], pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        out = tmp_path / "out"
        monkeypatch.chdir(pictures)  # relative paths in the record must not depend on where it is read
        args = train(None, Path(), out, "--checkpoint-interval", 1, "--from-scratch")
        assert run(*args) == 0
        monkeypatch.chdir(tmp_path)
        assert run("reproduce", out / "run.json") == 0
        assert "Bit-equal" in capsys.readouterr().out
        assert (out / "reproduced" / "latest.pth").is_file()
        assert run("plot", out, out / "reproduced", "--output", tmp_path / "curves.svg") == 0
        assert "reproduced" in (tmp_path / "curves.svg").read_text()
        label(pictures, faces=[])
        text = fails(capsys, "reproduce", out / "run.json", "--save-checkpoints-to", tmp_path / "more")
        assert "the training labels (2 pictures with 1 faces -> 2 with 0;" in text
        assert not (tmp_path / "more").exists()

    def test_resume_from_an_empty_folder(
        self, capsys: pytest.CaptureFixture[str], pictures: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "none").mkdir()
        text = fails(capsys, *train(None, pictures, tmp_path / "out", "--resume-from", tmp_path / "none"))
        assert f"{tmp_path / 'none'}: there is no checkpoint" in text


class AskedToStop(contextlib.nullcontext[None]):
    """In place of signals."""

    received = 15
