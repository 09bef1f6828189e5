from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from tools.metrics_table import main

METRICS = """
metrics: [{key: ap, value: 61.25}, {key: widerface_h, value: null}]
files: [{name: a.xml, size: 999999}, {name: a.bin, size: 2048}]
protocol: own size
"""


def test_side_by_side(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(METRICS)
    done = CliRunner().invoke(main, [str(tmp_path / "a.yaml")])
    assert done.exit_code == 0
    assert done.output.splitlines()[1].split() == ["a", "61.250", "-", "2.0"]


@pytest.mark.parametrize(
    "content", ['{"images": [], "annotations": []}', "[1]", "", "{", "metrics: [1]", "!!x y", b"\xff"]
)
def test_another_file(tmp_path: Path, content: str | bytes) -> None:
    (tmp_path / "marked.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    done = CliRunner().invoke(main, [str(tmp_path / "marked.json")])
    assert done.exit_code == 1
    assert done.output.startswith(f"Error: {tmp_path / 'marked.json'}: no metrics.yaml of facekit's")
