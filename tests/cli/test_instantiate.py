from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.support import SSD, fails, run, written


class TestTemplate:
    def test_unknown(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        text = fails(capsys, "instantiate", "face-detection-0299", tmp_path / "work", "--no-snapshot")
        assert "No template 'face-detection-0299'" in text
        assert "yunet-n" in text
        assert not list(tmp_path.iterdir())

    def test_broken(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        (tmp_path / "template.yaml").write_text("nmae: x\n")
        text = fails(capsys, "instantiate", tmp_path / "template.yaml", tmp_path / "work", "--no-snapshot")
        assert f"{tmp_path / 'template.yaml'}:1: nmae: unknown key; did you mean 'name'" in text


class TestInstantiate:
    def test_makes_a_work_dir(self, capsys: pytest.CaptureFixture[str], tmp_path: Path, ssd_weights: Path) -> None:
        assert run("instantiate", SSD, tmp_path / "work", "--snapshot", ssd_weights) == 0
        assert "is ready" in capsys.readouterr().out
        assert (tmp_path / "work" / "snapshot.pth").is_file()

    def test_foreign_folder(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        (tmp_path / "mine.txt").touch()
        assert "--force" in fails(capsys, "instantiate", SSD, tmp_path, "--no-snapshot")
        assert written(tmp_path) == ["mine.txt"]

    def test_another_templates_weights_that_stay_are_told(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path, ssd_weights: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert run("instantiate", SSD, tmp_path / "work", "--snapshot", ssd_weights) == 0
        before = (tmp_path / "work" / "snapshot.pth").read_bytes()
        capsys.readouterr()
        said = "snapshot.pth, the weights that lay there of face-detection-0200, not yunet-n's. Give --snapshot, or"
        assert run("instantiate", "yunet-n", tmp_path / "work", "--no-snapshot", "--force") == 0
        text = capsys.readouterr().err
        assert said in text and "Replaced: " + str(tmp_path / "work" / "snapshot.pth") not in text
        assert (tmp_path / "work" / "snapshot.pth").read_bytes() == before

    def test_both_flags(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        assert "not both" in fails(capsys, "instantiate", SSD, tmp_path, "--no-snapshot", "--snapshot", "a.pth")

    def test_no_network(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def offline(*_: object, **__: object) -> None:
            raise OSError("Network is unreachable")

        monkeypatch.setenv("FACEKIT_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr("urllib.request.urlopen", offline)
        text = fails(capsys, "instantiate", SSD, tmp_path / "work")
        for remedy in ("Three remedies", "run the same command again", "--snapshot FILE", "--no-snapshot"):
            assert remedy in text
        assert written(tmp_path / "work") == [
            "compress.py", "eval.py", "export.py", "template.yaml", "train.py", "visualize.py",
        ]  # fmt: skip
