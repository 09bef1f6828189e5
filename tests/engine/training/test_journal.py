from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from facekit.engine.training import meter as module
from facekit.engine.training.journal import Journal
from facekit.engine.training.meter import Meter, one_line
from facekit.structures import Targets


class TestJournal:
    def test_lines(self, tmp_path: Path) -> None:
        with Journal(tmp_path, None, 0) as journal:
            journal.write({"epoch": 1, "iteration": 3, "loss": 0.5, "ap": float("nan")})
        (line,) = (tmp_path / "log.jsonl").read_text().splitlines()
        record = json.loads(line)
        assert record.pop("seconds") >= 0
        assert record == {"epoch": 1, "iteration": 3, "loss": 0.5, "ap": None}

    @pytest.mark.parametrize(("before", "kept"), [("", 0), ('{"a": 1}\n', 1), ('{"a": 1}\n{"b', 2)])
    def test_goes_on_behind_a_torn_line(self, tmp_path: Path, before: str, kept: int) -> None:
        (tmp_path / "log.jsonl").write_text(before)
        with Journal(tmp_path, None, 0) as journal:
            journal.write({"iteration": 3})
        lines = (tmp_path / "log.jsonl").read_text().splitlines()
        assert len(lines) == kept + 1
        assert json.loads(lines[-1])["iteration"] == 3

    def test_other_processes_are_silent(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("facekit.engine.training.journal.rank", lambda: 1)
        with Journal(tmp_path, tmp_path / "board", 0) as journal:
            journal.write({"iteration": 3})
        assert list(tmp_path.iterdir()) == []

    def test_tensorboard_has_figures_and_pictures(self, tmp_path: Path) -> None:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        images_bgr = torch.zeros(6, 3, 32, 48, dtype=torch.uint8)
        targets = Targets(
            torch.tensor([[4.0, 5, 20, 25]]), torch.tensor([1]), torch.full((1, 10), 9.0), torch.tensor([True]), 6
        )
        with Journal(tmp_path, tmp_path / "board", 0) as journal:
            journal.write({"epoch": 1, "iteration": 3, "loss": 0.5, "ap": float("nan"), "eta_s": 3.0})
            journal.show(images_bgr, targets, 7)
        assert not images_bgr.any()
        events = EventAccumulator(str(tmp_path / "board"), size_guidance={"images": 0}).Reload()
        assert events.Tags()["scalars"] == ["loss"]
        assert [(event.step, event.value) for event in events.Scalars("loss")] == [(3, 0.5)]
        (tag,) = events.Tags()["images"][:1]
        assert events.Images(tag)[0].step == 7

    def test_boxes_and_landmarks_are_drawn_on_their_picture(self) -> None:
        from facekit.engine.training.journal import _draw
        from facekit.pictures.draw import BOX_BGR

        images_bgr = torch.zeros(2, 3, 32, 48, dtype=torch.uint8)
        targets = Targets(
            torch.tensor([[4.0, 5, 20, 25]]), torch.tensor([1]), torch.full((1, 10), 12.0), torch.tensor([False]), 2
        )
        assert not _draw(images_bgr, targets, 0).any()
        drawn = _draw(images_bgr, targets, 1)
        for pixel in (drawn[15, 4], drawn[25, 12]):  # of a side each; lines are smoothed, so a little darker
            np.testing.assert_allclose(pixel, BOX_BGR, atol=25)
        assert not drawn[12, 12].any()
        assert _draw(images_bgr, targets._replace(has_landmarks=torch.tensor([True])), 1)[12, 12].any()


class TestMeter:
    def add(self, meter: Meter, *values: float) -> None:
        for value in values:
            meter.add({"a": torch.tensor(value), "b": torch.tensor(1.0)}, 4)

    def test_means(self, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = [0.0]
        monkeypatch.setattr(module.time, "perf_counter", lambda: clock[0])
        meter = Meter()
        self.add(meter, 1.0, 3.0)
        clock[0] = 2.0
        assert meter.read() == {"loss": 3.0, "loss_a": 2.0, "loss_b": 1.0, "images_per_s": 4.0, "data_wait": 0.0}
        self.add(meter, 7.0)
        clock[0] = 3.0
        assert meter.read()["loss_a"] == 7.0

    def test_share_of_waiting(self, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = [0.0]
        monkeypatch.setattr(module.time, "perf_counter", lambda: clock[0])

        def slow() -> Iterator[int]:
            for number in range(3):
                clock[0] += 1.0  # waited for
                yield number

        meter = Meter()
        for _ in meter.timed(slow()):
            clock[0] += 3.0  # worked on
            self.add(meter, 1.0)
        record = meter.read()
        assert record["data_wait"] == pytest.approx(0.25)
        assert record["images_per_s"] == pytest.approx(1.0)

    @pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
    def test_first_not_finite(self, bad: float) -> None:
        meter = Meter()
        self.add(meter, 1.0, 2.0)
        assert meter.first_not_finite() is None
        self.add(meter, bad, 3.0, float("nan"))
        found = meter.first_not_finite()
        assert found is not None
        back, losses = found
        assert back == 2
        assert losses["b"] == 1.0
        assert losses["a"] == pytest.approx(bad, nan_ok=True)

    def test_errors_of_the_batches_come_through(self) -> None:
        def broken() -> Iterator[int]:
            yield 1
            raise ValueError("no picture")

        with pytest.raises(ValueError, match="no picture"):
            list(Meter().timed(broken()))


def test_line_has_all_a_watcher_wants() -> None:
    line = one_line(
        {"epoch": 1, "iteration": 5, "learning_rate": 0.01, "eta_s": 3723.4, "loss": 1.5, "loss_box": 0.25,
         "images_per_s": 17.23, "data_wait": 0.123}
    )  # fmt: skip
    assert line == "loss 1.500 box 0.250 lr 0.01 17.2 img/s data 12% run 1:02:03 left"
