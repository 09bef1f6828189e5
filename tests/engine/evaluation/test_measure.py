from __future__ import annotations

import dataclasses
import json
import math
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from scipy.io import savemat

from facekit.engine.evaluation.measure import measure
from facekit.engine.evaluation.options import EvaluateOptions
from facekit.errors import FacekitError
from facekit.labels.formats import read_labels
from facekit.labels.picture_labels import PictureLabels
from facekit.metrics.wider import read_wider_ground_truth, wider_ap
from facekit.records.evaluation import EvaluationRecord
from facekit.records.metrics_yaml import write_metrics
from facekit.results.wider import read_predictions
from facekit.template import TEMPLATES_DIR, Template, load_template
from tests.metrics.wider_files import cells, write_ground_truth


@pytest.fixture(scope="module")
def yunet() -> Template:
    return load_template(TEMPLATES_DIR / "yunet-n" / "template.yaml")


@pytest.fixture(scope="module")
def drawn(drawn_dir: Path) -> list[PictureLabels]:
    return read_labels(drawn_dir / "annotations.json", drawn_dir)


@pytest.fixture(scope="module")
def wider_dir(drawn: list[PictureLabels], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The drawn pictures as a WIDER validation set of two events; every face counts everywhere."""
    folder = tmp_path_factory.mktemp("wider")
    events = {"0--Drawn": drawn[:7], "1--More": drawn[7:]}
    for event, pictures in events.items():
        (folder / "WIDER_val" / "images" / event).mkdir(parents=True)
        for picture in pictures:
            (folder / "WIDER_val" / "images" / event / picture.path.name).write_bytes(picture.path.read_bytes())
    named = {
        event: {picture.path.stem: picture.boxes_xywh for picture in pictures} for event, pictures in events.items()
    }
    write_ground_truth(folder / "ground_truth", named)
    return folder


def measured(*args: Any) -> EvaluationRecord:
    measurement = measure(*args)
    assert measurement is not None
    return measurement.record


def values(record: EvaluationRecord) -> dict[str, float]:
    return {metric.key: metric.value for metric in record.metrics}


class TestLabelled:
    def test_all_figures(self, yunet: Template, drawn: list[PictureLabels], drawn_weights: Path) -> None:
        measurement = measure(yunet, drawn_weights, drawn, EvaluateOptions("yunet-n"))
        assert measurement is not None
        record, table = measurement.record, measurement.table
        figures = values(record)
        assert list(figures) == [
            "ap", "ap_50", "ap_50_voc07", "ap_h10", "ap_h32", "ap_64x64", "ap_h100", "recall_fp_0.01", "recall_fp_0.1",
            "recall_fp_1", "ece", "nme", "landmark_faces", "latency_p50", "latency_p90", "latency_p99", "size",
            "complexity",
        ]  # fmt: skip
        # The drawn detector knows drawn faces (data/README.md: AP 61.9 on others of them).
        assert 45 < figures["ap"] < 80
        assert 80 < figures["ap_64x64"] <= 100
        assert figures["recall_fp_0.01"] <= figures["recall_fp_0.1"] <= figures["recall_fp_1"]
        assert 1 < figures["nme"] < 15
        assert 70 < figures["landmark_faces"] <= 100
        assert 0 < figures["latency_p50"] <= figures["latency_p90"] <= figures["latency_p99"]
        assert record.published["size"] == pytest.approx(figures["size"], abs=1e-3)
        assert "scale template: own size, zero-padded to 32; score 0.02" in record.protocol
        faces = sum(len(picture.boxes_xywh) for picture in drawn)
        assert record.protocol.endswith(f"12 labelled pictures, {faces} faces; pth")
        assert record.rule == "scale template: own size, zero-padded to 32; score 0.02, NMS 0.45, no cap"
        assert f"protocol: {record.protocol}" in table
        assert [(row.group, row.name) for row in record.groups] == [
            ("height", f"over {height} px") for height in (10, 32, 64, 100)
        ]
        assert record.groups[0].faces == sum(len(picture.boxes_xywh) for picture in drawn)
        assert sum(row.detections for row in record.calibration) > 0
        assert record.crops == ()  # a page shows them, and none was asked for
        assert [curve.name for curve in record.curves] == ["all faces, IoU 0.5"]
        assert record.curves[0].ap > figures["ap"] / 100
        best = record.best_f1
        assert best is not None and best.f1_percent == max(row.f1_percent for row in record.thresholds) > 60
        assert f"best F1: score threshold {best.score_threshold:g} (precision" in table
        assert f"weights: {drawn_weights} (pth; SHA-256 {record.weights_sha256[:16]}" in table

    def test_boxes_without_landmarks_have_no_landmark_figures(
        self, yunet: Template, drawn: list[PictureLabels], drawn_weights: Path
    ) -> None:
        bare = [
            dataclasses.replace(picture, landmarks_xy=np.full_like(picture.landmarks_xy, np.nan)) for picture in drawn
        ]
        record = measured(yunet, drawn_weights, bare[:3], EvaluateOptions("yunet-n"))
        assert not {"nme", "landmark_faces"} & set(values(record))

    def test_no_faces_at_all(self, yunet: Template, drawn: list[PictureLabels], drawn_weights: Path) -> None:
        empty = [picture.take(np.zeros(len(picture.boxes_xywh), dtype=bool)) for picture in drawn[:2]]
        measurement = measure(yunet, drawn_weights, empty, EvaluateOptions("yunet-n"))
        assert measurement is not None
        record, table = measurement.record, measurement.table
        assert math.isnan(values(record)["ap"])
        assert math.isnan(values(record)["recall_fp_1"])
        assert "n/a" in table

    @pytest.mark.parametrize("batch_size", [3, 100])
    def test_batches_change_nothing(
        self, yunet: Template, drawn: list[PictureLabels], drawn_weights: Path, batch_size: int
    ) -> None:
        alone = values(measured(yunet, drawn_weights, drawn, EvaluateOptions("yunet-n", scale="160x160")))
        options = EvaluateOptions("yunet-n", scale="160x160", batch_size=batch_size)
        together = values(measured(yunet, drawn_weights, drawn, options))
        for key in ("ap", "ap_h10", "recall_fp_1", "nme"):
            assert together[key] == pytest.approx(alone[key], abs=0.05), key

    def test_flip_and_scales_stand_in_the_protocol_and_help(
        self, yunet: Template, drawn: list[PictureLabels], drawn_weights: Path
    ) -> None:
        plain = measured(yunet, drawn_weights, drawn, EvaluateOptions("yunet-n", scale="max:160"))
        options = EvaluateOptions("yunet-n", scale="max:160", multi_scale=(1.0, 2.0), flip=True)
        merged = measured(yunet, drawn_weights, drawn, options)
        words = "scales x1, x2; mirrored too; merged by box fusion at IoU 0.55".replace("; ", ", ")
        assert words in merged.protocol and words not in plain.protocol
        assert merged.protocol.startswith("scale max:160: fit into 160x160")
        assert values(merged)["ap_h10"] > values(plain)["ap_h10"] + 2

    def test_crops_show_the_mistakes(
        self, yunet: Template, drawn: list[PictureLabels], drawn_weights: Path, tmp_path: Path
    ) -> None:
        # A face that no detector finds, and one true face taken from the labels.
        picture = next(picture for picture in drawn if len(picture.boxes_xywh) > 2)
        largest = int(np.prod(picture.boxes_xywh[:, 2:], axis=1).argmax())
        keep = np.arange(len(picture.boxes_xywh)) != largest
        changed = dataclasses.replace(
            picture.take(keep),
            boxes_xywh=np.concatenate([picture.boxes_xywh[keep][:-1], [[2.0, 3, 25, 26]]]),
        )
        options = EvaluateOptions("yunet-n", report=tmp_path / "r.html")
        record = measured(yunet, drawn_weights, [changed], options)
        misses = [crop for crop in record.crops if crop.kind == "miss"]
        false = [crop for crop in record.crops if crop.kind == "false positive"]
        assert (2.0, 3.0, 27.0, 29.0) in [crop.box_xyxy for crop in misses]
        np.testing.assert_allclose(
            false[0].box_xyxy[2] - false[0].box_xyxy[0], picture.boxes_xywh[largest, 2], rtol=0.2
        )
        for crop in record.crops:
            image = cv2.imdecode(np.frombuffer(crop.jpeg, np.uint8), cv2.IMREAD_COLOR)
            assert image.shape == (240, 240, 3)
            assert crop.picture == picture.name


class TestWider:
    def test_figures_files_and_names(
        self, yunet: Template, wider_dir: Path, drawn_weights: Path, tmp_path: Path
    ) -> None:
        options = EvaluateOptions(
            "yunet-n", wider_dir=wider_dir, save_predictions=tmp_path / "hand_in", save_output_to=tmp_path / "out"
        )
        record = measured(yunet, drawn_weights, [], options)
        figures = values(record)
        assert 60 < figures["widerface_h"] <= 100
        assert "ap" not in figures
        assert {row.group for row in record.groups} == {
            "height", "event", "blur", "expression", "illumination", "occlusion", "pose",
        }  # fmt: skip
        assert [curve.name for curve in record.curves] == ["easy", "medium", "hard"]
        assert record.curves[2].ap == pytest.approx(figures["widerface_h"] / 100)
        assert len(record.curves[2].recall) == 200
        # What was written is what was measured, by the official protocol.
        ground_truth = read_wider_ground_truth(wider_dir)
        for folder in (tmp_path / "hand_in", tmp_path / "out" / "wider_predictions"):
            again = wider_ap(read_predictions(folder), ground_truth)
            assert 100 * again["hard"] == pytest.approx(figures["widerface_h"], abs=1e-9)
        assert (tmp_path / "hand_in" / "0--Drawn" / "00000.txt").is_file()

    def test_a_subset_in_which_no_face_counts_is_told(
        self, yunet: Template, wider_dir: Path, drawn_weights: Path, tmp_path: Path
    ) -> None:
        truth = shutil.copytree(wider_dir / "ground_truth", tmp_path / "truth")
        none = np.zeros((0, 1), dtype=np.uint8)
        savemat(truth / "wider_easy_val.mat", {"gt_list": cells([cells([none] * 7), cells([none] * 5)])})
        options = EvaluateOptions("yunet-n", wider_dir=wider_dir, wider_gt=truth)
        measurement = measure(yunet, drawn_weights, [], options)
        assert measurement is not None
        assert [loss.what for loss in measurement.losses] == ["wider_easy_val.mat"]
        figures = values(measurement.record)
        assert math.isnan(figures["widerface_e"]) and figures["widerface_h"] > 60
        assert [curve.name for curve in measurement.record.curves] == ["medium", "hard"]

    def test_invalid_faces_are_no_misses(
        self, yunet: Template, wider_dir: Path, drawn_weights: Path, tmp_path: Path
    ) -> None:
        # Every second picture's faces are marked invalid above.
        options = EvaluateOptions("yunet-n", wider_dir=wider_dir, report=tmp_path / "r.html", threshold=0.99)
        record = measured(yunet, drawn_weights, [], options)
        missed = {crop.picture for crop in record.crops if crop.kind == "miss"}
        names = read_wider_ground_truth(wider_dir).names
        valid = {f"{name}.jpg" for name in [*names[:7][::2], *names[7:][::2]]}
        assert missed and missed <= valid

    def test_missing_pictures_are_counted_before_anything_runs(
        self, yunet: Template, wider_dir: Path, drawn_weights: Path, tmp_path: Path
    ) -> None:
        options = EvaluateOptions("yunet-n", wider_dir=tmp_path, wider_gt=wider_dir)
        with pytest.raises(FacekitError, match="12 of the 12 pictures"):
            measure(yunet, drawn_weights, [], options)


class TestFiles:
    def test_predictions_of_labelled_pictures(
        self, yunet: Template, drawn: list[PictureLabels], drawn_weights: Path, tmp_path: Path
    ) -> None:
        measure(yunet, drawn_weights, drawn[:2], EvaluateOptions("yunet-n", save_predictions=tmp_path))
        assert list(read_predictions(tmp_path)) == ["images/00000", "images/00001"]

    def test_two_pictures_of_one_name(
        self, yunet: Template, drawn: list[PictureLabels], drawn_weights: Path, tmp_path: Path
    ) -> None:
        with pytest.raises(FacekitError, match="images/00000: two pictures"):
            measure(yunet, drawn_weights, [drawn[0], drawn[0]], EvaluateOptions("yunet-n", save_predictions=tmp_path))

    def test_page_must_be_html(
        self, yunet: Template, drawn: list[PictureLabels], drawn_weights: Path, tmp_path: Path
    ) -> None:
        with pytest.raises(FacekitError, match=r"ends in \.html"):
            measure(yunet, drawn_weights, drawn, EvaluateOptions("yunet-n", report=tmp_path / "report.pdf"))

    def test_groups_go_into_metrics_yaml_and_other_keys_stay(
        self, yunet: Template, drawn: list[PictureLabels], drawn_weights: Path, tmp_path: Path
    ) -> None:
        path = tmp_path / "metrics.yaml"
        path.write_text("owner: me\nmetrics: [{key: ap, value: 1}]\n")
        record = measured(yunet, drawn_weights, drawn[:4], EvaluateOptions("yunet-n"))
        write_metrics(path, drawn_weights, record)
        content = yaml.safe_load(path.read_text())
        assert list(content) == ["owner", "metrics", "files", "protocol", "groups", "thresholds"]
        assert content["groups"][0] == {
            "group": "height", "name": "over 10 px", "faces": record.groups[0].faces,
            "ap": round(record.groups[0].ap, 3),
        }  # fmt: skip
        assert json.dumps(content)
