"""Parts of a video, by time."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from facekit.errors import ArgumentError

_TIME = re.compile(r"(?:(\d+):)?(?:(\d{1,2}):)?(\d+(?:\.\d+)?)")


def seconds_of(text: str, option: str) -> float:
    """Of 12.5, 00:12.5 or 1:02:03. Raises ArgumentError, which names the option, for anything else."""
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise ArgumentError(f"`{option}`: expected a time such as 90, 1:30 or 0:01:30.5, got {text[:40]!r}.")
    first, second, seconds = match.groups()
    hours, minutes = (first, second) if second is not None else (None, first)
    return 3600 * int(hours or 0) + 60 * int(minutes or 0) + float(seconds)


@dataclass(frozen=True)
class Spans:
    """Seconds since the first frame, each from where to before where, rising; none: all of it."""

    each_s: tuple[tuple[float, float], ...] = ()

    @classmethod
    def of(cls, starts: Sequence[str], ends: Sequence[str]) -> Spans:
        """The first start with the first end, and so on; the last end may be missing, and the first start, too.
        Raises ArgumentError for spans that are turned round or overlap."""
        froms = [seconds_of(text, "start") for text in starts]
        tos = [seconds_of(text, "end") for text in ends]
        if len(tos) == len(froms) + 1:
            froms = [0.0, *froms]
        if len(froms) == len(tos) + 1:
            tos = [*tos, math.inf]
        if len(froms) != len(tos):
            raise ArgumentError(
                f"`start` stands {len(froms)} times and `end` {len(tos)} times: give both for each span."
            )
        edges = [edge for span in zip(froms, tos, strict=True) for edge in span]
        for left, right in itertools.pairwise(edges):
            if right <= left:
                raise ArgumentError(
                    f"`start` and `end`: each span must end behind its start, and before the next begins; got "
                    f"{right:g} s behind {left:g} s. Give them in the order in which they are played."
                )
        return cls(tuple(zip(froms, tos, strict=True)))

    def place(self, time_s: float) -> float | None:
        """Where a moment stands in a video of these parts alone; None: not among them."""
        before_s = 0.0
        if not self.each_s:
            return time_s
        for start_s, end_s in self.each_s:
            if start_s <= time_s < end_s:
                return before_s + time_s - start_s
            before_s += end_s - start_s
        return None

    def number(self, time_s: float) -> int | None:
        """Which of them a moment is in, from 0; None: in none."""
        return next((number for number, (start_s, end_s) in enumerate(self.each_s) if start_s <= time_s < end_s), None)

    def why_empty(self, video_end_s: float) -> str:
        """In words, of a video without a frame in them, whose frames end there."""
        later = "" if video_end_s <= self.start_s else ", or a later `end`"
        return f"{_without_frame(self.start_s, self.end_s, video_end_s)}. Give an earlier `start`{later}."

    def unfilled(self, filled: Collection[int | None], video_end_s: float) -> list[str]:
        """In words, each that is not among those of these numbers, of a video whose frames end there."""
        return [
            _without_frame(start_s, end_s, video_end_s)
            for number, (start_s, end_s) in enumerate(self.each_s)
            if number not in filled
        ]

    @property
    def end_s(self) -> float:
        """Behind which nothing is wanted."""
        return self.each_s[-1][1] if self.each_s else math.inf

    @property
    def start_s(self) -> float:
        return self.each_s[0][0] if self.each_s else 0.0


def _without_frame(start_s: float, end_s: float, video_end_s: float) -> str:
    to = " s on" if end_s == math.inf else f" to {end_s:g} s"
    why = f": the video ends at {video_end_s:.1f} s" if video_end_s <= start_s else ""
    return f"no frame from {start_s:g}{to}{why}"
