"""How often a shard was begun, and what was in hand when its workers died: a picture that ends every process that looks
at it must not be given out for ever."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

CAREFUL_DEATHS = 2  # behind so many a shard's pictures are noted one by one
SUSPECT_DEATHS = 2  # of workers with the same picture in hand: it is left out
MOST_DEATHS = 40  # over one shard, before the run ends


@dataclass(frozen=True)
class Trial:
    """The attempt at a shard that is under way."""

    deaths: int = 0  # of workers that had the shard before
    suspects: frozenset[str] = frozenset()  # pictures over which several died
    note: Callable[[str], object] = lambda what: None  # says what is in hand; costs a message

    @property
    def is_careful(self) -> bool:
        return self.deaths >= CAREFUL_DEATHS


class Trials:
    """Kept in a process of its own, which lives on when workers die."""

    def __init__(self) -> None:
        self._deaths: dict[int, int] = {}
        self._in_hand: dict[int, str] = {}
        self._died_with: dict[int, list[str]] = {}
        self._under_way: set[int] = set()

    def begin(self, shard: int) -> tuple[int, frozenset[str]]:
        """Deaths and suspects. A shard that is begun again before it ended cost a worker its life."""
        if shard in self._under_way:
            self._deaths[shard] = self._deaths.get(shard, 0) + 1
            if shard in self._in_hand:
                self._died_with.setdefault(shard, []).append(self._in_hand.pop(shard))
        self._under_way.add(shard)
        died_with = self._died_with.get(shard, [])
        return self._deaths.get(shard, 0), frozenset(
            what for what in died_with if died_with.count(what) >= SUSPECT_DEATHS
        )

    def note(self, shard: int, what: str) -> None:
        self._in_hand[shard] = what

    def end(self, shard: int) -> None:
        self._deaths.pop(shard, None)
        self._in_hand.pop(shard, None)
        self._died_with.pop(shard, None)
        self._under_way.discard(shard)
