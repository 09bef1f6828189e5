"""Exported files give what PyTorch gives, in every runtime, at every size they promise."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch

from facekit.detector import BUNDLED_WEIGHTS, Detector
from facekit.errors import FacekitError
from facekit.models import build_model
from facekit.targets import open_backend
from facekit.targets.writing.export import Exported, ExportSettings, export_weights
from facekit.template import Template, find_template, load_template
from facekit.weights.checkpoint import Checkpoint, new_meta, save_checkpoint
from facekit.weights.load import load_weights
from tests.targets.support import check_equal, decoded


def random_picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def yunet() -> Template:
    return load_template(find_template("yunet-n"))


@pytest.fixture(scope="module")
def ssd() -> Template:
    return load_template(find_template("face-detection-0200"))


@pytest.fixture(scope="module")
def yunet_export(yunet: Template, drawn_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("yunet")
    export_weights(drawn_weights, yunet, folder, ExportSettings())
    return folder


@pytest.fixture(scope="module")
def ssd_weights(ssd: Template, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights with lively batch norms: a swapped channel or a wrong scale changes every output."""
    torch.manual_seed(3)
    network = build_model(ssd)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.8, 1.6)
    path = tmp_path_factory.mktemp("ssd") / "random.pth"
    save_checkpoint(path, Checkpoint(new_meta(ssd, 1, 1), network.state_dict()))
    return path


@pytest.fixture(scope="module")
def ssd_export(ssd: Template, ssd_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ssd_export")
    export_weights(ssd_weights, ssd, folder, ExportSettings())
    return folder


@pytest.mark.parametrize("name", ["model.onnx", "model.xml"])
class TestEqualToPyTorch:
    @pytest.mark.parametrize("size_hw", [(64, 96), (224, 160)])
    def test_yunet_at_any_size(
        self, yunet: Template, yunet_export: Path, drawn_weights: Path, name: str, size_hw: tuple[int, int]
    ) -> None:
        pictures = np.stack([random_picture(*size_hw, seed) for seed in range(2)])
        expected = decoded(open_backend(drawn_weights, yunet, "cpu"), pictures)
        check_equal(decoded(open_backend(yunet_export / name, yunet), pictures), expected)

    def test_ssd_in_batches(self, ssd: Template, ssd_export: Path, ssd_weights: Path, name: str) -> None:
        pictures = np.stack([random_picture(256, 256, seed) for seed in range(3)])
        expected = decoded(open_backend(ssd_weights, ssd, "cpu"), pictures)
        opened = open_backend(ssd_export / name, ssd)
        check_equal(decoded(opened, pictures), expected)
        alone = decoded(opened, pictures[1:2])  # OpenVINO has a graph of its own for these
        check_equal(decoded(opened, pictures), expected)
        np.testing.assert_allclose(alone.scores[0], expected.scores[1], atol=1e-5)

    def test_same_faces_on_drawn_pictures(
        self, yunet: Template, yunet_export: Path, drawn_weights: Path, drawn_dir: Path, name: str
    ) -> None:
        picture = cv2.imread(str(sorted((drawn_dir / "images").glob("*.jpg"))[1]))
        expected = Detector.open(drawn_weights, yunet, "cpu").detect(picture).above(0.3)
        got = Detector.open(yunet_export / name, yunet).detect(picture).above(0.3)
        assert len(expected) > 0
        np.testing.assert_allclose(got.boxes_xyxy, expected.boxes_xyxy, atol=0.05)
        np.testing.assert_allclose(got.landmarks_xy, expected.landmarks_xy, atol=0.05)


def test_opencv_reads_yunet_and_finds_the_same_faces(
    yunet: Template, yunet_export: Path, drawn_weights: Path, drawn_dir: Path
) -> None:
    for path in sorted((drawn_dir / "images").glob("*.jpg"))[:4]:
        picture = cv2.imread(str(path))
        detector = cv2.FaceDetectorYN.create(
            str(yunet_export / "model.onnx"), "", picture.shape[1::-1], 0.5, yunet.evaluation.nms_iou_threshold, 5000
        )
        _, rows = detector.detect(picture)
        rows = np.zeros((0, 15), np.float32) if rows is None else rows
        # OpenCV's score is the geometric mean of class and objectness, ours their product.
        ours = Detector.open(drawn_weights, yunet, "cpu").detect(picture).above(0.25)
        assert len(rows) == len(ours)
        rows = rows[np.argsort(-rows[:, 14], kind="stable")]
        ours_xywh = np.concatenate([ours.boxes_xyxy[:, :2], ours.boxes_xyxy[:, 2:] - ours.boxes_xyxy[:, :2]], axis=1)
        np.testing.assert_allclose(rows[:, :4], ours_xywh, atol=0.1)
        np.testing.assert_allclose(rows[:, 4:14].reshape(-1, 5, 2), ours.landmarks_xy, atol=0.1)
        np.testing.assert_allclose(rows[:, 14] ** 2, ours.scores, atol=1e-3)


def test_onnx_names_layout_and_size(yunet_export: Path) -> None:
    model = onnx.load(yunet_export / "model.onnx")
    names = [f"{kind}_{stride}" for kind in ("cls", "obj", "bbox", "kps") for stride in (8, 16, 32)]
    assert [value.name for value in model.graph.output] == names
    assert [value.name for value in model.graph.input] == ["image"]
    assert {prop.key for prop in model.metadata_props} >= {"facekit_template", "facekit_version", "input"}
    # 75,856 parameters of 4 bytes; the published file has 323 KB.
    assert (yunet_export / "model.onnx").stat().st_size < 360_000


Change = Callable[[onnx.ModelProto], None]


@pytest.fixture
def export_changed(
    yunet: Template, yunet_export: Path, drawn_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Change], Exported]:
    """Exports with a writer that takes the file that was exported before, changed: writing a graph takes seconds."""

    def export(change: Change) -> Exported:
        def write(draft: object, path: Path) -> None:
            model = onnx.load(yunet_export / "model.onnx")
            change(model)
            onnx.save(model, path)

        monkeypatch.setattr("facekit.targets.onnx.write", write)
        return export_weights(drawn_weights, yunet, tmp_path, ExportSettings(("onnx",)))

    return export


def test_only_what_is_asked_for(export_changed: Callable[[Change], Exported], tmp_path: Path) -> None:
    assert export_changed(lambda model: None).files == [tmp_path / "model.onnx"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", "model.onnx"]


@pytest.mark.parametrize("name", ["README.md", "README.facekit.md"])
def test_an_edited_readme_is_kept_and_told(
    export_changed: Callable[[Change], Exported], tmp_path: Path, name: str
) -> None:
    if name != "README.md":
        (tmp_path / "README.md").write_text("# Mine\n")
    for edit in ("", "mine\n", b"of Z\xfcrich\n".decode("latin-1")):
        first = export_changed(lambda model: None)
        assert first.readme == tmp_path / name and not first.losses
        before = (tmp_path / name).read_text() + edit
        (tmp_path / name).write_bytes(before.encode("latin-1"))
        again = export_changed(lambda model: None)
        assert again.readme == (None if edit else tmp_path / name)
        assert [loss.what for loss in again.losses] == [str(tmp_path / name)] * bool(edit)
        assert (tmp_path / name).read_bytes() == before.encode("latin-1")
        (tmp_path / name).unlink()
    export_changed(lambda model: None)
    text = (tmp_path / name).read_text()
    without_digest = text.replace(text.splitlines(keepends=True)[-1], "an older facekit's\n")
    (tmp_path / name).write_text(without_digest)
    assert not export_changed(lambda model: None).losses and (tmp_path / name).read_text() == text


def test_a_place_that_is_taken_is_found_before_the_work(
    yunet: Template, drawn_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Path] = []
    monkeypatch.setattr("facekit.targets.onnx.write", lambda draft, path: written.append(path))
    (tmp_path / "model.xml").mkdir()
    with pytest.raises(FacekitError, match=r"model\.xml: can't be written: a folder is there"):
        export_weights(drawn_weights, yunet, tmp_path, ExportSettings(("onnx", "openvino")))
    assert not written


def test_what_compress_made_is_not_replaced(yunet: Template, drawn_weights: Path, tmp_path: Path) -> None:
    for name in ("compressed.pth", "model.xml", "model.bin"):
        (tmp_path / name).write_bytes(b"INT8")
    with pytest.raises(FacekitError, match=r"model\.xml: would be written over, but it belongs to compressed\.pth"):
        export_weights(drawn_weights, yunet, tmp_path, ExportSettings())
    assert {path.read_bytes() for path in tmp_path.iterdir()} == {b"INT8"}


def swap_channels(model: onnx.ModelProto) -> None:
    """Of the picture, before anything is done with it."""
    (image,) = model.graph.input
    for node in model.graph.node:
        node.input[:] = ["swapped" if name == image.name else name for name in node.input]
    order = onnx.helper.make_tensor("order", onnx.TensorProto.INT64, [3], [2, 1, 0])
    model.graph.initializer.append(order)
    model.graph.node.insert(0, onnx.helper.make_node("Gather", [image.name, "order"], ["swapped"], axis=1))


def move(kind: str) -> Change:
    """Adds 0.05 to all that the graph says of boxes (bbox) or landmarks (kps)."""

    def change(model: onnx.ModelProto) -> None:
        model.graph.initializer.append(onnx.helper.make_tensor("step", onnx.TensorProto.FLOAT, [], [0.05]))
        for name in [value.name for value in model.graph.output if value.name.startswith(kind)]:
            for node in model.graph.node:
                node.output[:] = [f"{each}_before" if each == name else each for each in node.output]
            model.graph.node.append(onnx.helper.make_node("Add", [f"{name}_before", "step"], [name]))

    return change


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        (swap_channels, r"scores differ by (?!\S+e-0[5-9])"),
        (move("bbox"), r"boxes by [0-9]\.[0-9]+ px, landmarks by (0\.000\d+|\S+e-\d+) px"),
        (move("kps"), r"boxes by (0\.000\d+|\S+e-\d+) px, landmarks by [0-9]\.[0-9]+ px"),
    ],
    ids=["channels swapped", "boxes moved", "landmarks moved"],
)
def test_graph_that_differs_is_refused_and_the_old_file_kept(
    export_changed: Callable[[Change], Exported], tmp_path: Path, change: Change, wrong: str
) -> None:
    shutil.copyfile(BUNDLED_WEIGHTS, tmp_path / "model.onnx")
    with pytest.raises(FacekitError, match=f"does not give what PyTorch gives.*{wrong}"):
        export_changed(change)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    assert (tmp_path / "model.onnx").read_bytes() == BUNDLED_WEIGHTS.read_bytes()


def test_sigterm_leaves_nothing_behind(
    yunet: Template, drawn_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(draft: object, path: Path) -> None:
        path.write_bytes(b"half of it")
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("facekit.targets.onnx.write", write)
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)  # whatever a test before has left
    try:
        with pytest.raises(SystemExit) as caught:
            export_weights(drawn_weights, yunet, tmp_path, ExportSettings(("onnx",)))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert caught.value.code == 143
    assert list(tmp_path.iterdir()) == []


class TestBackendsRefuse:
    def test_missing_and_unknown(self, yunet: Template, tmp_path: Path) -> None:
        with pytest.raises(FacekitError, match="no such weights"):
            open_backend(tmp_path / "model.onnx", yunet)
        (tmp_path / "model.h5").write_bytes(b"x")
        with pytest.raises(FacekitError, match=r"expected one of \.pth"):
            open_backend(tmp_path / "model.h5", yunet)

    @pytest.mark.parametrize("name", ["model.onnx", "model.xml"])
    def test_damaged(self, yunet: Template, yunet_export: Path, tmp_path: Path, name: str) -> None:
        data = (yunet_export / name).read_bytes()
        (tmp_path / name).write_bytes(data[: len(data) // 2])
        (tmp_path / "model.bin").write_bytes((yunet_export / "model.bin").read_bytes())
        with pytest.raises(FacekitError, match=r"Bring (the|both) files? again"):
            open_backend(tmp_path / name, yunet)

    def test_xml_without_bin(self, yunet: Template, yunet_export: Path, tmp_path: Path) -> None:
        (tmp_path / "model.xml").write_bytes((yunet_export / "model.xml").read_bytes())
        with pytest.raises(FacekitError, match=r"model\.bin"):
            open_backend(tmp_path / "model.xml", yunet)

    def test_others_outputs_under_our_names(self, ssd: Template, shared_dir: Path) -> None:
        weights = next((shared_dir / "weights" / "ultralight").glob("*RFB-320*.onnx"))
        with pytest.raises(FacekitError, match=r"takes 320x240 pictures"):
            open_backend(weights, ssd)

    @pytest.mark.parametrize("name", ["model.onnx", "model.xml"])
    def test_other_detectors_files(
        self, yunet: Template, ssd: Template, yunet_export: Path, ssd_export: Path, name: str
    ) -> None:
        with pytest.raises(FacekitError, match="is of the template yunet-n, and face-detection-0200 was given"):
            open_backend(yunet_export / name, ssd)
        other_size = dataclasses.replace(ssd, input=dataclasses.replace(ssd.input, size_hw=(384, 384)))
        with pytest.raises(FacekitError, match="256x256"):
            open_backend(ssd_export / name, other_size)


def test_open_model_zoo_ir_runs_as_it_is_and_equals_its_import(ssd: Template, shared_dir: Path, tmp_path: Path) -> None:
    ir = shared_dir / "weights/openvino/face-detection-0200.xml"
    save_checkpoint(tmp_path / "imported.pth", load_weights(ir, ssd))
    picture = cv2.imread(str(shared_dir / "data/airport/train/image_000000.jpg"))
    published = Detector.open(ir, ssd).detect(picture).above(0.1)
    imported = Detector.open(tmp_path / "imported.pth", ssd, "cpu").detect(picture).above(0.1)
    assert len(published) > 0
    np.testing.assert_allclose(imported.boxes_xyxy, published.boxes_xyxy, atol=0.05)
    np.testing.assert_allclose(imported.scores, published.scores, atol=1e-4)
