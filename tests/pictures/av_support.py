"""Videos with sound and odd times, made by PyAV, and what is in a file."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

av = pytest.importorskip("av")


def make(
    path: Path, times_ms: Sequence[int], size_wh: tuple[int, int] = (96, 64), sound: bool = True,
    codec: str = "libx264", images_bgr: Sequence[Any] | None = None, key_every: int = 10,
    sound_s: float | None = None, b_frames: int | None = None, **looks: Any,
) -> Path:  # fmt: skip
    """Frame i is grey 8 i; a tone of 440 Hz beside it, as long as they or sound_s. With b_frames as many stand between
    two others, in groups of pictures that are open: the first ones of a group lean on the one before."""
    b_pictures = f"bframes={b_frames}:b-adapt=0:open-gop=1:keyint={key_every}:min-keyint={key_every}:scenecut=0"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options={"g": str(key_every)} | (
            {"crf": "10"} if codec == "libx264" else {}
        ) | ({f"{codec[3:]}-params": b_pictures} if b_frames else {}))  # fmt: skip
        stream.width, stream.height = size_wh
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for name, value in looks.items():
            setattr(stream.codec_context, name, value)
        tone = container.add_stream("aac", rate=48000) if sound else None
        for index, time_ms in enumerate(times_ms):
            grey = np.full((size_wh[1], size_wh[0], 3), min(8 * index, 255), np.uint8)
            frame = av.VideoFrame.from_ndarray(grey if images_bgr is None else images_bgr[index], format="bgr24")
            frame.pts, frame.time_base = time_ms, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        for block in range(int((1000 * sound_s if sound_s else times_ms[-1]) * 48 / 1024) if tone else 0):
            wave = 0.2 * np.sin(2 * np.pi * 440 * (np.arange(1024) + 1024 * block) / 48000)
            heard = av.AudioFrame.from_ndarray(np.tile(wave.astype(np.float32), (2, 1)), format="fltp", layout="stereo")
            heard.sample_rate, heard.pts, heard.time_base = 48000, 1024 * block, Fraction(1, 48000)
            container.mux(tone.encode(heard))
        if tone:
            container.mux(tone.encode(None))
    return path


def times_ms(path: Path) -> list[int]:
    """Of the frames, since the first."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        times = [round(1000 * float(frame.pts * stream.time_base)) for frame in container.decode(stream)]
    return [time - times[0] for time in times]


def sound_of(path: Path) -> np.ndarray:
    """(N,) of the first channel."""
    with av.open(str(path)) as container:
        parts = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
    return np.concatenate(parts)


def moved(source: Path, target: Path, by_s: float) -> Path:
    """Its packets, that much later; in an MP4 what comes before 0 is there, but hidden by an edit list."""
    with av.open(str(source)) as one, av.open(str(target), "w") as other:
        streams = [other.add_stream_from_template(stream) for stream in one.streams]
        for packet in one.demux():
            if packet.dts is not None:
                ticks = round(by_s / packet.time_base)
                packet.pts, packet.dts = packet.pts + ticks, packet.dts + ticks
                packet.stream = streams[packet.stream.index]
                other.mux(packet)
    return target


def sound_ms(path: Path) -> np.ndarray:
    """(N, 2): when each packet of the sound begins and ends."""
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(audio=0) if packet.size]
        return np.array(
            [(p.pts * p.time_base * 1000, (p.pts + p.duration) * p.time_base * 1000) for p in packets], float
        )
