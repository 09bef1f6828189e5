"""Compression: smaller files, restorable checkpoints, masks that hold."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from facekit.detector import Detector
from facekit.engine.compress.options import CompressOptions
from facekit.engine.compress.run import Footprint, compress, format_footprints
from facekit.engine.evaluation.evaluate import evaluate_labelled, metric_value
from facekit.errors import FacekitError
from facekit.labels.formats.coco import read_coco
from facekit.labels.picture_labels import PictureLabels
from facekit.targets.pytorch import PyTorchBackend
from facekit.targets.writing.export import ExportSettings, export_weights
from facekit.template import AdamW, Template, find_template, load_template
from tests.targets.support import decoded


@pytest.fixture(scope="module")
def template() -> Template:
    full = load_template(find_template("yunet-n"))
    return dataclasses.replace(full, input=dataclasses.replace(full.input, size_hw=(160, 160)))


@pytest.fixture(scope="module")
def pictures(drawn_dir: Path) -> list[PictureLabels]:
    return read_coco(drawn_dir / "annotations.json", drawn_dir)


def options(folder: Path, quantization: bool, sparsity: bool) -> CompressOptions:
    return CompressOptions(
        "yunet-n", train_ann_files=(), save_checkpoints_to=folder, quantization=quantization, sparsity=sparsity,
        batch_size=4, passes=1, workers=0, max_iterations=2,
    )  # fmt: skip


@pytest.fixture(scope="module")
def int8(
    template: Template, pictures: list[PictureLabels], drawn_weights: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[Footprint]]:
    folder = tmp_path_factory.mktemp("int8")
    return compress(template, drawn_weights, pictures, pictures, options(folder, True, False))


@pytest.fixture(scope="module")
def sparse_int8(
    template: Template, pictures: list[PictureLabels], drawn_weights: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[Footprint]]:
    folder = tmp_path_factory.mktemp("both")
    return compress(template, drawn_weights, pictures, pictures, options(folder, True, True))


def test_int8_is_small_and_still_finds_faces(int8: tuple[Path, list[Footprint]]) -> None:
    path, (before, after) = int8
    assert after.bin_bytes == path.with_name("model.bin").stat().st_size
    assert after.bin_bytes < 0.35 * before.bin_bytes
    assert before.ap is not None and after.ap is not None
    assert after.ap > before.ap - 5
    assert sorted(p.name for p in path.parent.iterdir()) == ["compressed.pth", "model.bin", "model.xml"]


def test_checkpoint_restores_what_the_ir_computes(
    int8: tuple[Path, list[Footprint]], template: Template, pictures: list[PictureLabels]
) -> None:
    path, (_, after) = int8
    assert after.ap is not None
    restored = Detector.open(path, template, "cpu")
    # Quantised graphs differ in the last step of rounding, so figures are compared, not numbers.
    assert metric_value(evaluate_labelled(restored, pictures, quiet=True), "ap") == pytest.approx(after.ap, abs=4)
    again = Detector.open(path, template, "cpu")
    picture = cv2.imread(str(pictures[1].path))
    np.testing.assert_array_equal(restored.detect(picture).scores, again.detect(picture).scores)


def test_int8_differs_from_float(
    int8: tuple[Path, list[Footprint]], template: Template, drawn_weights: Path, pictures: list[PictureLabels]
) -> None:
    picture = cv2.imread(str(pictures[1].path))[:128, :128]
    quantised, plain = (
        decoded(PyTorchBackend.from_file(weights, template, "cpu"), picture[None])
        for weights in (int8[0], drawn_weights)
    )
    assert quantised.scores.shape == plain.scores.shape
    assert not np.array_equal(quantised.scores, plain.scores)


def test_sparse_weights_are_zero_in_the_ir(sparse_int8: tuple[Path, list[Footprint]], template: Template) -> None:
    path, (_, after) = sparse_int8
    weights = np.fromfile(path.with_name("model.bin"), dtype=np.int8)
    # Half of the 75,856 weights of one byte each, among some ten thousand other bytes.
    assert (weights == 0).sum() > 0.45 * template.compression.sparsity.ratio * 2 * 75_000
    assert "sparse 50%" in after.name and "INT8" in after.name


def test_compressed_weights_are_refused_where_float_ones_belong(
    int8: tuple[Path, list[Footprint]], template: Template, pictures: list[PictureLabels], tmp_path: Path
) -> None:
    with pytest.raises(FacekitError, match="compressed"):
        compress(template, int8[0], pictures, [], options(tmp_path, True, False))
    with pytest.raises(FacekitError, match="compressed"):
        export_weights(int8[0], template, tmp_path, ExportSettings())


def test_validation_pictures_in_which_no_face_counts_are_refused(
    template: Template, pictures: list[PictureLabels], drawn_weights: Path, tmp_path: Path
) -> None:
    crowds = [dataclasses.replace(picture, is_crowd=np.ones_like(picture.is_crowd)) for picture in pictures[:2]]
    with pytest.raises(FacekitError, match=r"no face of the labels counts.*`val_ann_files`"):
        compress(template, drawn_weights, pictures, crowds, options(tmp_path, True, False))
    assert not list(tmp_path.iterdir())


def test_fine_tuning_is_by_sgd_whatever_the_template_trains_with(
    template: Template, pictures: list[PictureLabels], drawn_weights: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    made = []

    class Enough(Exception):
        pass

    def step(optimizer: torch.optim.SGD, *args: object) -> None:
        made.append((type(optimizer), optimizer.param_groups[0]["momentum"], optimizer.param_groups[0]["weight_decay"]))
        raise Enough

    monkeypatch.setattr(torch.optim.SGD, "step", step)
    training = dataclasses.replace(template.training, optimizer=AdamW("adamw", weight_decay=0.1))
    adamw = dataclasses.replace(template, training=training)
    with pytest.raises(Enough):
        compress(adamw, drawn_weights, pictures, [], options(tmp_path, False, True))
    assert set(made) == {(torch.optim.SGD, 0.9, 0)}


def test_table_without_validation_set() -> None:
    rows = [Footprint("FP32", 1000, 10, 900, None), Footprint("INT8", 250, 20, 200, 31.5)]
    table = format_footprints(rows, "own size")
    assert "0.250" in table and "31.50" in table and "own size" in table
