"""What a training is told before it starts and while it goes wrong."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import numpy as np
import pytest
import torch

import facekit
from facekit.engine.training.options import TrainOptions
from facekit.engine.training.preflight import likely_mistakes, share_under_every_prior, trained_on_too
from facekit.engine.training.train import train
from facekit.errors import FacekitError
from facekit.labels.formats.coco import write_coco
from facekit.labels.learnable import check_learnable, count_by_source, count_faces
from facekit.labels.picture_labels import PictureLabels
from facekit.models import build_model
from facekit.template import Template, find_template, load_template
from facekit.weights.checkpoint import Checkpoint, new_meta, save_checkpoint
from facekit.weights.torch_file import read_torch_file
from tests.engine.training.support import ellipse_pictures
from tests.engine.training.test_train import assert_equal_weights, small_template


def crowds(pictures: list[PictureLabels]) -> list[PictureLabels]:
    return [dataclasses.replace(picture, is_crowd=np.ones(1, bool)) for picture in pictures]


def negatives(pictures: list[PictureLabels]) -> list[PictureLabels]:
    return [picture.take(np.zeros(1, bool)) for picture in pictures]


def mistakes(pictures: list[PictureLabels], batch_size: int = 8, template: Template | None = None) -> str:
    template = small_template() if template is None else template
    network = build_model(template)
    return "\n".join(likely_mistakes(template, pictures, network, network.head, batch_size))


class TestCounts:
    def test_by_source(self, tmp_path: Path) -> None:
        faces = [dataclasses.replace(picture, source="x/a.json") for picture in ellipse_pictures(tmp_path, 4)]
        faces[1:3] = [*crowds(faces[1:2]), *negatives(faces[2:3])]
        faces[3] = dataclasses.replace(faces[3], landmarks_xy=np.full((1, 5, 2), np.nan), source="y/b.json")
        a, b = count_by_source(faces, min_face_size=37)  # the faces are 36 wide
        assert a.line(37) == (
            "x/a.json: 3 pictures (1 without faces); 0 faces to learn; 1 crowds or difficult faces ignored; 1 under 37 "
            "px left out"
        )
        assert (b.learnt, b.small, b.without_landmarks) == (0, 1, 0)
        assert count_by_source(faces)[1].without_landmarks == 1

    @pytest.mark.parametrize(
        ("change", "least", "reason"),
        [(crowds, 0, "all 2 faces are crowds"), (negatives, 0, "not one of the 2 pictures has a face"),
         (list, 40, "all 2 faces have a side under 40 pixels")],
    )  # fmt: skip
    def test_nothing_to_learn(self, tmp_path: Path, change: type, least: float, reason: str) -> None:
        with pytest.raises(FacekitError, match=f"nothing for training: {reason}.*: none to learn"):
            check_learnable(change(ellipse_pictures(tmp_path, 2)), least, "training")

    def test_pictures_for_a_teacher_are_no_mistake(self, tmp_path: Path) -> None:
        unlabelled = [
            dataclasses.replace(picture, is_labelled=False) for picture in negatives(ellipse_pictures(tmp_path, 2))
        ]
        check_learnable(unlabelled, 0, "training")
        assert count_faces(unlabelled).negatives == 0
        assert mistakes(unlabelled) == ""


class TestLikelyMistakes:
    def test_none(self, tmp_path: Path) -> None:
        assert mistakes(ellipse_pictures(tmp_path, 3)) == ""

    def test_half_negatives(self, tmp_path: Path) -> None:
        pictures = ellipse_pictures(tmp_path, 4)
        assert mistakes([*pictures[:3], *negatives(pictures[3:])]) == ""
        assert "2 of 4 labelled pictures (50%) have no face" in mistakes([*pictures[:2], *negatives(pictures[2:])])

    def test_small_batches_with_batch_norm(self, tmp_path: Path) -> None:
        pictures = ellipse_pictures(tmp_path, 2)
        assert "Batch norms will measure 3 pictures at a time" in mistakes(pictures, batch_size=3)
        assert mistakes(pictures, batch_size=4) == ""
        template = small_template()
        still = dataclasses.replace(template, training=dataclasses.replace(template.training, frozen_batch_norm=True))
        assert mistakes(pictures, batch_size=1, template=still) == ""

    def test_faces_under_every_prior(self, tmp_path: Path) -> None:
        template = load_template(find_template("face-detection-0200"))
        network = build_model(template)
        pictures = ellipse_pictures(tmp_path, 3)
        tiny = [dataclasses.replace(picture, boxes_xywh=np.array([[40.0, 40, 3, 3]])) for picture in pictures]
        crop = dataclasses.replace(template.augmentation, min_face_size=1)
        template = dataclasses.replace(template, augmentation=crop)
        assert share_under_every_prior(template, pictures, network.head) == 0
        assert share_under_every_prior(template, tiny, network.head) > 0.5  # a crop may make one larger
        assert "facekit priors" in mistakes(tiny, template=template)

    def test_faces_under_the_least_size(self, tmp_path: Path) -> None:
        template = small_template()
        least = dataclasses.replace(template.augmentation, min_face_size=37)
        text = mistakes(ellipse_pictures(tmp_path, 2), template=dataclasses.replace(template, augmentation=least))
        assert "2 of 2 faces have a side under 37 px" in text


class TestTrainedOnToo:
    def test_by_whatever_name(self, tmp_path: Path) -> None:
        pictures = ellipse_pictures(tmp_path, 4)
        assert trained_on_too(pictures[:2], pictures[2:]) is None
        assert trained_on_too(pictures, []) is None
        (tmp_path / "link.png").symlink_to(pictures[0].path)
        (tmp_path / "hard.png").hardlink_to(pictures[1].path)
        others = [dataclasses.replace(pictures[0], path=tmp_path / name) for name in ("link.png", "hard.png", "no.png")]
        text = trained_on_too(pictures[:3], [*others, pictures[3]])
        assert text is not None and text.startswith("2 of 4 validation pictures are trained on too")

    def test_is_said_again_at_the_end(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        labels = tmp_path / "labels.json"
        pictures = ellipse_pictures(tmp_path, 4)
        write_coco(labels, [(picture.path.name, picture) for picture in pictures])
        flags = {"template": "yunet-n", "epochs": 1, "max_iterations": 1, "workers": 0, "gpu_num": 0, "batch_size": 4}
        with caplog.at_level("INFO", "facekit"):
            facekit.train(
                train_ann_files=labels, val_ann_files=labels, save_checkpoints_to=tmp_path / "out", **flags
            )  # fmt: skip
        said = [record.getMessage() for record in caplog.records]
        assert said[-1].startswith("4 of 4 validation pictures are trained on too")
        assert said.index(said[-1]) < said.index(next(text for text in said if text.startswith("Training yunet-n")))


class TestStart:
    """Training from weights that find the faces: nothing may be called better than they are."""

    @pytest.fixture(scope="class")
    def trained(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """A start whose AP, as the test has it measured, is over what follows."""
        folder = tmp_path_factory.mktemp("start")
        template = small_template()
        torch.manual_seed(0)
        meta = new_meta(template, 2, 4)
        save_checkpoint(folder / "start.pth", Checkpoint(meta, build_model(template).state_dict()))
        return folder

    def run(
        self, folder: Path, out: Path, aps: list[float], monkeypatch: pytest.MonkeyPatch, **flags: object
    ) -> list[float]:
        """Trains with these APs for evaluations; returns those that are left."""
        left = list(aps)

        def evaluate(*_: object) -> list[object]:
            from facekit.records.evaluation import Metric

            return [Metric("ap", "AP", "%", left.pop(0))]

        monkeypatch.setattr("facekit.engine.training.validation.evaluate_labelled", evaluate)
        pictures = ellipse_pictures(folder, 4)
        train(small_template(), pictures, pictures[:2], TrainOptions(save_checkpoints_to=out, template="yunet-n",
              workers=0, **flags))  # type: ignore[arg-type]  # fmt: skip
        return left

    def test_best_is_the_start_until_an_epoch_is_better(
        self, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        start = trained / "start.pth"
        with caplog.at_level(logging.INFO, "facekit"):
            assert self.run(trained, tmp_path, [78.0, 10.0, 77.9], monkeypatch, load_weights=start) == []
        assert_equal_weights(tmp_path / "best.pth", start)
        assert "epoch 1: AP 10.00 % is below the 78.00 % that training started from" in caplog.text
        assert "epoch 2: AP 77.90 %" in caplog.text
        assert "best so far" not in caplog.text
        meta = read_torch_file(tmp_path / "latest.pth")["meta"]
        assert (meta["best_ap"], meta["start_ap"]) == (78.0, 78.0)

    def test_a_better_epoch_takes_its_place(
        self, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        self.run(trained, tmp_path, [30.0, 31.0, 20.0], monkeypatch, load_weights=trained / "start.pth")
        assert_equal_weights(tmp_path / "best.pth", tmp_path / "epoch_1.pth")
        assert "epoch 2: AP 20.00 % is below the 30.00 %" in caplog.text

    def test_the_bar_outlives_an_interruption(
        self, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        self.run(trained, tmp_path, [30.0, 20.0], monkeypatch, load_weights=trained / "start.pth", epochs=1)
        caplog.clear()
        assert self.run(trained, tmp_path, [25.0], monkeypatch, resume_from=tmp_path / "latest.pth") == []
        assert "epoch 2: AP 25.00 % is below the 30.00 %" in caplog.text
        assert_equal_weights(tmp_path / "best.pth", trained / "start.pth")

    def test_random_weights_are_not_measured(
        self, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert self.run(trained, tmp_path, [1.0, 2.0], monkeypatch, from_scratch=True) == []
        assert_equal_weights(tmp_path / "best.pth", tmp_path / "epoch_2.pth")

    def test_a_crowd_teaches_nothing_at_all(self, trained: Path, tmp_path: Path) -> None:
        options = TrainOptions(save_checkpoints_to=tmp_path / "out", template="yunet-n", workers=0)
        with pytest.raises(FacekitError, match="all 2 faces are crowds"):
            train(small_template(), crowds(ellipse_pictures(trained, 2)), [], options)
        assert not (tmp_path / "out").exists()
