"""A clock that goes on where a file's own starts again, as where recordings were joined (`cat 1.ts 2.ts`)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

FALLBACK_RATE = 25
STEPS_BACK = 3  # frames; by less a clock only trembles
SURELY_BACK_S = 1.0  # also for a frame that is no key frame
SOUND_BACK_S = 0.1
MAX_RATE = 240.0  # more is a guess of FFmpeg's, of too few frames
ROUNDED_S = 1e-3  # containers have times in milliseconds
APART_S = 1.0  # of sound that goes on as if the pictures' clock had not started again


def rate_of(stream: Any) -> float:
    """Frames a second of a stream of pictures."""
    return float(stream.average_rate or stream.guessed_rate or FALLBACK_RATE)


class Clock:
    """Shifts the packets of a file, given in its order: each part of the pictures begins one frame after the part
    before, and the sound beside it is shifted as much."""

    def __init__(self, step_s: float) -> None:
        self.left_out_s = 0.0  # of sound: over the part before, or of a part without pictures
        self.is_apart = False  # whether sound went on where the pictures' clock started again
        self._step_s = step_s
        self._shifts_s = [0.0]  # of each part
        self._picture_s: float | None = None  # dts of the last one that has it, in the file's clock
        self._end_s = 0.0  # of the pictures so far, shifted
        self._sounds: dict[int, _Sound] = {}  # by the stream's index
        self._ready: deque[tuple[int, Any]] = deque()  # part and packet
        self._early: list[tuple[int, Any]] = []  # of a part whose pictures have not begun

    @classmethod
    def of(cls, stream: Any) -> Clock:
        """For a file whose pictures are this stream."""
        rate = rate_of(stream)
        return cls(1 / (rate if rate <= MAX_RATE else FALLBACK_RATE))

    @property
    def restarts(self) -> int:
        return len(self._shifts_s) - 1

    def picture(self, packet: Any) -> None:
        """Shifts it."""
        shown = packet.pts if packet.pts is not None else packet.dts
        if shown is None:
            return
        # A file's first packets may have no dts, and pts run back where frames are stored in another order.
        own_s = self._picture_s if packet.dts is None else float(packet.dts * packet.time_base)
        back_s = 0.0 if self._picture_s is None or own_s is None else self._picture_s - own_s
        if back_s > SURELY_BACK_S or (packet.is_keyframe and back_s > STEPS_BACK * self._step_s):
            self._shifts_s.append(self._end_s - float(shown * packet.time_base))
            self._ready.extend(each for each in self._early if each[0] <= self.restarts)
            self._early = [each for each in self._early if each[0] > self.restarts]
        self._picture_s = own_s
        shift(packet, self._shifts_s[-1])
        shown_s = float(shown * packet.time_base) + self._shifts_s[-1]
        self._end_s = max(self._end_s, shown_s + self._step_s)

    def beside(self, packet: Any) -> None:
        """Takes it for ready(): sound, or subtitles, which are too rare to show a start, and follow the pictures."""
        if packet.stream.type != "audio":
            self._ready.append((self.restarts, packet))
            return
        own_s = _moment_s(packet)
        sound = self._sounds.setdefault(packet.stream.index, _Sound(own_s))
        if own_s < sound.own_s - SOUND_BACK_S:
            sound.part = max(sound.part + 1, self.restarts)
            sound.behind_s = 0.0
        elif sound.part < self.restarts:
            sound.behind_s += max(own_s - sound.own_s, 0.0)
            self.is_apart |= sound.behind_s > APART_S
        sound.own_s = own_s
        (self._ready if sound.part <= self.restarts else self._early).append((sound.part, packet))

    def ready(self) -> Iterator[Any]:
        """Those beside the pictures, shifted, whose part has begun; they come once."""
        while self._ready:
            part, packet = self._ready.popleft()
            shift(packet, self._shifts_s[part])
            sound = self._sounds.get(packet.stream.index)
            if sound is None or sound.takes(part, _moment_s(packet), _lasts_s(packet)):
                yield packet
            else:
                self.left_out_s += _lasts_s(packet)

    def end(self) -> None:
        """Behind the last packet: what still waits has no pictures."""
        self.left_out_s += sum(_lasts_s(packet) for _, packet in self._early)
        self._early = []


class _Sound:
    """A stream of it."""

    def __init__(self, own_s: float) -> None:
        self.own_s = own_s  # of its last packet, in the file's clock
        self.part = self._heard_part = 0
        self.behind_s = 0.0  # how long it went on since the pictures' clock started again
        self._end_s = 0.0  # of what was taken, shifted

    def takes(self, part: int, moment_s: float, lasts_s: float) -> bool:
        """Whether there is room: a part's beginning may lie over the end of the part before."""
        if part != self._heard_part and moment_s < self._end_s - ROUNDED_S:
            return False
        self._heard_part, self._end_s = part, moment_s + lasts_s
        return True


def _moment_s(packet: Any) -> float:
    return float((packet.dts if packet.dts is not None else packet.pts) * packet.time_base)


def _lasts_s(packet: Any) -> float:
    return float((packet.duration or 0) * packet.time_base)


def shift(packet: Any, shift_s: float) -> None:
    """To later."""
    if ticks := round(shift_s / packet.time_base):
        packet.pts = None if packet.pts is None else packet.pts + ticks
        packet.dts = None if packet.dts is None else packet.dts + ticks
