from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from facekit.template import find_template, load_template
from tools.whole_picture_norms import restate, whole_picture


@pytest.mark.parametrize(("share", "mean"), [(0.0, 5.0), (0.25, 3.75 + 0.25 * 30), (1.0, 30.0)])
def test_means_and_variances_go_a_share_of_the_way(tmp_path: Path, share: float, mean: float) -> None:
    """Of two pictures of one colour each, 20 and 40: within either nothing varies, and their mean is 30."""
    paths = [tmp_path / f"{grey}.png" for grey in (20, 40)]
    for path, grey in zip(paths, (20, 40), strict=True):
        cv2.imwrite(str(path), np.full((64, 32, 3), grey, np.uint8))
    norm = nn.BatchNorm2d(3)
    norm.running_mean, norm.running_var = torch.full((3,), 5.0), torch.full((3,), 8.0)
    restate(nn.Sequential(norm), paths, load_template(find_template("yunet-n")), 64, share)
    assert norm.running_mean.tolist() == pytest.approx([mean] * 3)
    assert norm.running_var.tolist() == pytest.approx([8 * (1 - share)] * 3)


def test_pictures_are_scaled_and_padded(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.full((50, 25, 3), 9, np.uint8))
    seen = whole_picture(tmp_path / "a.png", load_template(find_template("yunet-n")), 100)
    assert seen.shape == (1, 3, 128, 64)
    assert (seen[..., :100, :50] == 9).all() and not seen[..., 100:, :].any() and not seen[..., 50:].any()


def test_from_the_command_line(project_dir: Path, drawn_dir: Path, drawn_weights: Path, tmp_path: Path) -> None:
    tool, output = project_dir / "tools" / "whole_picture_norms.py", tmp_path / "out.pth"
    asked = ["--template", "yunet-n", "--labels", drawn_dir / "annotations.json", "--data-root", drawn_dir]

    def run(*more: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, tool, drawn_weights, output, *asked, *more]
        return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)

    for wrong in (("--share", 7), ("--pictures", 0)):
        done = run(*wrong)
        assert done.returncode == 2 and "expected a --share" in done.stderr and not output.exists()
    assert run("--pictures", 3, "--longest-side", 64).returncode == 0 and output.is_file()
