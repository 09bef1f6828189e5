from __future__ import annotations

import dataclasses
import itertools
import math

import pytest

from facekit.engine.training.schedule import make_schedule, schedule_lengths
from facekit.template import CosineDecay, TrainingSettings, find_template, load_template


def settings_of(name: str) -> TrainingSettings:
    return load_template(find_template(name)).training


class TestYunet:
    """0.01; 1500 iterations from 0.001 of it; a tenth after epochs 400 and 544; 640 epochs."""

    SCHEDULE = make_schedule(settings_of("yunet-n"), None, total_iterations=100_000, started={})

    @pytest.mark.parametrize(
        ("iteration", "rate"),
        [(0, 0.01 * 0.001), (750, 0.01 * (0.001 + 0.999 / 2)), (1499, 0.01 * (1 - 0.999 / 1500)), (1500, 0.01)],
    )
    def test_warmup(self, iteration: int, rate: float) -> None:
        assert self.SCHEDULE(0, iteration) == pytest.approx(rate)

    @pytest.mark.parametrize(
        ("epoch", "rate"), [(1, 0.01), (399, 0.01), (400, 1e-3), (543, 1e-3), (544, 1e-4), (639, 1e-4)]
    )
    def test_milestones(self, epoch: int, rate: float) -> None:
        assert self.SCHEDULE(epoch, 50_000) == pytest.approx(rate)

    def test_beyond_the_end_the_last_rate_stays(self) -> None:
        assert self.SCHEDULE(640, 100_000) == pytest.approx(1e-4)
        assert self.SCHEDULE(10_000, 1_000_000) == pytest.approx(1e-4)


class TestSsd:
    def test_warmup_starts_at_a_third(self) -> None:
        schedule = make_schedule(settings_of("face-detection-0200"), None, total_iterations=10**6, started={})
        assert schedule(0, 0) == pytest.approx(0.05 / 3, rel=1e-3)
        assert schedule(0, 1200) == 0.05
        assert [schedule(epoch, 10**5) for epoch in (39, 40, 54, 55, 64, 65)] == pytest.approx(
            [0.05, 5e-3, 5e-3, 5e-4, 5e-4, 5e-5]
        )


class TestGivenRate:
    SCHEDULE = make_schedule(settings_of("yunet-n"), 0.5, total_iterations=100_000, started={})

    def test_replaces_the_templates_rate(self) -> None:
        assert self.SCHEDULE(0, 0) == pytest.approx(0.5 * 0.001)
        assert self.SCHEDULE(0, 1500) == 0.5
        assert self.SCHEDULE(400, 50_000) == pytest.approx(0.05)

    def test_is_itself_the_rate_beyond_the_end(self) -> None:
        assert self.SCHEDULE(639, 50_000) == pytest.approx(0.005)
        assert self.SCHEDULE(640, 50_000) == 0.5
        assert self.SCHEDULE(640, 0) == 0.5


class TestShortRuns:
    def test_warmup_takes_a_tenth_at_most(self) -> None:
        schedule = make_schedule(settings_of("yunet-n"), None, total_iterations=100, started={})
        assert schedule(0, 5) == pytest.approx(0.01 * (0.001 + 0.999 / 2))
        assert schedule(0, 9) < 0.01
        assert schedule(0, 10) == 0.01

    @pytest.mark.parametrize("total_iterations", [0, 1, 9])
    def test_no_warmup_at_all(self, total_iterations: int) -> None:
        assert make_schedule(settings_of("yunet-n"), None, total_iterations, {})(0, 0) == 0.01


class TestCosine:
    """1 at the end of ten iterations of warm-up; a tenth of it at iteration 110."""

    SETTINGS = dataclasses.replace(
        settings_of("yunet-n"), schedule=CosineDecay("cosine", 0.1), warmup_iterations=10, warmup_start=0.5,
        base_learning_rate=1.0,
    )  # fmt: skip
    SCHEDULE = make_schedule(SETTINGS, None, total_iterations=110, started={})

    @pytest.mark.parametrize(
        ("iteration", "rate"),
        [
            (0, 0.5),
            (5, 0.75),
            (10, 1.0),
            (35, 0.1 + 0.9 * (1 + math.sqrt(0.5)) / 2),  # a quarter of the way: cos 45 degrees
            (60, 0.55),
            (85, 0.1 + 0.9 * (1 - math.sqrt(0.5)) / 2),
            (110, 0.1),
            (10_000, 0.1),
        ],
    )
    def test_by_hand(self, iteration: int, rate: float) -> None:
        assert self.SCHEDULE(0, iteration) == pytest.approx(rate)
        assert self.SCHEDULE(700, iteration) == pytest.approx(rate)  # epochs don't matter

    @pytest.mark.parametrize(
        ("held", "rates"),
        [
            (0.05, {10: 1.0, 60: 0.55, 110: 0.1}),  # over before the warm-up
            (0.5, {5: 0.75, 54: 1.0, 55: 1.0, 82: 0.1 + 0.9 * (1 + math.cos(math.pi * 27 / 55)) / 2, 110: 0.1}),
            (0.999, {109: 1.0, 110: 0.1}),
        ],
    )
    def test_held(self, held: float, rates: dict[int, float]) -> None:
        settings = dataclasses.replace(self.SETTINGS, schedule=CosineDecay("cosine", 0.1, held))
        schedule = make_schedule(settings, None, total_iterations=110, started={})
        assert {iteration: schedule(0, iteration) for iteration in rates} == pytest.approx(rates)

    def test_falls_all_the_way(self) -> None:
        rates = [self.SCHEDULE(0, iteration) for iteration in range(10, 111)]
        assert all(later < earlier for earlier, later in itertools.pairwise(rates))

    def test_given_rate(self) -> None:
        schedule = make_schedule(self.SETTINGS, 0.5, total_iterations=110, started={})
        assert schedule(0, 60) == pytest.approx(0.275)
        assert schedule(0, 110) == 0.5

    def test_a_run_that_goes_on_keeps_its_lengths(self) -> None:
        again = make_schedule(self.SETTINGS, None, total_iterations=5000, started=schedule_lengths(self.SCHEDULE))
        assert again == self.SCHEDULE
        step = make_schedule(settings_of("yunet-n"), None, 100, {})
        assert make_schedule(settings_of("yunet-n"), None, 5000, schedule_lengths(step)) == step

    @pytest.mark.parametrize("total_iterations", [0, 1])
    def test_hardly_any_iterations(self, total_iterations: int) -> None:
        assert make_schedule(self.SETTINGS, None, total_iterations, {})(0, 0) == (1.0 if total_iterations else 0.1)
