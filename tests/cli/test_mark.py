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
        assert "Choose another name" in fails(capsys, "data", "mark", bare, bare, *args)
        assert bare.read_text() == before

    def test_bundled_detector_and_scores(
        self, capsys: pytest.CaptureFixture[str], project_dir: Path, tmp_path: Path
    ) -> None:
        """F23."""
        target = tmp_path / "found.json"
        photograph = project_dir / "data" / "demo" / "astronaut.jpg"
        assert run("data", "mark", photograph, target, "--unlabelled") == 0
        (annotation,) = json.loads(target.read_text())["annotations"]
        assert 0.5 < annotation["score"] <= 1
        assert "Give --load-weights" in fails(
            capsys, "data", "mark", photograph, target, "--unlabelled", "--template", YUNET
        )

    def test_a_picture_is_no_label_file(
        self, capsys: pytest.CaptureFixture[str], project_dir: Path, tmp_path: Path
    ) -> None:
        photograph = project_dir / "data" / "demo" / "astronaut.jpg"
        text = fails(capsys, "data", "mark", photograph, tmp_path / "x.json")
        assert "astronaut.jpg: a picture, not labels. Add --unlabelled" in text
        (tmp_path / "weights.bin").write_bytes(b"PK\3\4\0\0")
        text = fails(capsys, "data", "mark", tmp_path / "weights.bin", tmp_path / "x.json")
        assert "neither labels nor a picture" in text
        assert len(text) < 300
        assert not (tmp_path / "x.json").exists()

    def test_bad_pictures_end_nothing(
        self, capsys: pytest.CaptureFixture[str], pictures: Path, tmp_path: Path, yunet_weights: Path
    ) -> None:
        """P8."""
        (pictures / "aa.jpg").write_bytes(b"no picture")
        args = ["--template", YUNET, "--load-weights", yunet_weights, "--unlabelled"]
        assert run("data", "mark", pictures, tmp_path / "x.json", *args) == 3
        captured = capsys.readouterr()
        assert "aa.jpg: not a picture" in captured.err
        assert "1 .json" in captured.err
        assert [image["file_name"] for image in json.loads((tmp_path / "x.json").read_text())["images"]] == [
            "a.jpg", "b.jpg",
        ]  # fmt: skip

    def test_nothing_there(self, capsys: pytest.CaptureFixture[str], tmp_path: Path, drawn_weights: Path) -> None:
        args = ["--unlabelled", "--template", YUNET, "--load-weights", drawn_weights]
        text = fails(capsys, "data", "mark", tmp_path / "none", tmp_path / "x.json", *args)
        assert "none: there is no such file or folder" in text and "Check SOURCE" in text
