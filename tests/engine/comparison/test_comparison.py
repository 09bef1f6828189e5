"""Detectors in processes of their own: what they are called, what is measured, what is left out."""

from __future__ import annotations

import csv
import io
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from facekit import Detector
from facekit.cli import main
from facekit.commands.benchmark import benchmark
from facekit.commands.compare import compare, parse_size
from facekit.detector import BUNDLED_WEIGHTS
from facekit.engine.comparison.contender import Contender, Named, distinct, parse_named
from facekit.engine.comparison.worker import rescaled
from facekit.errors import ArgumentError, FacekitError, Loss
from facekit.pages.speed import speed_page
from facekit.records.evaluation import Metric
from facekit.records.speed import Comparison, Measured, Timing
from facekit.targets.writing.check_pictures import portrait
from facekit.template import find_template, load_template
from tests.metrics.wider_files import write_ground_truth
from tests.targets.foreign import Numbers, graph_of, scrfd, yolo5face_boxes


class TestNames:
    def test_words_of_the_command_line(self, tmp_path: Path) -> None:
        file = tmp_path / "a.onnx"
        file.touch()
        (odd := tmp_path / "a=b@c.onnx").touch()
        assert parse_named(str(file)) == [Named("a.onnx", file, None, None, "onnx")]
        assert parse_named(f"{file}@openvino") == [Named("a.onnx @openvino", file, None, None, "openvino")]
        assert parse_named(f"yunet-n={file}@facedetectoryn") == [
            Named("a.onnx @facedetectoryn", file, "yunet-n", None, "facedetectoryn")
        ]
        assert parse_named(f"centerface={file}") == [Named("a.onnx", file, None, "centerface", "onnx")]
        assert parse_named(str(odd)) == [Named("a=b@c.onnx", odd, None, None, "onnx")]
        assert [one.backend for one in parse_named(str(file), ("pytorch", "opencv", "onnx"))] == ["opencv", "onnx"]
        assert parse_named("bundled")[0].weights == BUNDLED_WEIGHTS

    def test_files_of_one_name(self, tmp_path: Path) -> None:
        alike = [Named("a.onnx", tmp_path / folder / "a.onnx", None, None, "onnx") for folder in ("x", "y", "y")]
        assert [one.name for one in distinct(alike)] == ["x/a.onnx", "y/a.onnx", "y/a.onnx (2)"]

    @pytest.mark.parametrize(("word", "complaint"), [
        ("nowhere.onnx", "there are no such weights"), ("bundled@onx", r"no runtime 'onx'\. Did you mean onnx\?"),
        ("bundled@pytorch", "pytorch doesn't read facekit.onnx; onnx, opencv"), (__file__, "unknown kind"),
    ])  # fmt: skip
    def test_refusals(self, word: str, complaint: str) -> None:
        with pytest.raises(FacekitError, match=complaint):
            parse_named(word)

    def test_one_that_is_not_there_leaves_the_others(self, monkeypatch: pytest.MonkeyPatch) -> None:
        measured: list[str] = []

        def measure(contenders: list[Named], plan: object) -> tuple[None, list[Loss]]:
            measured.extend(named.name for named in contenders)
            return None, [Loss("b", "can't be run")]

        monkeypatch.setattr("facekit.engine.comparison.compare.compare_detectors", measure)
        losses = compare(models=("nowhere.onnx", "bundled", "bundled@onx")).losses
        assert measured == ["bundled"]
        assert [loss.what for loss in losses] == ["nowhere.onnx", "bundled@onx", "b"]
        with pytest.raises(FacekitError, match=r"^nowhere\.onnx: there are no such weights\. .*Nothing is left"):
            compare(models=("nowhere.onnx", "nowhere.xml"))

    def test_sizes(self) -> None:
        assert parse_size("320x240") == (320, 240)
        for text in ("320", "8x8", "320x", "99999x20"):
            with pytest.raises(ArgumentError, match="expected WIDTHxHEIGHT"):
                parse_size(text)


def test_a_process_finds_what_the_detector_finds() -> None:
    with Contender(parse_named("bundled")[0], threads=1) as contender:
        opened = contender.open(portrait(), (320, 240), "template")
        assert (opened["detector"], opened["fed_hw"]) == ("yunet-n", [256, 320])
        assert 0 < opened["cold_start_s"] < 60
        pictures = contender.ask("detect", pictures=[(str(portrait()), None), ("nowhere.jpg", None)])["pictures"]
        expected = Detector.bundled(threads=1).detect(portrait())
        found = np.array(pictures[0]["faces"])
        np.testing.assert_allclose(found[:, :4], expected.boxes_xyxy, atol=1e-3)
        np.testing.assert_allclose(found[:, 4], expected.scores, atol=1e-5)
        assert "nowhere.jpg" in pictures[1]["lost"]
        assert len(contender.ask("time", times=2)["seconds"]) == 2
        assert contender.ask("memory")["peak_bytes"] > 30 << 20
        contender.process.kill()
        with pytest.raises(FacekitError, match="bundled: its process has ended: signal SIGKILL"):
            contender.ask("memory")


def test_scale_is_for_detectors_of_any_size() -> None:
    yunet, ssd = (load_template(find_template(name)) for name in ("yunet-n", "face-detection-0200"))
    assert rescaled(yunet, "640").protocol().startswith("fit into 640x640")
    assert rescaled(ssd, "640") == ssd


def test_compare_measures_and_leaves_out(tmp_path: Path, drawn_dir: Path) -> None:
    outputs, _ = scrfd((64, 96), Numbers(0))
    foreign = graph_of(tmp_path / "foreign.onnx", outputs, (64, 96))
    (tmp_path / "cut.onnx").write_bytes(BUNDLED_WEIGHTS.read_bytes()[:9000])
    rows, _ = yolo5face_boxes((64, 96), Numbers(0))
    rows["rows"][:] = math.nan
    graph_of(tmp_path / "nan.onnx", rows, (64, 96))
    written = [tmp_path / name for name in ("out.csv", "out.json", "out.html")]
    done = compare(
        ("bundled", str(foreign), str(tmp_path / "cut.onnx"), str(tmp_path / "nan.onnx")),
        data=drawn_dir / "annotations.json", threads=(1,), rounds=1, size="160x128",
        csv=written[0], json=written[1], report=written[2],
    )  # fmt: skip
    ours, peer = done.comparison.rows
    assert [loss.what for loss in done.losses] == ["cut.onnx", "nan.onnx"]
    assert "not all numbers" in done.losses[1].why
    assert (ours.detector, peer.detector) == ("yunet-n", "scrfd")
    assert ours.parameters == 75_856 and ours.fed_wh == (160, 128)
    assert ours.files == {"facekit.onnx": BUNDLED_WEIGHTS.stat().st_size}
    assert 0 <= peer.metric("ap") < ours.metric("ap") <= 100
    assert ours.timings[0].latency_p50_ms <= ours.timings[0].latency_p95_ms
    text = done.text()
    assert "bundled: own size, zero-padded to 32; score 0.02, NMS 0.45, no cap" in text
    lines = list(csv.DictReader(io.StringIO(written[0].read_text(encoding="utf-8"))))
    assert [line["name"] for line in lines] == ["bundled", "foreign.onnx"]
    assert float(lines[0]["ap"]) == pytest.approx(ours.metric("ap"), abs=1e-3)
    assert json.loads(written[1].read_text(encoding="utf-8"))["rows"][0]["parameters"] == 75_856
    assert "bundled" in written[2].read_text(encoding="utf-8")


def test_accuracy_is_said_of_what_was_looked_at(drawn_dir: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(drawn_dir, tmp_path / "own")
    labels = json.loads((folder / "annotations.json").read_text())
    broken = folder / labels["images"][0]["file_name"]
    broken.write_bytes(broken.read_bytes()[:3000])
    kept = [face for face in labels["annotations"] if face["image_id"] != labels["images"][0]["id"]]
    kept[0]["iscrowd"] = 1
    (folder / "annotations.json").write_text(json.dumps(labels))
    done = compare(("bundled",), data=folder / "annotations.json", rounds=1, size="96x64")
    words = f"11 labelled pictures, 1 unreadable left out, {len(kept) - 1} faces, 1 crowd ignored"
    assert done.comparison.data == f"COCO's, {words} (own/annotations.json)" and words in done.text()
    assert [loss.what for loss in done.losses] == [str(broken)]


def test_a_wider_picture_that_cant_be_read_is_named(tmp_path: Path) -> None:
    images = tmp_path / "WIDER_val" / "images" / "0--Parade"
    images.mkdir(parents=True)
    faces = np.array([[10.0, 10, 30, 40]])
    write_ground_truth(tmp_path / "ground_truth", {"0--Parade": {"a": faces, "b": faces}})
    (images / "a.jpg").write_bytes(portrait().read_bytes())
    (images / "b.jpg").write_bytes(portrait().read_bytes()[:3000])
    done = compare(("bundled",), data=tmp_path, rounds=1, size="96x64")
    assert [loss.what for loss in done.losses] == [str(images / "b.jpg"), "AP"]
    assert "the JPEG is cut off" in done.losses[0].why
    (row,) = done.comparison.rows
    assert row.timings and not row.metrics and not done.comparison.data


def test_benchmark_of_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["benchmark", str(BUNDLED_WEIGHTS), "--size", "96x64", "--rounds", "1", "--threads", "1"])
    assert ended.value.code == 0
    assert "75.9" in capsys.readouterr().out
    with pytest.raises(FacekitError, match="Nothing is left to compare"):
        benchmark(BUNDLED_WEIGHTS, layout="scrfd", rounds=1)


def made(name: str, ap: float, latency_ms: float) -> Measured:
    timings = tuple(Timing(threads, 0.5, latency_ms / threads, latency_ms, 10.0, None) for threads in (1, 2))
    metrics = (Metric("widerface_e", "WiderFace Easy", "%", ap),)
    return Measured(name, "yunet", "onnx", "own size", {"a.onnx": 2000}, None, 3_000_000, (64, 96), timings, metrics)


def test_the_page_and_the_tables_hold_what_is_not_defined() -> None:
    rows = (made("<a>", 50.0, 20.0), made("b", math.nan, 10.0))
    comparison = Comparison(rows, "portrait.jpg, 640x480", 9, "12 pictures", "now", "a machine", {"facekit": "1"})
    page = speed_page(comparison)
    assert "<a>" not in page and "&lt;a&gt;: 50.00 at 20.00" in page and "b: nan" not in page
    assert page.count("<tr>") == 1 + 4 + 1 + 2  # figures with a row a number of threads, and protocols
    assert "n/a" in comparison.text()
    assert comparison.to_csv().count("\n") == 5
    assert json.loads(comparison.to_json())["rows"][1]["metrics"][0]["value"] is None
