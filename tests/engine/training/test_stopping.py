from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import pytest

from facekit.engine.training import validation
from facekit.engine.training.options import TrainOptions
from facekit.engine.training.stopping import EarlyStopper, early_stopper_of
from facekit.engine.training.train import train
from facekit.records.evaluation import Metric
from facekit.records.run import read_record
from facekit.template import EarlyStopping, Template
from facekit.weights.checkpoint import Checkpoint
from facekit.weights.torch_file import read_torch_file
from tests.engine.training.support import ellipse_pictures
from tests.engine.training.test_resume import small_template


def with_stopping(patience: int = 2, least_gain: float = 0.5, epochs: int = 9) -> Template:
    template = small_template()
    settings = dataclasses.replace(
        template.training, epochs=epochs, dataset_repeats=1, early_stopping=EarlyStopping(patience, least_gain)
    )
    return dataclasses.replace(template, training=settings)


class TestEarlyStopper:
    def ends_after(self, aps: list[float], **settings: Any) -> int | None:
        """The epoch; evaluations every epoch."""
        early_stopper = EarlyStopper(EarlyStopping(**settings))
        for epoch, ap in enumerate(aps, start=1):
            early_stopper.note(epoch, ap)
            if early_stopper.is_over:
                return epoch
        return None

    @pytest.mark.parametrize(
        ("aps", "epoch"),
        [
            ([10, 20, 30, 40], None),
            ([10, 10.4, 10.4], 3),  # neither gains half a point on 10
            ([10, 10.4, 10.5, 10.6, 10.7], 5),  # 10.5 does
            ([10, 9, 8], 3),
            ([0, 0, 0], 3),
            ([float("nan")] * 3, 3),
        ],
    )
    def test_ends(self, aps: list[float], epoch: int | None) -> None:
        assert self.ends_after(aps, patience=2, least_gain=0.5) == epoch

    def test_without_a_least_gain_a_tie_is_none(self) -> None:
        assert self.ends_after([10, 10], patience=1, least_gain=0) == 2
        assert self.ends_after([10, 10.001, 10.002], patience=1, least_gain=0) is None

    def test_patience_is_in_epochs_not_in_evaluations(self) -> None:
        early_stopper = EarlyStopper(EarlyStopping(patience=4, least_gain=0))
        for epoch, is_over in ((640, False), (642, False), (644, True)):
            early_stopper.note(epoch, 10.0)
            assert early_stopper.is_over == is_over

    def test_not_before_the_first_evaluation(self) -> None:
        assert not EarlyStopper(EarlyStopping(1, 0)).is_over

    @pytest.mark.parametrize("saved", [None, 7, {}, {"ap": "x", "gain_epoch": 1, "epoch": 1}])
    def test_damaged_state_starts_anew(self, saved: Any) -> None:
        checkpoint = Checkpoint({"stagnation": saved}, {})
        template = with_stopping()
        assert template.training.early_stopping is not None
        assert early_stopper_of(template, checkpoint) == EarlyStopper(template.training.early_stopping)


class TestRun:
    @pytest.fixture
    def aps(self, monkeypatch: pytest.MonkeyPatch) -> list[float]:
        """What the evaluations to come give."""
        aps: list[float] = []
        monkeypatch.setattr(
            validation, "evaluate_labelled", lambda *_: [Metric("ap", "AP", "%", aps.pop(0))]
        )  # fmt: skip
        return aps

    def test_stops_says_so_and_has_nothing_left(
        self, tmp_path: Path, aps: list[float], caplog: pytest.LogCaptureFixture
    ) -> None:
        pictures, out = ellipse_pictures(tmp_path, 6), tmp_path / "out"
        aps += [10, 30, 30.4, 30.2]
        with caplog.at_level(logging.INFO, "facekit"):
            assert (
                train(
                    with_stopping(),
                    pictures,
                    pictures[:1],
                    TrainOptions("yunet-n", save_checkpoints_to=out, workers=0, max_iterations=1),
                )
                == out / "latest.pth"
            )
        assert "Stopped early behind epoch 4: AP has not gained 0.5 points on epoch 2's 30.00 %" in caplog.text
        assert read_torch_file(out / "latest.pth")["meta"]["epoch"] == 4
        assert read_torch_file(out / "best.pth")["meta"]["epoch"] == 3
        result = read_record(out / "run.json").result
        assert result is not None and result.epoch == 4
        again = TrainOptions("yunet-n", save_checkpoints_to=out, workers=0, max_iterations=1, resume_from=out)
        assert train(with_stopping(), pictures, pictures[:1], again) is None
        aps += [50, 50]
        train(with_stopping(patience=3, epochs=6), pictures, pictures[:1], again)
        assert read_torch_file(out / "latest.pth")["meta"]["epoch"] == 6

    def test_patience_survives_an_interruption(self, tmp_path: Path, aps: list[float]) -> None:
        pictures, out = ellipse_pictures(tmp_path, 6), tmp_path / "out"
        aps += [10, 10]
        train(
            with_stopping(epochs=2), pictures, pictures[:1], TrainOptions("yunet-n", save_checkpoints_to=out, workers=0)
        )
        aps += [10]
        train(
            with_stopping(),
            pictures,
            pictures[:1],
            TrainOptions("yunet-n", save_checkpoints_to=out, workers=0, resume_from=out),
        )
        assert read_torch_file(out / "latest.pth")["meta"]["epoch"] == 3

    def test_without_validation_pictures(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        options = TrainOptions("yunet-n", save_checkpoints_to=tmp_path, workers=0)
        train(with_stopping(patience=1, epochs=3), ellipse_pictures(tmp_path, 6), [], options)
        assert "early_stopping does nothing without validation pictures" in caplog.text
        assert read_torch_file(tmp_path / "latest.pth")["meta"]["epoch"] == 3
