"""Trainings with a teacher, and teachers that can't be."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from facekit.base.reading import file_sha256
from facekit.engine.training.distill import (
    open_teacher,
    pictures_without_labels,
)
from facekit.engine.training.options import TrainOptions
from facekit.engine.training.train import train
from facekit.errors import FacekitError
from facekit.labels.formats import read_labels
from facekit.labels.picture_labels import PictureLabels
from facekit.records.run import read_record
from facekit.template import TEMPLATES_DIR, SquareCrop, Template
from facekit.weights.torch_file import read_torch_file
from tests.engine.training.test_distill import head_of, template_of

CPU = torch.device("cpu")


def student_template() -> Template:
    """yunet-n on small pictures, without colour distortion: it over-fits in seconds."""
    template = template_of("yunet-n")
    return dataclasses.replace(
        template,
        input=dataclasses.replace(template.input, size_hw=(160, 160)),
        augmentation=dataclasses.replace(
            template.augmentation, photometric=None, crop=SquareCrop("square", (1.0,), 10, 0), min_face_size=0
        ),
        training=dataclasses.replace(
            template.training, batch_size=4, epochs=1, dataset_repeats=8, base_learning_rate=0.002, warmup_iterations=1,
        ),
    )  # fmt: skip


@pytest.fixture
def box_labels(drawn_dir: Path) -> list[PictureLabels]:
    """Drawn pictures whose labels are boxes alone."""
    pictures = [
        picture for picture in read_labels(drawn_dir / "annotations.json", drawn_dir) if len(picture.boxes_xywh)
    ]
    return [
        dataclasses.replace(picture, landmarks_xy=np.full_like(picture.landmarks_xy, np.nan))
        for picture in pictures[:6]
    ]


def losses_of(folder: Path, name: str) -> list[float]:
    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [record[name] for record in map(json.loads, lines) if name in record]


class TestTraining:
    def test_landmarks_are_learnt_from_box_labels(
        self, box_labels: list[PictureLabels], drawn_weights: Path, tmp_path: Path
    ) -> None:
        yunet = TEMPLATES_DIR / "yunet-n" / "template.yaml"
        options = TrainOptions(
            "yunet-n",
            save_checkpoints_to=tmp_path / "taught",
            workers=0,
            epochs=8,
            teacher=drawn_weights,
            teacher_template=yunet,
            from_scratch=True,
        )
        train(student_template(), box_labels, [], options)
        marks = losses_of(tmp_path / "taught", "loss_teacher_landmarks")
        assert marks[0] > 0
        assert np.mean(marks[-2:]) < 0.7 * marks[0]
        assert losses_of(tmp_path / "taught", "loss_teacher")[-1] < losses_of(tmp_path / "taught", "loss_teacher")[0]

        alone = dataclasses.replace(
            options, save_checkpoints_to=tmp_path / "alone", teacher=None, teacher_template=None
        )
        train(student_template(), box_labels, [], dataclasses.replace(alone, epochs=1))
        assert set(losses_of(tmp_path / "alone", "loss_landmarks")) == {0.0}

    def test_record_and_exact_resumption(
        self, box_labels: list[PictureLabels], drawn_dir: Path, drawn_weights: Path, tmp_path: Path
    ) -> None:
        """Pictures without labels among them."""
        template = dataclasses.replace(
            student_template(), training=dataclasses.replace(student_template().training, dataset_repeats=1)
        )
        pictures = box_labels + pictures_without_labels(drawn_dir / "images")[:2]
        yunet = TEMPLATES_DIR / "yunet-n" / "template.yaml"
        options = TrainOptions(
            "yunet-n",
            save_checkpoints_to=tmp_path / "whole",
            workers=0,
            epochs=2,
            teacher=drawn_weights,
            teacher_template=yunet,
        )
        train(template, pictures, [], options)
        parts = dataclasses.replace(options, save_checkpoints_to=tmp_path / "parts")
        # The learning rate's course ends where the run ends: stopped in between, not planned shorter.
        train(template, pictures, [], dataclasses.replace(parts, epochs=1))
        train(template, pictures, [], dataclasses.replace(parts, resume_from=tmp_path / "parts" / "latest.pth"))
        whole, again = (read_torch_file(tmp_path / name / "latest.pth")["state_dict"] for name in ("whole", "parts"))
        assert all(torch.equal(whole[name], again[name]) for name in whole)
        record = read_record(tmp_path / "parts" / "run.json")
        assert record.teacher is not None
        assert record.teacher.weights.sha256 == file_sha256(drawn_weights)
        assert record.teacher.weights.path == str(drawn_weights.resolve())
        assert record.teacher.template["name"] == "yunet-n"
        assert record.flags["teacher_weight"] == 1.0

    def test_without_any_label_a_student_finds_faces(
        self, drawn_dir: Path, drawn_weights: Path, tmp_path: Path
    ) -> None:
        pictures = pictures_without_labels(drawn_dir / "images")[:4]
        yunet = TEMPLATES_DIR / "yunet-n" / "template.yaml"
        options = TrainOptions(
            "yunet-n",
            save_checkpoints_to=tmp_path,
            workers=0,
            epochs=12,
            teacher=drawn_weights,
            teacher_template=yunet,
            from_scratch=True,
        )
        train(student_template(), pictures, [], options)
        for part in ("loss_box", "loss_landmarks", "loss_teacher_box", "loss_teacher_landmarks"):
            course = losses_of(tmp_path, part)
            assert 0 < np.mean(course[-2:]) < course[0]


class TestPicturesWithoutLabels:
    def test_folder_and_labels(self, drawn_dir: Path) -> None:
        of_folder = pictures_without_labels(drawn_dir)
        of_labels = pictures_without_labels(drawn_dir / "annotations.json")
        assert [picture.path.name for picture in of_folder] == [picture.path.name for picture in of_labels]
        assert len(of_folder) == 12
        for picture in of_folder + of_labels:
            assert not picture.is_labelled and not len(picture.boxes_xywh)

    def test_none_there(self, tmp_path: Path) -> None:
        with pytest.raises(FacekitError, match=r"`distill_pictures` .*: no pictures there"):
            pictures_without_labels(tmp_path)
        with pytest.raises(FacekitError, match=r"`distill_pictures` .*nix: there is no such folder"):
            pictures_without_labels(tmp_path / "nix")


class TestWrongTeacher:
    def test_needs_its_template(self, tmp_path: Path, drawn_weights: Path) -> None:
        with pytest.raises(FacekitError, match=r"`teacher` .* and `teacher_template` .* together"):
            train(
                student_template(), [], [], TrainOptions("yunet-n", save_checkpoints_to=tmp_path, teacher=drawn_weights)
            )

    def test_pictures_need_a_teacher(self, drawn_dir: Path, tmp_path: Path) -> None:
        with pytest.raises(FacekitError, match="need a `teacher`"):
            train(
                student_template(),
                pictures_without_labels(drawn_dir),
                [],
                TrainOptions("yunet-n", save_checkpoints_to=tmp_path),
            )

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(FacekitError, match=r"`teacher=.*none\.pth`: there is no such file"):
            open_teacher(tmp_path / "none.pth", template_of("yunet-n"), head_of("yunet-n"), (64, 64), 1.0, CPU)

    def test_of_no_landmarks_to_weigh(self, drawn_weights: Path) -> None:
        template, head = template_of("yunet-n"), head_of("scrfd-0.5g")
        with pytest.raises(FacekitError, match=r"`teacher_landmark_weight` .* other priors.* Leave it out"):
            open_teacher(drawn_weights, template, head, (64, 64), 1.0, CPU, None, 20.0)
        same = head_of("yunet-n")
        assert open_teacher(drawn_weights, template, same, (64, 64), 1.0, CPU, None, 20.0).landmark_weight == 20
        assert open_teacher(drawn_weights, template, same, (64, 64), 1.0, CPU).landmark_weight == 10

    def test_of_another_template(self, drawn_weights: Path) -> None:
        with pytest.raises(
            FacekitError, match=r"`teacher` .*`teacher_template=scrfd-0\.5g`\): .*yunet-n-drawn\.pth.*don't fit"
        ):
            open_teacher(drawn_weights, template_of("scrfd-0.5g"), head_of("yunet-n"), (64, 64), 1.0, CPU)
