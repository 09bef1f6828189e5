from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from facekit.cli import main
from facekit.commands.flops import format_costs, parse_size, template_costs
from facekit.errors import FacekitError
from facekit.ops.complexity import LayerCost
from facekit.template import find_template, load_template

ROWS = [
    LayerCost("", "Net", (), 2, 0),
    LayerCost("backbone.conv", "Conv2d", (16, 240, 320), 1_234_000, 2_500_000_000),
]


def run(*args: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main([str(arg) for arg in args], prog_name="facekit")
    assert isinstance(caught.value.code, int)
    return caught.value.code


class TestSize:
    @pytest.mark.parametrize(("text", "size_hw"), [("640x480", (480, 640)), ("1X4096", (4096, 1))])
    def test_width_comes_first(self, text: str, size_hw: tuple[int, int]) -> None:
        assert parse_size(text) == size_hw

    @pytest.mark.parametrize("text", ["", "640", "640x", "0x640", "-1x5", "64.0x64", "64 x 64", "64x64x3", "64x4097"])
    def test_anything_else(self, text: str) -> None:
        with pytest.raises(ValueError, match="no size"):
            parse_size(text)


class TestFormat:
    def test_totals(self) -> None:
        assert format_costs(ROWS, (480, 640), per_layer=False).splitlines()[:-1] == [
            "input:   640x480, one picture",
            "params:  1,234,002 (1.234 M)",
            "MACs:    2.5000 G",
            "GFLOPs:  5.0000 (2 x MACs)",
        ]

    def test_says_what_is_counted(self) -> None:
        last = format_costs(ROWS, (480, 640), per_layer=False).splitlines()[-1]
        assert last.startswith("counted: ") and "biases" in last and "free" in last

    def test_table(self) -> None:
        totals = format_costs(ROWS, (480, 640), per_layer=False)
        table, below = format_costs(ROWS, (480, 640), per_layer=True).split("\n\n")
        assert below == totals
        assert table.splitlines() == [
            "layer          kind    output         params      MMACs",
            "-------------------------------------------------------",
            "(network)      Net     -                   2      0.000",
            "backbone.conv  Conv2d  16x240x320  1,234,000  2,500.000",
        ]


def test_size_that_a_network_refuses() -> None:
    template = load_template(find_template("yunet-n"))
    with pytest.raises(FacekitError, match=r"yunet-n: its network can't take 8x16 pictures .* 640x640"):
        template_costs(template, (16, 8))


class TestCommand:
    def test_totals_at_a_given_size(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run("flops", "yunet-n", "--input-size", "320x320") == 0
        text = capsys.readouterr().out
        assert "input:   320x320" in text
        assert "params:  75,856 (0.076 M)" in text
        assert "MACs:    0.1487 G\nGFLOPs:  0.2974" in text

    def test_the_templates_size_and_a_line_a_layer(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run("flops", find_template("face-detection-0200").parent, "--per-layer") == 0
        table, totals = capsys.readouterr().out.split("\n\n")
        lines = table.splitlines()
        assert len({len(line) for line in lines}) == 1
        convolution = next(line for line in lines if line.startswith("backbone.features.0.0 "))
        assert re.split(r"  +", convolution)[1:] == ["Conv2d", "32x128x128", "864", "14.156"]
        assert "input:   256x256" in totals
        shown = sum(int(line.split()[-2].replace(",", "")) for line in lines[2:])
        assert f"params:  {shown:,} (1.835 M)" in totals
        assert sum(float(line.split()[-1]) for line in lines[2:]) == pytest.approx(410.9, abs=0.1)

    @pytest.mark.parametrize(
        ("args", "code", "message"),
        [
            (["yunet-n", "--input-size", "320"], 2, "--input-size: '320' is no size"),
            (["yunet-n", "--input-size", "100000x100000"], 2, "is no size"),
            (["yunet-n", "--input-size", "8x8"], 1, "can't take 8x8 pictures"),
            (["yunet-x"], 1, "No template 'yunet-x'"),
            ([], 2, "Missing argument"),
        ],
    )
    def test_mistakes(self, capsys: pytest.CaptureFixture[str], args: list[str], code: int, message: str) -> None:
        assert run("flops", *args) == code
        captured = capsys.readouterr()
        assert message in captured.err and not captured.out

    def test_the_tool_is_the_command(
        self, capsys: pytest.CaptureFixture[str], project_dir: Path, tmp_path: Path
    ) -> None:
        args = ["yunet-n", "--input-size", "64x32", "--per-layer"]
        command = [sys.executable, str(project_dir / "tools" / "count_flops.py"), *args]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert run("flops", *args) == 0
        assert done.stdout == capsys.readouterr().out
