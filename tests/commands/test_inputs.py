from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
import pytest

from facekit.commands.anonymize import anonymize
from facekit.commands.evaluate import evaluate
from facekit.commands.inputs import (
    Choice,
    choose_detector,
    choose_model,
    find_detector,
    find_measured,
    find_weights,
    read_label_files,
)
from facekit.detector import BUNDLED_WEIGHTS
from facekit.errors import ArgumentError, FacekitError
from facekit.pictures.write import write_picture
from facekit.targets.table import WEIGHT_SUFFIXES
from facekit.weights.identify import template_of_weights
from tests.targets.foreign import Numbers, graph_of, scrfd


@pytest.fixture
def work_dir(tmp_path: Path) -> Path:
    (tmp_path / "outputs").mkdir()
    (tmp_path / "template.yaml").touch()
    return tmp_path


def put(path: Path, time_s: float) -> Path:
    path.touch()
    os.utime(path, (time_s, time_s))
    return path


class TestFindWeights:
    """F16: the file used is always said; the best of a newer training first."""

    def test_given(self, work_dir: Path) -> None:
        assert find_weights(Path("mine.pth"), str(work_dir)) == Path("mine.pth")

    def test_by_age(self, work_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        snapshot = put(work_dir / "snapshot.pth", 100)
        assert find_weights(None, str(work_dir)) == snapshot
        latest = put(work_dir / "outputs" / "latest.pth", 200)
        assert find_weights(None, str(work_dir / "template.yaml")) == latest
        best = put(work_dir / "outputs" / "best.pth", 150)
        assert find_weights(None, str(work_dir)) == best
        put(snapshot, 300)  # made anew behind the training
        assert find_weights(None, str(work_dir)) == snapshot
        said = [record.getMessage() for record in caplog.records]
        assert [str(path) in text for path, text in zip((snapshot, latest, best, snapshot), said, strict=True)] == [
            True
        ] * 4
        assert "older" in said[-1]

    @pytest.mark.parametrize("name", ["yunet-n", "nowhere/template.yaml"])
    def test_none(self, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(ArgumentError, match="`load_weights`"):
            find_weights(None, name)

    def test_a_folder_that_is_no_work_dir(self, tmp_path: Path) -> None:
        with pytest.raises(ArgumentError, match=r"no work dir with weights .* Give a file of weights, or such"):
            find_weights(None, str(tmp_path))
        (tmp_path / "model.onnx").touch()
        with pytest.raises(ArgumentError, match=r"Give the file: .*model\.onnx\."):
            find_weights(None, str(tmp_path))

    def test_what_is_neither_weights_nor_a_template(self, tmp_path: Path) -> None:
        (tmp_path / "model.mlpackage").mkdir()
        with pytest.raises(FacekitError, match="Core ML runs on Apple's systems alone"):
            choose_model(str(tmp_path / "model.mlpackage"))
        (tmp_path / "facedetectcnn-data.cpp").write_text("// numbers")
        with pytest.raises(FacekitError, match=r"data\.cpp: unknown kind of weights; expected one of \.pth, "):
            choose_model(str(tmp_path / "facedetectcnn-data.cpp"))


class TestChooseDetector:
    """F15."""

    def test_bundled(self) -> None:
        assert choose_detector(None, None) == choose_detector(Path("bundled"), None) == Choice(None, None)
        assert choose_detector(Path("bundled"), "yunet-n") == Choice(None, None)
        with pytest.raises(ArgumentError, match="is a yunet-n"):
            choose_detector(Path("bundled"), "yunet-s")

    def test_commands_that_need_the_template(self, drawn_weights: Path) -> None:
        template, weights = find_detector(Path("bundled"), None)
        assert template.name == "yunet-n" and weights.name == "facekit.pth" and weights.is_file()
        assert find_detector(weights, None) == (template, weights)
        with pytest.raises(FacekitError, match=r"says nothing of its template\. Give `template`"):
            find_detector(drawn_weights, None)  # tensors alone
        with pytest.raises(ArgumentError, match="Give `load_weights`"):
            find_detector(None, None)

    def test_thresholds_are_those_of_the_export(self, tmp_path: Path) -> None:
        """Also where the template of that name has others: a work dir's may have been edited."""
        import dataclasses

        import onnx

        from facekit.detector import BUNDLED_WEIGHTS
        from facekit.targets.reading.about import KEY, about_export

        template, _ = find_detector(BUNDLED_WEIGHTS, None)
        model = onnx.load(BUNDLED_WEIGHTS)
        said = dataclasses.replace(about_export(template, None), score_threshold=0.7)
        onnx.helper.set_model_props(model, {KEY: said.to_json(), "facekit_template": "yunet-n"})
        onnx.save(model, tmp_path / "a.onnx")
        assert find_detector(tmp_path / "a.onnx", None)[0].evaluation.score_threshold == 0.7

    def test_weights_that_name_their_template(self) -> None:
        assert choose_detector(Path("a.onnx"), None) == Choice(Path("a.onnx"), None)


class TestOthersFiles:
    def test_what_they_are_is_told_by_them_or_by_the_user(self, tmp_path: Path) -> None:
        outputs, _ = scrfd((64, 96), Numbers(0))
        file = graph_of(tmp_path / "made.onnx", outputs, (64, 96))
        for layout in (None, "scrfd"):
            template, weights = find_measured(file, None, layout)
            assert (template.name, template.input.size_hw, weights) == ("scrfd", (64, 96), file)
        assert find_measured(file, "yunet-n", None)[0].name == "yunet-n"  # refused when it is opened
        with pytest.raises(FacekitError, match="not laid out like yunet"):
            find_measured(file, None, "yunet")

    def test_a_layout_says_what_a_file_is_and_nothing_else(self) -> None:
        for weights, template in ((None, None), (Path("bundled"), None), (Path("a.onnx"), "yunet-n")):
            with pytest.raises(ArgumentError, match="`layout=scrfd` says what others' weights are"):
                choose_detector(weights, template, layout="scrfd")

    def test_it_is_measured_as_it_is(self, tmp_path: Path, drawn_dir: Path) -> None:
        outputs, _ = scrfd((64, 96), Numbers(0))
        file = graph_of(tmp_path / "made.onnx", outputs, (64, 96))
        measured = evaluate(load_weights=file, test_ann_files=drawn_dir / "annotations.json", layout="scrfd", threads=1)
        assert measured is not None
        assert measured.record.detector == "scrfd"
        assert "fit into 96x64, zero-padded to it; score 0.02, NMS 0.45" in measured.record.protocol
        assert measured.record.metric("size") is not None

    def test_it_covers_faces_as_it_is(self, tmp_path: Path) -> None:
        outputs, _ = scrfd((64, 96), Numbers(0))
        file = graph_of(tmp_path / "made.onnx", outputs, (64, 96))
        write_picture(tmp_path / "grey.png", np.full((64, 96, 3), 90, np.uint8))
        done = anonymize(
            tmp_path / "grey.png", output=tmp_path / "covered.png", model=str(file), layout="scrfd", method="solid"
        )
        assert done.faces > 0
        with pytest.raises(FacekitError, match="not laid out like yunet"):
            anonymize(tmp_path / "grey.png", output=tmp_path / "b.png", model=str(file), layout="yunet")


def test_a_root_a_file() -> None:
    with pytest.raises(ArgumentError, match="`test_ann_files` names 2 files, `test_data_roots` 1 folders"):
        read_label_files([Path("a"), Path("b")], [Path("c")], "test")


class TestChooseModel:
    @pytest.mark.parametrize("suffix", [*WEIGHT_SUFFIXES, ".ONNX"])
    def test_every_kind_of_file_that_runs(self, tmp_path: Path, suffix: str) -> None:
        path = tmp_path / f"a{suffix}"
        path.touch()
        assert choose_model(str(path)).weights == path

    def test_large_letters(self, tmp_path: Path) -> None:
        path = tmp_path / "M.ONNX"
        path.write_bytes(BUNDLED_WEIGHTS.read_bytes())
        assert template_of_weights(path) == "yunet-n"
        assert find_detector(path, None)[0].name == "yunet-n"
