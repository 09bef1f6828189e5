from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.support import YUNET, fails, run, written


class TestVisualize:
    def test_pictures(self, pictures: Path, tmp_path: Path, yunet_weights: Path) -> None:
        args = ["--load-weights", yunet_weights, "--images", f"{pictures}/*.jpg", "--output", tmp_path / "out"]
        assert run("visualize", "--template", YUNET, *args) == 0
        assert written(tmp_path / "out") == ["a.jpg", "b.jpg"]

    @pytest.mark.parametrize("sources", [[], ["--video", "0", "--images", "."]])
    def test_one_source(self, capsys: pytest.CaptureFixture[str], yunet_weights: Path, sources: list[str]) -> None:
        text = fails(capsys, "visualize", "--template", YUNET, "--load-weights", yunet_weights, *sources)
        assert "either --video or --images" in text

    def test_bundled_detector(
        self, capsys: pytest.CaptureFixture[str], project_dir: Path, tmp_path: Path, yunet_weights: Path
    ) -> None:
        photograph = project_dir / "data" / "demo" / "astronaut.jpg"
        assert run("visualize", "--images", photograph, "--output", tmp_path / "faces.jpg") == 0
        assert "astronaut.jpg: 1 faces" in capsys.readouterr().err
        assert written(tmp_path) == ["faces.jpg"]
        for half in (["--template", YUNET], ["--load-weights", yunet_weights]):
            assert "together" in fails(capsys, "visualize", *half, "--images", photograph)

    def test_no_such_video(self, capsys: pytest.CaptureFixture[str], tmp_path: Path, yunet_weights: Path) -> None:
        args = ["--load-weights", yunet_weights, "--video", tmp_path / "none.mp4", "--output", tmp_path / "out.mp4"]
        assert "there is no such file" in fails(capsys, "visualize", "--template", YUNET, *args)
        assert not list(tmp_path.iterdir())
