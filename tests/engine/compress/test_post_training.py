"""INT8 of exported files: smaller, still right, or refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import onnx
import openvino as ov
import pytest

from facekit import quantize
from facekit.commands.quantize import Quantized
from facekit.detector import BUNDLED_WEIGHTS, Detector
from facekit.engine.compress.heads import head_layers, nodes_of_tflite
from facekit.errors import ArgumentError, FacekitError
from facekit.targets.onnx import in_float16
from facekit.targets.openvino import save_ir, taking_uint8
from facekit.targets.reading.about import about_export
from facekit.targets.writing.export import ExportSettings, export_weights
from facekit.template import find_template, load_template
from tests.targets.foreign import Numbers, graph_of, ultra_light

PORTRAIT = Path(__file__).parents[3] / "data" / "demo" / "astronaut.jpg"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled detector as both kinds of files."""
    made = tmp_path_factory.mktemp("float")
    shutil.copyfile(BUNDLED_WEIGHTS, made / "model.onnx")
    save_ir(
        ov.convert_model(BUNDLED_WEIGHTS),
        made / "model.xml",
        about_export(load_template(find_template("yunet-n")), None),
    )
    return made


def run(folder: Path, drawn_dir: Path, kind: str, **changes: object) -> Quantized:
    given: dict[str, object] = {
        "calibration_data": (str(drawn_dir), str(PORTRAIT)), "calibration_pictures": 100,
        "val_ann_files": (drawn_dir / "annotations.json",),
        "val_data_roots": (drawn_dir,), "max_drop": 5.0,
    }  # fmt: skip
    return quantize(**({"load_weights": folder / f"model{kind}"} | given | changes))


@pytest.fixture(scope="module", params=[".onnx", ".xml"])
def made(request: pytest.FixtureRequest, folder: Path, drawn_dir: Path) -> Quantized:
    return run(folder, drawn_dir, request.param)


def test_smaller_and_within_the_drop(made: Quantized) -> None:
    before, after = made.figures
    assert after.size_bytes == sum(path.stat().st_size for path in made.files)
    if made.files[0].suffix == ".onnx":
        assert after.size_bytes < 0.75 * before.size_bytes  # an IR's .xml grows as its .bin shrinks
    else:
        assert made.files[1].stat().st_size < 0.5 * (made.files[0].parent / "model.bin").stat().st_size
    assert before.ap_50 is not None and after.ap_50 is not None
    assert before.ap_50 - after.ap_50 <= 5
    assert after.landmark_error is not None and 0 < after.landmark_error < 10
    assert "protocol: " in made.table


def test_runs_without_being_told_its_template(made: Quantized) -> None:
    faces = Detector.open(made.files[0]).detect(PORTRAIT)
    (best,) = faces.above(0.5)
    expected = Detector.bundled().detect(PORTRAIT)[0]
    assert abs(best.box_xyxy - expected.box_xyxy).max() < 12
    assert abs(best.score - expected.score) < 0.15


def test_an_ir_that_takes_uint8(drawn_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="facekit")
    about = about_export(load_template(find_template("yunet-n")), None)
    model = taking_uint8(ov.convert_model(BUNDLED_WEIGHTS))
    save_ir(model, tmp_path / "model.xml", about)
    broken = tmp_path / "aa.jpg"
    broken.write_bytes(PORTRAIT.read_bytes()[:3000])
    none = {"val_ann_files": (), "val_data_roots": ()}
    with pytest.raises(FacekitError, match=r"not one of 1 pictures can be read\. .*aa\.jpg: the JPEG is cut off"):
        run(tmp_path, drawn_dir, ".xml", calibration_data=(str(broken),), **none)
    made = run(tmp_path, drawn_dir, ".xml", calibration_data=(str(broken), str(PORTRAIT)), **none)
    assert [(loss.what, loss.why[:19]) for loss in made.losses] == [(str(broken), "the JPEG is cut off")]
    assert "nothing is measured: all layers but the heads' own become INT8" in caplog.text
    detector = Detector.open(made.files[0])
    assert detector.backend.is_uint8
    assert len(detector.detect(PORTRAIT).above(0.5)) == 1


def test_a_file_in_float16_is_refused_at_once(folder: Path, drawn_dir: Path, tmp_path: Path) -> None:
    onnx.save(in_float16(onnx.load(folder / "model.onnx")), tmp_path / "model.onnx")
    with pytest.raises(FacekitError, match=r"model\.onnx: has weights in float16, expected float32"):
        run(tmp_path, drawn_dir, ".onnx")


def test_an_ir_of_others_opens_as_the_float_file_did(shared_dir: Path, drawn_dir: Path, tmp_path: Path) -> None:
    weights = shared_dir / "weights" / "openvino" / "face-detection-0200.xml"
    none = {"val_ann_files": (), "val_data_roots": ()}
    out = tmp_path / "out.xml"
    done = run(tmp_path, drawn_dir, ".xml", load_weights=weights, calibration_data=(str(PORTRAIT),), output=out, **none)
    assert done.files == [out, tmp_path / "out.bin"] and len(Detector.open(out).detect(PORTRAIT).above(0.5)) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.bin", "out.xml"]


@pytest.fixture
def plain_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a search for layers that cost too much."""
    from facekit.engine.compress import nncf_graph

    monkeypatch.setattr(
        nncf_graph.NncfGraph, "rounded",
        lambda self, fed, *_: nncf_graph.nncf.quantize(self.model, nncf_graph.nncf.Dataset(fed)),
    )  # fmt: skip


@pytest.mark.usefixtures("plain_rounding")
def test_a_validation_picture_that_cant_be_read_is_left_out(folder: Path, drawn_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(drawn_dir, tmp_path / "val")
    broken = sorted((tmp_path / "val" / "images").iterdir())[3]
    broken.write_bytes(broken.read_bytes()[:3000])
    done = run(
        folder, tmp_path / "val", ".onnx", calibration_data=(str(PORTRAIT),), max_drop=100.0,
        output=tmp_path / "out.onnx",
    )  # fmt: skip
    assert [loss.what for loss in done.losses] == [str(broken)]
    assert [row.pictures for row in done.figures] == [11, 11] and "protocol: 11 pictures; " in done.table


def test_labels_in_which_no_face_counts_are_refused_at_once(folder: Path, drawn_dir: Path, tmp_path: Path) -> None:
    labels = json.loads((drawn_dir / "annotations.json").read_text())
    for face in labels["annotations"]:
        face["iscrowd"] = 1
    (tmp_path / "crowds.json").write_text(json.dumps(labels))
    with pytest.raises(FacekitError, match=r"crowds\.json: no face of the labels counts, so AP has no value"):
        run(folder, drawn_dir, ".onnx", val_ann_files=(tmp_path / "crowds.json",), output=tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()


def test_an_opset_without_int8_is_refused_at_once(drawn_dir: Path, tmp_path: Path) -> None:
    outputs, _ = ultra_light((240, 320), Numbers(0))
    graph_of(tmp_path / "model.onnx", outputs, (240, 320), opset=9)
    with pytest.raises(FacekitError, match=r"model\.onnx: is of ONNX's opset 9, expected 10 or newer"):
        run(tmp_path, drawn_dir, ".onnx")


def test_a_tflite_file(drawn_dir: Path, tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    from facekit.targets.tflite import OVERLAY, plain_network
    from facekit.targets.writing.overlay import DONE, overlay_folder

    if not (overlay_folder(OVERLAY) / DONE).is_file():
        pytest.skip("needs the environment in the cache that the first `facekit export --formats tflite` makes")
    template = load_template(find_template("yunet-n"))
    settings = ExportSettings(("tflite",), size_hw=(320, 320))
    export_weights(BUNDLED_WEIGHTS.with_suffix(".pth"), template, tmp_path, settings)
    nodes, outputs = nodes_of_tflite(plain_network(tmp_path / "model.nhwc.tflite"))
    assert len(head_layers(nodes, outputs)) == 24  # as in the other formats: tests/engine/compress/test_heads.py
    for name in ("model", "model.nhwc"):
        done = run(tmp_path, drawn_dir, ".tflite", load_weights=tmp_path / f"{name}.tflite", max_drop=8.0)
        assert [path.name for path in done.files] == [f"{name}_int8.tflite"]
        before, after = done.figures
        assert after.size_bytes < 0.75 * before.size_bytes
        (best,) = Detector.open(done.files[0]).detect(PORTRAIT).above(0.5)
        (expected,) = Detector.open(tmp_path / f"{name}.tflite").detect(PORTRAIT).above(0.5)
        assert abs(best.box_xyxy - expected.box_xyxy).max() < 12 and abs(best.score - expected.score) < 0.15
    with pytest.raises(FacekitError, match="is INT8 already"):
        quantize(done.files[0], calibration_data=(str(drawn_dir),), output=tmp_path / "again.tflite")


def test_int8_is_not_rounded_again(made: Quantized, drawn_dir: Path) -> None:
    with pytest.raises(FacekitError, match="is INT8 already"):
        quantize(made.files[0], calibration_data=(str(drawn_dir),), output=made.files[0].with_stem("again"))


@pytest.mark.usefixtures("plain_rounding")
def test_a_loss_that_is_too_large_leaves_nothing(
    folder: Path, drawn_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from facekit.engine.compress import post_training

    figures = iter([90.0, 90.0, 80.0])  # before, as NNCF is told, and after
    monkeypatch.setattr(post_training, "ap_50", lambda measured: next(figures, 80.0) if measured.pictures else None)
    with pytest.raises(FacekitError, match=r"INT8 loses 10\.00 points of AP, over the 0\.5"):
        run(folder, drawn_dir, ".onnx", max_drop=0.5, output=folder / "bad.onnx")
    assert not (folder / "bad.onnx").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"load_weights": "model.pth"}, "expected an exported .onnx, .xml, .tflite file"),
        ({"output": "other.xml"}, "expected a .onnx file"),
        ({"output": "model.onnx"}, "reads it|would be written over|this command reads"),
    ],
)
def test_refused(folder: Path, drawn_dir: Path, changes: dict[str, str], words: str) -> None:
    paths = {name: folder / value for name, value in ({"load_weights": "model.onnx"} | changes).items()}
    (folder / "model.pth").touch()
    with pytest.raises((ArgumentError, FacekitError), match=words):
        quantize(calibration_data=(str(drawn_dir),), **paths)
