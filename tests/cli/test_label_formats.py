from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.cli.support import SSD, fails, labelled, run


class TestLabelFormats:
    """train and eval take labels that are no COCO json; tests/datasets reads each format."""

    def test_trains_on_yolo_and_voc(
        self, capsys: pytest.CaptureFixture[str], pictures: Path, tmp_path: Path, ssd_weights: Path
    ) -> None:
        sets = []
        for name in ("yolo", "voc"):
            assert run("data", "convert", pictures / "labels.json", tmp_path / name, "--to", name) == 0
            sets.append(str(tmp_path / name))
        command = ["train", "--template", SSD, "--load-weights", ssd_weights, "--train-ann-files", ",".join(sets),
                   "--save-checkpoints-to", tmp_path / "out", "--batch-size", 4, "--workers", 0, "--epochs", 1,
                   "--gpu-num", 0]  # fmt: skip
        assert run(*command) == 0, capsys.readouterr().err
        assert (tmp_path / "out" / "latest.pth").is_file()

    def test_evaluates_on_wider_text(
        self, capsys: pytest.CaptureFixture[str], pictures: Path, tmp_path: Path, ssd_weights: Path
    ) -> None:
        for name in ("labels.json", "labels.txt"):
            if name == "labels.txt":
                assert run("data", "convert", pictures / "labels.json", pictures / name, "--to", "wider") == 0
            capsys.readouterr()
            assert run("eval", "--template", SSD, "--load-weights", ssd_weights,
                       "--test-ann-files", pictures / name, "--test-data-roots", pictures,
                       "--save-metrics-to", tmp_path / f"{name}.yaml") == 0  # fmt: skip
        metrics = [
            yaml.safe_load((tmp_path / f"labels.{kind}.yaml").read_text())["metrics"] for kind in ("json", "txt")
        ]
        figures = [{row["key"]: row["value"] for row in rows if "latency" not in row["key"]} for rows in metrics]
        assert figures[0] == figures[1] and "ap" in figures[0]

    def test_unknown(self, capsys: pytest.CaptureFixture[str], pictures: Path, ssd_weights: Path) -> None:
        (pictures / "labels.json").write_text("faces: none\n")
        text = fails(capsys, "eval", "--template", SSD, "--load-weights", ssd_weights,
                     *labelled("test", pictures))  # fmt: skip
        assert "no label format is recognised; the first line is 'faces: none'. Looked for:" in text
