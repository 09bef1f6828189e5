"""The main job of docs/quick-start.md, from end to end."""

from __future__ import annotations

from pathlib import Path

import yaml

from tests.docs.support import block, run_bash


def test_walkthrough_raises_ap(shared_dir: Path, tmp_path: Path) -> None:
    work_dir = tmp_path / "my_model"
    commands = block("docs/quick-start.md", "walkthrough")
    # Calibrated alone: what fine-tuning with rounding gives is asked in tests/engine/compress.
    calibrated = commands.replace("--nncf-quantization", "--nncf-quantization --passes 0")
    assert calibrated != commands
    done = run_bash(
        calibrated,
        AIRPORT=str(shared_dir / "data" / "airport"),
        IR=str(shared_dir / "weights" / "openvino" / "face-detection-0200.xml"),
        WORK_DIR=str(work_dir),
    )
    assert "Warning" not in done.stderr and "deprecated" not in done.stderr.lower()

    def ap(name: str) -> float:
        metrics = yaml.safe_load((work_dir / name).read_text())["metrics"]
        return next(float(metric["value"]) for metric in metrics if metric["key"] == "ap")

    assert ap("metrics_after.yaml") > ap("metrics_before.yaml") + 2
    for made in ("outputs/latest.pth", "export/model.onnx", "compressed/model.bin", "found/image_000000.jpg"):
        assert (work_dir / made).is_file()
