"""The tools that print figures run; what they print is for people."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from tools import benchmark_training


def test_prints_the_three_rates_and_their_ratios(drawn_dir: Path) -> None:
    args = [
        "--template", "yunet-n", "--size", "96x96", "--batch", "2", "--workers", "0", "--iterations", "1",
        "--rounds", "1", "--ann-file", str(drawn_dir / "annotations.json"), "--data-root", str(drawn_dir),
    ]  # fmt: skip
    done = CliRunner().invoke(benchmark_training.main, args)
    assert done.exit_code == 0, done.output
    for word in ("data", "model", "both"):
        assert word in done.output
