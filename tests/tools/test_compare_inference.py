"""tools/compare_inference.py as libfacedetection's users call it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from facekit.detector import BUNDLED_WEIGHTS


def compare(project_dir: Path, *args: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, project_dir / "tools" / "compare_inference.py", BUNDLED_WEIGHTS, *args]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=project_dir)


def test_a_picture(project_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "found.png"
    done = compare(project_dir, "--mode", "320,256", "--score_thresh", "0.5", "--nms_thresh", "0.4", "--out", out)
    assert done.returncode == 0, done.stderr
    face, says = done.stdout.splitlines()
    assert [float(text) for text in face.split()[:4]] == pytest.approx([173, 53, 276, 193], abs=20)
    assert "astronaut.jpg, 512x512: 1 faces in " in says and "resize 320x256" in says
    assert "score 0.5, NMS 0.4" in says and out.is_file()


def test_wider(project_dir: Path, shared_dir: Path, tmp_path: Path) -> None:
    """Of two pictures: the folder holds no more."""
    data = shared_dir / "data" / "widerface"
    events = sorted((data / "WIDER_val" / "images").iterdir())[:1]
    images = tmp_path / "WIDER_val" / "images"
    images.mkdir(parents=True)
    (images / events[0].name).symlink_to(events[0])
    done = compare(
        project_dir, "--eval", "--mode", "AUTO", "--wider", tmp_path, "--wider_gt", data / "ground_truth_subset"
    )
    assert done.returncode == 1  # the other pictures are missing, and that is said
    assert "WIDER_val.zip" in done.stderr


def test_a_mode_that_is_none(project_dir: Path) -> None:
    done = compare(project_dir, "--mode", "HUGE")
    assert done.returncode in (1, 2)
    assert "--mode: expected AUTO, VGA, ORIGIN or WIDTHxHEIGHT, got 'HUGE'" in done.stderr
    assert "Traceback" not in done.stderr
