from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facekit.engine.training.loop import EpochSampler
from facekit.labels.picture_labels import PictureLabels
from facekit.template import TEMPLATES_DIR, load_template
from facekit.training_data.balance import folder_shares, systematic_draws
from facekit.training_data.training_set import TrainingSet


def pictures(*names: str) -> list[PictureLabels]:
    return [
        PictureLabels(Path("/data") / name, (8, 8), np.zeros((0, 4)), np.zeros((0, 5, 2)), np.zeros(0, bool), name=name)
        for name in names
    ]


MANY = pictures(*(f"parade/{n}.jpg" for n in range(16)), *(f"spa/{n}.jpg" for n in range(4)))


@pytest.mark.parametrize(("balance", "parade"), [(0.0, 16 / 20), (0.5, 4 / 6), (1.0, 1 / 2)])
def test_shares_of_folders(balance: float, parade: float) -> None:
    shares = folder_shares(MANY, balance)
    assert shares.sum() == pytest.approx(1)
    assert shares[:16].sum() == pytest.approx(parade)
    assert len(set(shares[:16].round(12))) == 1


def test_folders_of_one_name_are_one_and_pictures_without_a_name_have_theirs() -> None:
    named = pictures("parade/a.jpg", "parade/b.webp")
    unnamed = [PictureLabels(Path("/x/spa/c.jpg"), None, np.zeros((0, 4)), np.zeros((0, 5, 2)), np.zeros(0, bool))]
    assert folder_shares(named + unnamed, 1.0).tolist() == pytest.approx([0.25, 0.25, 0.5])


@given(
    shares=st.lists(st.floats(0.001, 5), min_size=1, max_size=40), count=st.integers(1, 200),
    start=st.floats(0, 1, exclude_max=True),
)  # fmt: skip
def test_each_comes_as_often_as_its_share(shares: list[float], count: int, start: float) -> None:
    given_shares = np.array(shares)
    draws = systematic_draws(given_shares, count, start)
    assert len(draws) == count == len(set(draws.tolist()))  # a picture's second time is another index
    times = np.bincount(draws % len(shares), minlength=len(shares))
    assert np.all(np.abs(times - given_shares / given_shares.sum() * count) < 1 + 1e-9)
    for picture, most in enumerate(times):
        assert sorted(draws[draws % len(shares) == picture] // len(shares)) == list(range(most))


def test_an_epoch_is_balanced_shuffled_and_the_same_again() -> None:
    augmentation = load_template(TEMPLATES_DIR / "yunet-n" / "template.yaml").augmentation
    dataset = TrainingSet(MANY, augmentation, (64, 64), (0, 0, 0), repeats=6, seed=3)
    plain, balanced = EpochSampler(dataset), EpochSampler(dataset, 1.0)
    assert sorted(plain.order()) == list(range(120))
    first = balanced.order()
    assert first == EpochSampler(dataset, 1.0).order() != sorted(first)
    assert len(first) == len(balanced) == 120
    times = Counter(index % len(MANY) for index in first)
    assert sum(times[number] for number in range(16)) == pytest.approx(60, abs=1)
    assert {times[number] for number in range(16, 20)} <= {14, 15, 16}
    dataset.epoch.fill_(1)
    assert balanced.order() != first
