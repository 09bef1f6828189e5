"""Videos in shards: from key frame to key frame, so that each can be decoded by itself."""

from __future__ import annotations

import itertools
import math
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from facekit.cluster.shards import Shard
from facekit.cluster.stores import Entry
from facekit.detector import Detector
from facekit.errors import FacekitError, Loss
from facekit.pictures.av_video import has_av
from facekit.pictures.clock import Clock
from facekit.pictures.containers import open_container
from facekit.pictures.frames import frames_ahead, open_frames
from facekit.pictures.pipeline import in_background
from facekit.pictures.spans import Spans
from facekit.pictures.video import find_source
from facekit.results.row import NO_FACES, Row

Cut = tuple[float, int]  # where a shard may begin: seconds since the first frame, and frames before it


def shards_of(entry: Entry, shard_size: int) -> Iterator[Shard]:
    """Spans of at least shard_size frames; the whole video where it can't be divided: without PyAV, damaged, cut off,
    or of frames without times."""
    cuts, frames = _cuts(Path(entry.name))
    chosen = [cut for cut in cuts if cut[1] == 0]
    for cut in cuts:
        if chosen and cut[1] - chosen[-1][1] >= shard_size and frames - cut[1] >= shard_size:
            chosen.append(cut)
    if len(chosen) < 2:
        yield Shard("video", (entry,), pictures=frames or None)
        return
    for (start_s, first), following in itertools.zip_longest(chosen, chosen[1:]):
        end_s, last = (None, frames) if following is None else following
        yield Shard("video", (entry,), span_s=(start_s, end_s), pictures=last - first)


def _cuts(path: Path) -> tuple[list[Cut], int]:
    """Where the video may be divided, and its frames; nothing is decoded."""
    if not has_av():
        return [], 0
    import av

    try:
        with open_container(path) as container:
            stream: Any = container.streams.video[0]
            clock = Clock.of(stream)
            packets: list[tuple[Any, bool, Any]] = []
            stored = 0  # also what an edit list hides
            for packet in container.demux(stream):
                if packet.size:
                    stored += 1
                    clock.picture(packet)
                if packet.size and not packet.is_discard:
                    packets.append((packet.pts, bool(packet.is_keyframe), packet.time_base))
            promised = stream.frames
    except (av.FFmpegError, OSError, ValueError, IndexError):
        return [], 0  # who looks at it will say so
    if not packets or stored < promised or any(pts is None for pts, _, _ in packets):
        return [], len(packets)
    first_s = packets[0][0] * packets[0][2]
    # Behind a key frame may stand packets of frames that are shown before it, and lean on the ones before (open groups
    # of pictures): no cut there.
    moments: list[int] = [pts for pts, _, _ in packets]
    least_behind = list(itertools.accumulate(reversed(moments), min))[::-1]
    cuts = [
        (float(pts * time_base - first_s), number)
        for number, ((pts, is_key, time_base), least) in enumerate(zip(packets, least_behind, strict=True))
        if is_key and pts == least
    ]
    return cuts, len(packets)


def frame_rows(shard: Shard, detector: Detector, every: int, max_pixels: int) -> Generator[Row, None, None]:
    """A row a frame with all that the detector says of it, of those in between nothing; then one with the reason where
    the video breaks off or can't be read. They are joined later, when those of all shards are there."""
    name = shard.entries[0].name
    spans = None
    if shard.span_s is not None:
        start_s, end_s = shard.span_s
        spans = Spans(((start_s, math.inf if end_s is None else end_s),))
    seen = 0
    try:
        with open_frames(find_source(name), spans, max_pixels=max_pixels) as video:
            with closing(in_background(video.frames(), frames_ahead(video))) as frames:
                for frame in frames:
                    seen += 1
                    faces = detector.detect(frame.image_bgr) if frame.number % every == 0 else NO_FACES
                    yield Row(name, frame.image_bgr.shape[1::-1], faces, None, frame.number, frame.time_s)
            losses = [loss.why for loss in video.losses()]
            if not seen:
                losses.append("opened, but gave no frame. Is it damaged, or in use?")
    except FacekitError as error:
        losses = [Loss.of(name, error).why.removeprefix(f"`video={name}`: ")]
    if losses:
        yield Row(name, error="; ".join(losses))
