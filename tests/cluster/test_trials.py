from __future__ import annotations

from pathlib import Path

import numpy as np

from facekit.cluster.reading import pictures_of
from facekit.cluster.shards import gathered
from facekit.cluster.stores import Entry
from facekit.cluster.trials import CAREFUL_DEATHS, Trial, Trials
from facekit.errors import FacekitError
from tests.cluster.support import jpeg


class TestTrials:
    def test_a_shard_that_ends_counts_no_death(self) -> None:
        trials = Trials()
        assert trials.begin(3) == (0, frozenset())
        trials.note(3, "a")
        trials.end(3)
        assert trials.begin(3) == (0, frozenset())

    def test_what_was_in_hand_twice_is_suspected(self) -> None:
        trials = Trials()
        for deaths, in_hand in enumerate(("a", "b", "c", "b")):
            assert trials.begin(3) == (deaths, frozenset())
            trials.note(3, in_hand)
        assert trials.begin(3) == (4, frozenset({"b"}))
        assert trials.begin(4) == (0, frozenset())

    def test_deaths_with_nothing_noted(self) -> None:
        trials = Trials()
        for deaths in range(5):
            assert trials.begin(0) == (deaths, frozenset())


class TestCareful:
    def test_notes_each_and_leaves_suspects_out(self, tmp_path: Path) -> None:
        names = [str(tmp_path / f"{number}.jpg") for number in range(3)]
        for number, name in enumerate(names):
            Path(name).write_bytes(jpeg(number))
        (shard,) = gathered([Entry(name, None) for name in names], 9)
        noted: list[str] = []
        trial = Trial(CAREFUL_DEATHS, frozenset({f"1 {names[1]}"}), noted.append)
        found = list(pictures_of(shard, 1 << 20, trial))
        assert [name for name, _, _ in found] == names
        assert noted == [f"0 {names[0]}", f"2 {names[2]}"]
        assert isinstance(found[1][1], FacekitError) and "again and again" in str(found[1][1])
        plain = list(pictures_of(shard, 1 << 20, Trial()))
        for number in (0, 2):
            np.testing.assert_array_equal(np.asarray(found[number][1]), np.asarray(plain[number][1]))

    def test_a_picture_is_not_read_before_its_turn(self, tmp_path: Path) -> None:
        """A picture that ends the process would else end it while another one is noted."""
        names = [str(tmp_path / f"{number}.jpg") for number in range(3)]
        for number, name in enumerate(names):
            Path(name).write_bytes(jpeg(number))
        (shard,) = gathered([Entry(name, None) for name in names], 9)
        found = pictures_of(shard, 1 << 20, Trial(CAREFUL_DEATHS))
        next(found)
        Path(names[1]).unlink()
        assert isinstance(next(found)[1], FacekitError)
