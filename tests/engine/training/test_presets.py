from __future__ import annotations

import dataclasses
import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facekit.engine.training.presets import (
    DataSize,
    Given,
    Preset,
    PresetName,
    adapt,
    choose_preset,
    measure_data,
)
from facekit.engine.training.schedule import make_schedule
from facekit.labels.picture_labels import PictureLabels
from facekit.template import TEMPLATES_DIR, CosineDecay, EarlyStopping, Template, find_template, load_template

NAMES = sorted(path.parent.name for path in TEMPLATES_DIR.glob("*/template.yaml"))
SIZES = (1, 10, 300, 1300, 13_000, 100_000)
NO_FLAGS = Given()


def template_of(name: str) -> Template:
    return load_template(find_template(name))


def data_of(pictures: int, val_faces: int = 1000) -> DataSize:
    return DataSize(pictures, pictures * 12, pictures * 8, 25.0, val_faces)


def preset_of(kind: PresetName, pictures: int, name: str = "yunet-n", given: Given = NO_FLAGS, **more: Any) -> Preset:
    return choose_preset(kind, template_of(name), data_of(pictures), given, **more)


def steps_of(preset: Preset, pictures: int) -> int:
    settings = preset.template.training
    return settings.epochs * math.ceil(pictures * settings.dataset_repeats / settings.batch_size)


class TestFineTune:
    @pytest.mark.parametrize(
        ("pictures", "batch", "epochs", "repeats", "rate", "frozen_norm"),
        [
            (10, 4, 20, 4, 8.33e-6, True),
            (300, 16, 20, 1, 3.33e-5, True),
            (1300, 16, 20, 1, 3.33e-5, True),
            (13_000, 16, 3, 1, 1e-3, False),
            (100_000, 16, 3, 1, 1e-3, False),
        ],
    )
    def test_yunet(self, pictures: int, batch: int, epochs: int, repeats: int, rate: float, frozen_norm: bool) -> None:
        settings = preset_of("fine-tune", pictures).template.training
        assert (settings.batch_size, settings.epochs, settings.dataset_repeats) == (batch, epochs, repeats)
        assert settings.base_learning_rate == pytest.approx(rate)
        assert (settings.frozen, settings.frozen_batch_norm) == ((), frozen_norm)
        assert settings.start_share == (0 if not frozen_norm else 0.5 if pictures == 10 else 0.25)

    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("pictures", SIZES)
    def test_is_careful(self, name: str, pictures: int) -> None:
        before, preset = template_of(name).training, preset_of("fine-tune", pictures, name)
        settings, steps = preset.template.training, steps_of(preset, pictures)
        assert settings.base_learning_rate <= before.base_learning_rate / 10
        assert settings.batch_size <= before.batch_size
        assert 3 <= settings.epochs <= 20
        assert steps >= 200
        schedule = make_schedule(settings, None, steps, {})
        assert schedule(0, 0) <= 0.002 * settings.base_learning_rate  # by warm-up
        assert schedule(0, steps) == pytest.approx(settings.base_learning_rate / 100)
        assert settings.ema_decay is not None and 10 <= 1 / (1 - settings.ema_decay) <= max(steps / 9, 11)

    def test_one_epoch_of_the_1300(self) -> None:
        settings = preset_of("fine-tune", 1300, given=Given(epochs=1)).template.training
        assert (settings.epochs, settings.dataset_repeats, settings.early_stopping) == (1, 1, None)
        assert settings.base_learning_rate == pytest.approx(0.01 / 300, rel=0.01)
        assert settings.warmup_iterations == 8

    @pytest.mark.parametrize(("learnt", "is_careful"), [(150, True), (200, False)])
    def test_few_faces_in_many_pictures(self, learnt: int, is_careful: bool) -> None:
        size = DataSize(10_000, 50_000, learnt, 8.0, 1000)
        settings = choose_preset("fine-tune", template_of("ultralight-rfb-320"), size, NO_FLAGS).template.training
        assert (settings.frozen_batch_norm, settings.start_share) == (is_careful, 0.5 * is_careful)


class TestScratch:
    @pytest.mark.parametrize(
        ("pictures", "batch", "epochs", "repeats", "rate", "val_interval"),
        [
            (10, 4, 640, 2, 2.5e-3, 12),
            (300, 16, 640, 1, 0.01, 12),
            (1300, 16, 640, 1, 0.01, 12),
            (12_880, 16, 640, 1, 0.01, 12),
            (100_000, 16, 82, 1, 0.01, 1),  # 640 * 12880 / 100000
        ],
    )
    def test_yunet(
        self, pictures: int, batch: int, epochs: int, repeats: int, rate: float, val_interval: int
    ) -> None:  # fmt: skip
        preset = preset_of("scratch", pictures)
        settings = preset.template.training
        assert (settings.batch_size, settings.epochs, settings.dataset_repeats) == (batch, epochs, repeats)
        assert settings.base_learning_rate == pytest.approx(rate)
        assert preset.val_interval == val_interval

    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("pictures", SIZES)
    def test_learns_all(self, name: str, pictures: int) -> None:
        preset = preset_of("scratch", pictures, name)
        settings = preset.template.training
        assert not settings.frozen and not settings.frozen_batch_norm
        assert steps_of(preset, pictures) >= 3000 and settings.epochs >= 20
        assert settings.base_learning_rate <= template_of(name).training.base_learning_rate

    def test_repeats_of_the_template_count(self) -> None:
        """The SSDs go through the set twice in each of 70 epochs."""
        settings = preset_of("scratch", 12_880, "face-detection-0200").template.training
        assert (settings.epochs, settings.dataset_repeats) == (140, 1)


class TestBoth:
    @pytest.mark.parametrize("kind", ["fine-tune", "scratch"])
    def test_flags_win(self, kind: PresetName) -> None:
        given = Given(epochs=7, batch_size=3, base_learning_rate=0.5, val_interval=2)
        preset = preset_of(kind, 1300, given=given)
        settings = preset.template.training
        assert (settings.epochs, settings.batch_size, settings.base_learning_rate) == (7, 3, 0.5)
        assert preset.val_interval == 2
        reasons = {choice.name: choice.reason for choice in preset.choices}
        assert reasons["epochs"] == "`epochs`" and reasons["base_learning_rate"] == "`base_learning_rate`"

    @pytest.mark.parametrize("kind", ["fine-tune", "scratch"])
    def test_touches_nothing_but_training(self, kind: PresetName) -> None:
        before, preset = template_of("yunet-n"), preset_of(kind, 1300)
        assert dataclasses.replace(preset.template, training=before.training) == before
        kept = ("optimizer", "max_gradient_norm", "accumulate")
        assert all(getattr(preset.template.training, name) == getattr(before.training, name) for name in kept)
        assert preset.template.training.schedule == CosineDecay("cosine", 0.01)

    def test_batch_and_rate(self) -> None:
        """A quarter of the batch: a quarter of SGD's rate, half of Adam's."""
        for name, rate in (("yunet-n", 0.01 / 4), ("retinaface-mobilenetv1-0.25", 1e-3 / 2)):
            batch_size = template_of(name).training.batch_size // 4
            settings = preset_of("scratch", 13_000, name, given=Given(batch_size=batch_size)).template.training
            assert settings.base_learning_rate == pytest.approx(rate)

    def test_processes_share_an_epoch(self) -> None:
        one, four = (preset_of("fine-tune", 13_000, processes=processes) for processes in (1, 4))
        assert (one.template.training.epochs, four.template.training.epochs) == (3, 8)  # 1600 / 204

    @pytest.mark.parametrize(("val_faces", "stops"), [(0, False), (99, False), (100, True)])
    def test_early_stopping_wants_faces_to_judge_by(self, val_faces: int, stops: bool) -> None:
        preset = choose_preset("fine-tune", template_of("yunet-n"), data_of(1300, val_faces), NO_FLAGS)
        assert preset.template.training.early_stopping == (EarlyStopping(6, 0.1) if stops else None)

    def test_patience_outlasts_evaluations(self) -> None:
        settings = preset_of("fine-tune", 1300, given=Given(epochs=20, val_interval=5)).template.training
        assert settings.early_stopping == EarlyStopping(15, 0.1)

    def test_says_each_value_on_a_line(
        self, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:  # fmt: skip
        with caplog.at_level(logging.INFO, "facekit"):
            preset = adapt("fine-tune", template_of("yunet-n"), [picture(10)] * 300, [], NO_FLAGS, processes=1)
        first, *lines = [record.getMessage() for record in caplog.records]
        assert first.startswith("Preset fine-tune for 300 pictures with 300 faces, 10 pixels in the middle, 300 large")
        assert len(lines) == len(preset.choices) == 13
        assert "  schedule cosine to 0.01: ends low, however many epochs there are" in lines
        assert "  early_stopping off: 0 validation faces are too few to judge by" in lines
        assert "  frozen nothing: the backbone learns, too" in lines
        assert "  start_share 0.25: less is forgotten" in lines
        caplog.clear()
        monkeypatch.setenv("RANK", "1")
        adapt("fine-tune", template_of("yunet-n"), [picture(10)], [], NO_FLAGS, processes=2)
        assert not caplog.records


def picture(*sides: float, crowd: bool = False) -> PictureLabels:
    boxes = np.array([[0, 0, side, side] for side in sides], dtype=np.float64).reshape(-1, 4)
    count = len(sides)
    return PictureLabels(Path("a.jpg"), (99, 99), boxes, np.full((count, 5, 2), np.nan), np.full(count, crowd))


class TestMeasureData:
    def test_counts(self) -> None:
        pictures = [picture(10, 20), picture(), picture(30), picture(90, crowd=True)]
        assert measure_data(pictures, pictures[:1], 20) == DataSize(4, 3, 2, 20.0, 2)

    def test_no_faces(self) -> None:
        assert measure_data([picture()], [], 0) == DataSize(1, 0, 0, 0.0, 0)
        assert measure_data([], [], 0) == DataSize(0, 0, 0, 0.0, 0)

    def test_a_thin_face_is_not_learnt(self) -> None:
        thin = dataclasses.replace(picture(1), boxes_xywh=np.array([[0.0, 0, 16, 4]]))
        assert measure_data([thin], [], 5) == DataSize(1, 1, 0, 8.0, 0)
