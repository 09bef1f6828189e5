"""Faces of a video, frame by frame: read, looked at, drawn on and written at the same time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from facekit.base.options import given_of
from facekit.errors import ArgumentError, FacekitError, Loss
from facekit.machine.memory import give_back_freed_memory
from facekit.pictures.av_video import Frame
from facekit.pictures.containers import FRAME_PIXELS
from facekit.pictures.frames import Sink, frames_ahead, open_frames, open_sink
from facekit.pictures.inputs import Inputs
from facekit.pictures.pipeline import Stage, in_background
from facekit.pictures.spans import Spans
from facekit.pictures.video import Source
from facekit.structures import Detections
from facekit.tracks.bytetrack import ByteTracker, TrackSettings

if TYPE_CHECKING:  # its runtimes take a while to come
    from facekit.detector import Detector

log = logging.getLogger(__name__)

F = TypeVar("F")
TRIMMED_EVERY, TRIMMED_OVER = 8, 280 << 20  # frames, bytes
Draw = Callable[[Frame, Detections], NDArray[np.uint8]]


@dataclass(frozen=True)
class Looking:
    """How a video is looked at."""

    threshold: float = 0.5
    min_size: float = 0
    every: int = 1  # the detector sees each so manieth frame; boxes are carried to the others
    tracks: TrackSettings | None = None
    looks_last: bool = False  # at the last frame in any case: behind it nothing tells where faces go


def faces_of(frames: Iterable[Frame], detector: Detector, looking: Looking) -> Iterator[tuple[Frame, Detections]]:
    """Each frame with its faces. Without tracks boxes are carried as they stood; with tracks, where they should be."""
    return carried(frames, lambda frame: detector.detect(frame.image_bgr), looking)


def carried(frames: Iterable[F], find: Callable[[F], Detections], looking: Looking) -> Iterator[tuple[F, Detections]]:
    """As faces_of(), of what `find` finds in the frames that it is asked for."""
    tracker = None if looking.tracks is None else ByteTracker(looking.tracks)
    faces: Detections | None = None
    told = _with_last(frames) if looking.looks_last else ((frame, False) for frame in frames)
    for number, (frame, is_last) in enumerate(told):
        if number % looking.every == 0 or faces is None or is_last:
            found = find(frame)
            if looking.min_size:
                found = found.at_least(looking.min_size)
            faces = found.above(looking.threshold) if tracker is None else tracker.update(found)
            if looking.every > 1 and faces.is_interpolated is None:
                faces = marked(faces, False)
        else:
            faces = marked(faces, True) if tracker is None else tracker.carry()
        yield frame, faces


def _with_last(frames: Iterable[F]) -> Iterator[tuple[F, bool]]:
    """Each with whether it is the last, which is known once there is no other."""
    waiting: list[F] = []
    for frame in frames:
        if waiting:
            yield waiting.pop(), False
        waiting.append(frame)
    if waiting:
        yield waiting.pop(), True


def marked(faces: Detections, is_interpolated: bool) -> Detections:
    """The faces, said to be found or carried."""
    flags = np.full(len(faces), is_interpolated)
    return Detections(faces.boxes_xyxy, faces.scores, faces.landmarks_xy, faces.track_ids, flags)


def refuse_without_video(inputs: Inputs, options: Any, names: tuple[str, ...]) -> None:
    """Raises ArgumentError for the first of these options that was given where there is no video; a list may have
    some."""
    if inputs.list_file is not None or any(item.kind == "video" for item in inputs.named):
        return
    if given := given_of(options, names):
        raise ArgumentError(f"`{given[0]}` is about videos, and there is none among the inputs. Leave it out.")


@dataclass
class Seen:
    """What became of a video."""

    frames: int = 0
    dropped: int = 0  # of live sources alone
    written: int = 0
    kept: str = ""  # of what is written, in words
    total: int | None = None
    losses: list[Loss] = field(default_factory=list)


def watch(
    source: Source, seen: Seen, look: Callable[[Iterator[Frame]], Iterator[tuple[Frame, Detections]]],
    output: Path | None = None, draw: Draw | None = None, spans: Spans | None = None, sound: bool = True,
    max_pixels: int = FRAME_PIXELS,
) -> Generator[tuple[Frame, Detections], None, None]:  # fmt: skip
    """Each frame with its faces, as `look` finds them; what `draw` makes of it goes into `output`, in a thread.

    Live sources drop frames that nobody had time for, files never, also those of a web server. When it is closed early,
    the output holds what was drawn so far and can be played. `seen` is filled as it goes. Raises FacekitError for a
    source without frames, and at a frame of over max_pixels.
    """
    sink, wanted = None, spans or Spans()
    try:
        with ExitStack() as stack:
            video = stack.enter_context(open_frames(source, spans, output is not None, max_pixels, sound))
            seen.total, is_live = video.total, video.is_live

            def dropped() -> None:
                seen.dropped += 1

            ahead = frames_ahead(video)
            frames = in_background(video.frames(), 1 if is_live else ahead, dropped if is_live else None)
            stack.enter_context(closing(frames))
            stage = None
            if output is not None and draw is not None:
                sink = stack.enter_context(open_sink(output, video, spans, sound))
                stage = Stage(_writing(sink, draw), ahead)
                stack.push(_finishing(stage))
            filled: set[int | None] = set()
            for frame, faces in look(frames):
                seen.frames += 1
                filled.add(wanted.number(frame.time_s))
                if seen.frames % TRIMMED_EVERY == 0:
                    give_back_freed_memory(TRIMMED_OVER)
                if stage is not None:
                    stage.put((frame, faces))
                yield frame, faces
            if not seen.frames:
                why = "opened, but gave no frame. Is it damaged, or in use?"
                if wanted.each_s and video.end_s:
                    why = wanted.why_empty(video.end_s)
                raise FacekitError(f"{source.name}: {why}")
            if next(frames, None) is None:  # `look` may have ended before them
                seen.losses += [Loss(source.name, why) for why in wanted.unfilled(filled, video.end_s)]
            seen.losses += video.losses()
    finally:
        if sink is not None:
            seen.written, seen.kept = sink.written, sink.kept
            seen.losses += sink.losses


def _writing(sink: Sink, draw: Draw) -> Callable[[tuple[Frame, Detections]], None]:
    def write(item: tuple[Frame, Detections]) -> None:
        sink.write(item[0], draw(*item))

    return write


def _finishing(stage: Stage[tuple[Frame, Detections]]) -> Callable[..., bool]:
    """To stand before the sink's own end."""

    def finish(*_: object) -> bool:
        stage.finish()
        return False

    return finish
