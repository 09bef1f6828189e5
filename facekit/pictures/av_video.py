"""Video by PyAV (FFmpeg's libraries): frames at their own times, and the sound beside them.

A file is read once, packet by packet. Sound and subtitles are handed to the writer as they are; pictures before the
first wanted moment are not decoded, but counted.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facekit.errors import ArgumentError, FacekitError, Loss
from facekit.machine.cores import usable_cores
from facekit.pictures.clock import Clock, rate_of, shift
from facekit.pictures.containers import (
    FRAME_PIXELS,
    check_frame_size,
    decoding_options,
    ends_within_packet,
    open_container,
    too_large,
)
from facekit.pictures.read import lay_on_white
from facekit.pictures.spans import Spans, seconds_of
from facekit.pictures.upright import display_matrix, swaps_sides, upright

log = logging.getLogger(__name__)

COPIED = ("audio", "subtitle")
MAX_ERRORS = 10_000  # of packets that can't be decoded, before a file is given up
PREROLL_S = 0.08  # of sound that an edit list hides, but its decoder needs: Opus needs most


class Frame(NamedTuple):
    """A frame of a video."""

    number: int  # from 0, of the whole video
    time_s: float  # since the first frame
    image_bgr: NDArray[np.uint8]  # (H, W, 3), turned as a player shows it


class AvVideo:
    """An open file; frames() may be asked for once, losses() behind it. `others` collects the packets beside the
    pictures, each with its seconds in the written file, if wants_others; of sound, only with `sound`."""

    has_sound = True
    is_live = False

    def __init__(
        self, path: Path, spans: Spans | None = None, wants_others: bool = False, max_pixels: int = FRAME_PIXELS,
        sound: bool = True,
    ) -> None:  # fmt: skip
        """Raises FacekitError for what is no video."""
        import av

        self._max_pixels = min(max_pixels, FRAME_PIXELS)
        self.path, self.spans = path, spans or Spans()
        self._others_kinds = [kind for kind in COPIED if wants_others and (sound or kind != "audio")]
        try:
            self.container: Any = open_container(path, self._max_pixels)
        except (av.FFmpegError, OSError, ValueError) as error:
            raise FacekitError(f"{path}: no video that FFmpeg can read ({error}).") from error
        if not self.container.streams.video:
            raise FacekitError(f"{path}: has no pictures in it.")
        self.stream: Any = self.container.streams.video[0]
        self._left_out = sum(_is_video(stream) for stream in self.container.streams.video[1:])
        if self.stream.codec_context is None:
            raise FacekitError(f"{path}: its pictures are in a codec that FFmpeg doesn't know here.")
        self.size_wh = int(self.stream.width), int(self.stream.height)
        self.stream.codec_context.options = decoding_options(self._max_pixels)
        self.stream.thread_type = "AUTO"
        self.stream.codec_context.thread_count = min(usable_cores(), 4)
        self.fps = rate_of(self.stream)
        self._clock = Clock.of(self.stream)
        self.total = self.stream.frames or None
        self.seconds = self._promised_s()
        self.others: deque[tuple[float, Any]] = deque()
        self.count = self.errors = self.backward = self._skipped = 0
        self.first_s: Fraction | None = None  # exact, as a float of many hours would move times over a span's edge
        self.last_s = self.end_s = 0.0
        self._numbered_s = inf  # from where on frames count that are not decoded
        self._decoded_s: float | None = None  # of the last frame, wanted or not
        self.swaps_sides = False  # whether frames were turned by a quarter, and their pixels with them
        self._has_ended = False

    def _promised_s(self) -> float | None:
        """How long its pictures last, by what it says of itself; None: it says nothing of them alone."""
        if self.path.suffix.lower() == ".avi" and self.total:  # its duration is guessed by FFmpeg, of the file's size
            return float(self.total / self.fps)
        if self.stream.duration:
            return float(self.stream.duration * self.stream.time_base)
        # Matroska tells the moment of the end, of which a clock that doesn't begin at 0 is no part.
        before_s = max(0.0, float(self._start_s())) if "matroska" in self.container.format.name else 0.0
        with suppress(ArgumentError):
            return seconds_of(self.stream.metadata.get("DURATION", ""), "duration") - before_s
        has_others = any(stream.type == "audio" for stream in self.container.streams)
        return self.container.duration / 1e6 - before_s if self.container.duration and not has_others else None

    def __enter__(self) -> AvVideo:
        return self

    def __exit__(self, *_: object) -> None:
        self.container.close()

    def frames(self) -> Iterator[Frame]:
        """Those of the spans, in the order they are shown. Raises FacekitError at a frame of over max_pixels."""
        check_frame_size(self.path, self.size_wh, self._max_pixels)
        if self.spans.each_s:
            self._look_at_start()
        index, skipped = 0, 0
        early: list[int] = []  # pts, in the order they are stored, of what the decoder took before its first frame
        for packet in self._wanted_packets():
            if not index and packet is not None and self._is_numbered(packet):
                early.append(packet.pts)
            for decoded in self._decode(packet):
                if not index and decoded.pts is not None:
                    skipped = self._skipped + sum(pts < decoded.pts for pts in early)
                frame = self._frame(decoded, skipped + index)
                index += 1
                self.end_s = max(self.end_s, frame.time_s + 1 / self.fps)
                if frame.time_s >= self.spans.end_s:
                    return
                self.last_s = max(self.last_s, frame.time_s)
                if self.spans.place(frame.time_s) is not None:
                    self.count += 1
                    yield frame
        self._has_ended = True

    def _look_at_start(self) -> None:
        """Learns from which moment on times and numbers count, which a decoder that skips the start can't tell."""
        with AvVideo(self.path, max_pixels=self._max_pixels) as whole:
            first = next(whole.frames(), None)
            self.first_s = whole.first_s
        if first is not None:
            self._numbered_s = first.time_s

    def _wanted_packets(self) -> Iterator[Any]:
        """The pictures' packets from the key frame on which the first wanted frame builds upon, and None at the end."""
        has_begun = False
        waiting: list[Any] = []  # packets since the last key frame, before the first wanted moment
        for packet in self._packets():
            has_begun |= packet is None or packet.pts is None or self._time_s(packet) >= self.spans.start_s
            if not has_begun:
                if packet.is_keyframe:
                    self._skipped += sum(map(self._is_numbered, waiting))
                    waiting = []
                waiting.append(packet)
                continue
            yield from waiting
            yield packet
            waiting = []

    def _is_numbered(self, packet: Any) -> bool:
        """Whether its frame counts where it is not decoded: not what an edit list hides, or precedes the first."""
        return packet.pts is not None and not packet.is_discard and self._time_s(packet) >= self._numbered_s

    def _packets(self) -> Iterator[Any]:
        """The pictures' packets, and None at the end; others are put aside."""
        import av

        streams = [s for s in self.container.streams if s is self.stream or s.type in self._others_kinds]
        packets = self.container.demux(streams)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                break
            except (av.FFmpegError, OSError):
                self.errors += 1
                if self.errors > MAX_ERRORS:
                    break
                continue
            if packet.stream is self.stream:
                if packet.size:
                    self._clock.picture(packet)
                    if self.first_s is None and packet.pts is not None and not packet.is_discard:
                        self.first_s = packet.pts * packet.time_base
                    self._put_aside(self._clock.ready())
                    yield packet
            elif packet.pts is not None or packet.dts is not None:
                self._clock.beside(packet)
                self._put_aside(self._clock.ready())
        self._clock.end()
        yield None

    def _put_aside(self, packets: Iterator[Any]) -> None:
        for packet in packets:
            time_s = self._time_s(packet)
            if packet.is_discard and _moment_s(packet) < self._start_s() - PREROLL_S:
                continue
            if not self.spans.each_s:
                self.others.append((time_s, packet))
            elif (place_s := self.spans.place(time_s)) is not None:
                shift(packet, place_s - float(_moment_s(packet)))
                self.others.append((place_s, packet))

    def _time_s(self, packet: Any) -> float:
        return float(_moment_s(packet) - (self._start_s() if self.first_s is None else self.first_s))

    def _start_s(self) -> Fraction:
        return Fraction((self.stream.start_time or 0) * self.stream.time_base)

    def _decode(self, packet: Any) -> Iterator[Any]:
        import av

        try:
            yield from self.stream.codec_context.decode(packet)
        except av.ArgumentError as error:
            if not self.stream.codec_context.width:  # FFmpeg refuses so what is over decoding_options()
                raise too_large(self.path, f"over {self._max_pixels} pixels", self._max_pixels) from error
            self.errors += 1
        except (av.FFmpegError, OSError, ValueError):
            self.errors += 1

    def _frame(self, decoded: Any, index: int) -> Frame:
        before_s = self._decoded_s
        time_s = self.last_s + 1 / self.fps if index else 0.0
        if decoded.pts is not None:
            moment_s = decoded.pts * self.stream.time_base
            if self.first_s is None or (moment_s < self.first_s and before_s is None):
                self.first_s = moment_s
            time_s = float(moment_s - self.first_s)
        if before_s is not None and time_s < before_s:
            self.backward += 1
            time_s = before_s + 1 / self.fps
        self._decoded_s = time_s
        check_frame_size(self.path, (decoded.width, decoded.height), self._max_pixels)
        matrix = display_matrix(decoded)
        self.swaps_sides = swaps_sides(matrix)
        return Frame(index, time_s, upright(_image_of(decoded), matrix))

    def losses(self) -> list[Loss]:
        """What a file promises and frames() didn't give, once it came to its end."""
        found = [*self._why_damaged(), *self._why_out_of_step()]
        if self._left_out:
            found.append(f"holds {1 + self._left_out} streams of pictures: the first alone is looked at")
        return [Loss(str(self.path), why) for why in found]

    def _why_damaged(self) -> list[str]:
        missing_s = (self.seconds or 0.0) - self.last_s - 1 / self.fps
        is_short = self._has_ended and not self.spans.each_s and (self.total is None or self.count < self.total)
        if is_short and missing_s > max(1.5 / self.fps, 0.2):
            of = "" if self.total is None else f" of {self.total}"
            return [
                f"cut off or damaged: it ends at {self.last_s + 1 / self.fps:.2f} of {self.seconds:.2f} s; "
                f"{self.count}{of} frames could be read"
            ]
        if self._has_ended and self.container.format.name == "mpegts" and ends_within_packet(self.path):
            return ["cut off or damaged: it ends within a packet of its stream"]
        return [f"damaged: {self.errors} parts of it can't be decoded"] if self.errors else []

    def _why_out_of_step(self) -> list[str]:
        found, clock = [], self._clock
        if clock.restarts:
            log.info("%s: its clock starts again (%dx); its times go on there", self.path, clock.restarts)
        if self.backward:
            found.append(f"the times of {self.backward} frames run back; they follow each other there")
        if clock.left_out_s:
            found.append(
                f"its clock starts again: {clock.left_out_s:.2f} s of sound that has no place there are left out"
            )
        if clock.is_apart:
            found.append("its sound does not start again where its pictures do, and may be out of step with them")
        return found


def _image_of(decoded: Any) -> NDArray[np.uint8]:
    """(H, W, 3) BGR; a transparent one as it looks on white."""
    if decoded.format.name != "pal8" and not any(component.is_alpha for component in decoded.format.components):
        return np.asarray(decoded.to_ndarray(format="bgr24"), np.uint8)
    image_bgra = np.asarray(decoded.to_ndarray(format="bgra"), np.uint8)
    alpha = image_bgra[..., 3:]
    if alpha.min() == 255 or not alpha.any():  # 0 throughout: the byte only fills the pixel up, as in AVIs
        return np.ascontiguousarray(image_bgra[..., :3])
    return lay_on_white(image_bgra[..., :3], alpha)


def _moment_s(packet: Any) -> Fraction:
    """In the file's clock."""
    return Fraction((packet.pts if packet.pts is not None else packet.dts) * packet.time_base)


def _is_video(stream: Any) -> bool:
    """Not a cover or a preview."""
    from av.stream import Disposition

    return not stream.disposition & (Disposition.attached_pic | Disposition.timed_thumbnails)


def has_av() -> bool:
    """Whether PyAV is installed."""
    with suppress(ImportError):
        import av  # noqa: F401

        return True
    return False
