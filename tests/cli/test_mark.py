from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from facekit.labels.formats import read_labels
from tests.cli.support import YUNET, fails, run


@pytest.fixture
def bare(drawn_dir: Path, tmp_path: Path) -> Path:
    """The drawn pictures' labels without landmarks."""
    content = json.loads((drawn_dir / "annotations.json").read_text())
    for annotation in content["annotations"]:
        del annotation["keypoints"]
    path = tmp_path / "bare.json"
    path.write_text(json.dumps(content))
    return path


class TestMark:
    def test_landmarks_lie_where_they_were_drawn(
        self, capsys: pytest.CaptureFixture[str], bare: Path, drawn_dir: Path, drawn_weights: Path
    ) -> None:
        target = bare.with_name("marked.json")
        args = ["--data-root", drawn_dir, "--template", YUNET, "--load-weights", drawn_weights]
        assert run("data", "mark", bare, target, *args) == 0
        assert "were given landmarks, 0 were added" in capsys.readouterr().out
        drawn = read_labels(drawn_dir / "annotations.json", drawn_dir)
        off, count = [], 0
        for truth, marked in zip(drawn, read_labels(target, drawn_dir), strict=True):
            assert np.array_equal(truth.boxes_xywh, marked.boxes_xywh)
            side = np.sqrt(truth.boxes_xywh[:, 2:].prod(axis=1))[:, None]
            off.append((np.linalg.norm(truth.landmarks_xy - marked.landmarks_xy, axis=2) / side).ravel())
            count += len(truth.boxes_xywh)
        distance = np.concatenate(off)
        assert np.isfinite(distance).sum() > 0.5 * 5 * count
        assert np.nanmedian(distance) < 0.1  # of a face's side

    def test_pictures_without_labels(self, tmp_path: Path, drawn_dir: Path, drawn_weights: Path) -> None:
        (tmp_path / "pictures").mkdir()
        drawn = max(read_labels(drawn_dir / "annotations.json", drawn_dir), key=lambda truth: len(truth.boxes_xywh))
        shutil.copy(drawn.path, tmp_path / "pictures")
        args = ["--unlabelled", "--template", YUNET, "--load-weights", drawn_weights]
        assert run("data", "mark", tmp_path / "pictures", tmp_path / "found.json", *args) == 0
        (found,) = read_labels(tmp_path / "found.json", tmp_path / "pictures")
        assert found.name == drawn.path.name
        assert len(found.boxes_xywh)

    def test_never_over_its_source(
        self, capsys: pytest.CaptureFixture[str], bare: Path, drawn_dir: Path, drawn_weights: Path
    ) -> None:
        before = bare.read_text()
        args = ["--data-root", drawn_dir, "--template", YUNET, "--load-weights", drawn_weights]
        assert "choose another name" in fails(capsys, "data", "mark", bare, bare, *args)
        assert bare.read_text() == before

    def test_nothing_there(self, capsys: pytest.CaptureFixture[str], tmp_path: Path, drawn_weights: Path) -> None:
        args = ["--unlabelled", "--template", YUNET, "--load-weights", drawn_weights]
        text = fails(capsys, "data", "mark", tmp_path / "none", tmp_path / "x.json", *args)
        assert "--unlabelled" in text
        assert "no such folder" in text
