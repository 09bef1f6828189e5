"""Parameters and multiply-accumulates of files."""

from __future__ import annotations

from pathlib import Path

import pytest

from facekit.detector import BUNDLED_WEIGHTS
from facekit.errors import FacekitError
from facekit.models import build_model
from facekit.ops.complexity import count_macs, count_parameters
from facekit.targets.reading.complexity import file_complexity
from facekit.template import find_template, load_template


def test_the_bundled_file_counts_as_its_network_does() -> None:
    network = build_model(load_template(find_template("yunet-n")))
    counted = file_complexity(BUNDLED_WEIGHTS, (320, 320))
    assert counted.parameters == pytest.approx(count_parameters(network), rel=0.03)  # norms are folded
    assert counted.macs == pytest.approx(count_macs(network, (320, 320)), rel=0.06)  # activations are not counted


@pytest.mark.parametrize(
    ("file", "parameters", "mega_macs"),
    [  # as published; a GFLOP is two of the others
        ("peers/yolov5n-0.5.onnx", 0.447e6, None),
        ("openvino/face-detection-0200.xml", 1.83e6, 410),
        ("openvino/face-detection-0200-int8.xml", 1.83e6, 410),
    ],
)
def test_published_files(shared_dir: Path, file: str, parameters: float, mega_macs: float | None) -> None:
    counted = file_complexity(shared_dir / "weights" / file, (640, 640))
    assert counted.parameters == pytest.approx(parameters, rel=0.05)
    if mega_macs is not None:
        assert counted.macs == pytest.approx(mega_macs * 1e6, rel=0.05)


def test_a_damaged_file(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(BUNDLED_WEIGHTS.read_bytes()[:1000])
    with pytest.raises(FacekitError, match=r"a\.onnx"):
        file_complexity(tmp_path / "a.onnx", (64, 64))
