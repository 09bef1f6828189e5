"""Files whose clock starts again: times go on, and sound stays with its pictures."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from facekit.cluster.stores import Entry
from facekit.cluster.videos import shards_of
from facekit.pictures.av_file import AvFile
from facekit.pictures.av_video import AvVideo
from facekit.pictures.clock import Clock
from facekit.pictures.spans import Spans
from tests.pictures.av_support import av, make, sound_ms, times_ms


def joined(target: Path, *parts: Path) -> Path:
    target.write_bytes(b"".join(part.read_bytes() for part in parts))
    return target


def copied(source: Path, target: Path, sound: bool = True) -> tuple[list[int], list[str]]:
    """Times of the written frames in milliseconds, and the losses."""
    with AvVideo(source, None, True, sound=sound) as reader, AvFile(target, reader, reader.fps, sound) as sink:
        for frame in reader.frames():
            sink.write(frame, frame.image_bgr)
    return times_ms(target), [loss.why for loss in (*reader.losses(), *sink.losses)]


def test_joined_recordings_go_on(tmp_path: Path) -> None:
    """Three times 15 frames; each part's sound lies where its own pictures are."""
    part = make(tmp_path / "1.ts", range(0, 600, 40))
    source = joined(tmp_path / "a.ts", part, part, part)
    with AvVideo(source) as reader:
        frames = list(reader.frames())
        assert not reader.losses()
    assert [round(1000 * frame.time_s) for frame in frames] == list(range(0, 1800, 40))
    assert [round(frame.image_bgr.mean() / 8) for frame in frames] == [*range(15)] * 3
    times, losses = copied(source, tmp_path / "b.mp4")
    assert times == list(range(0, 1800, 40)) and not losses
    copied(part, tmp_path / "one.mp4")
    alone, all_ms = sound_ms(tmp_path / "one.mp4"), sound_ms(tmp_path / "b.mp4")
    for number in range(3):
        begins = all_ms[number * len(alone) : (number + 1) * len(alone), 0]
        assert np.allclose(begins - 600 * number, alone[:, 0], atol=2)


def test_spans_reach_the_second_part(tmp_path: Path) -> None:
    part = make(tmp_path / "1.ts", range(0, 600, 40), sound=False)
    with AvVideo(joined(tmp_path / "a.ts", part, part), Spans.of(["0.31", "0.91"], ["0.39", "0.99"])) as reader:
        frames = list(reader.frames())
    found = [(frame.number, round(1000 * frame.time_s)) for frame in frames]
    assert found == [(8, 320), (9, 360), (23, 920), (24, 960)]
    assert [round(frame.image_bgr.mean() / 8) for frame in frames] == [8, 9, 8, 9]


def test_sound_without_room_is_a_loss(tmp_path: Path) -> None:
    """Half a second more of it than of pictures, before the next part's."""
    part = make(tmp_path / "1.ts", range(0, 600, 40), sound_s=1.1)
    times, losses = copied(joined(tmp_path / "a.ts", part, part), tmp_path / "b.mkv")
    assert times == list(range(0, 1200, 40))
    (why,) = losses
    assert "its clock starts again: 0.5" in why and "s of sound that has no place there are left out" in why
    begins, ends = sound_ms(tmp_path / "b.mkv").T
    assert (begins[1:] >= ends[:-1] - 2).all() and ends[-1] > 1600
    assert copied(tmp_path / "a.ts", tmp_path / "mute.mkv", sound=False) == (times, [])  # nobody wanted it


def test_times_that_run_back_a_little(tmp_path: Path) -> None:
    part = make(tmp_path / "1.ts", [0, 40], sound=False)
    with AvVideo(joined(tmp_path / "a.ts", part, part)) as reader:
        times = [frame.time_s for frame in reader.frames()]
    assert len(times) == 4 and (np.diff(times) > 0).all()
    assert "the times of 2 frames run back; they follow each other there" in reader.losses()[0].why


def test_shards_of_joined_recordings(tmp_path: Path) -> None:
    part = make(tmp_path / "1.ts", range(0, 1200, 40), sound=False)
    source = joined(tmp_path / "a.ts", part, part)
    shards = list(shards_of(Entry(str(source), None), 10))
    assert len(shards) > 2 and shards[-1].span_s is not None and shards[-1].span_s[0] > 1.2
    found = []
    for shard in shards:
        assert shard.span_s is not None
        start_s, end_s = shard.span_s
        with AvVideo(source, Spans(((start_s, 1e9 if end_s is None else end_s),))) as reader:
            found += [frame.number for frame in reader.frames()]
    assert found == list(range(60))


@pytest.mark.parametrize("step_ms", [333, 1000])
def test_frames_that_come_seldom_are_no_start(tmp_path: Path, step_ms: int) -> None:
    """Stored in another order than they are shown: Matroska's first packets have no dts, as FFmpeg works it out of
    later ones."""
    times = range(0, 12 * step_ms, step_ms)
    source = make(tmp_path / "a.mkv", times, sound=False, b_frames=3)
    with av.open(str(source)) as container:
        assert [packet.dts for packet in container.demux(video=0)][:3] == [None, None, 0]
    with AvVideo(source) as reader:
        assert [round(1000 * frame.time_s) for frame in reader.frames()] == [*times]
    assert not reader.losses() and not reader.backward


def packet(kind: str, time_ms: int, lasts_ms: int = 20, is_keyframe: bool = True) -> Any:
    stream = SimpleNamespace(type=kind, index=int(kind != "video"))
    return SimpleNamespace(
        pts=time_ms, dts=time_ms, time_base=Fraction(1, 1000), duration=lasts_ms, stream=stream, is_keyframe=is_keyframe
    )


def passed(packets: list[Any]) -> tuple[Clock, list[int], list[int]]:
    """The clock, and the milliseconds of pictures and of what is beside them."""
    clock, beside = Clock(0.04), []
    for each in packets:
        (clock.picture if each.stream.type == "video" else clock.beside)(each)
        beside += [other.pts for other in clock.ready()]
    clock.end()
    return clock, [each.pts for each in packets if each.stream.type == "video"], beside


class TestClock:
    def test_sound_that_comes_before_its_pictures_waits(self) -> None:
        clock, pictures, sound = passed([
            packet("video", 0), packet("audio", 0), packet("video", 400), packet("audio", 400), packet("audio", 0),
            packet("audio", 20), packet("video", 0), packet("audio", 40),
        ])  # fmt: skip
        assert pictures == [0, 400, 440] and sound == [0, 400, 440, 460, 480]
        assert clock.restarts == 1 and not clock.left_out_s and not clock.is_apart

    @pytest.mark.parametrize(("back_ms", "is_keyframe", "restarts"), [
        (100, True, 0), (200, True, 1), (200, False, 0), (1200, False, 1),
    ])  # fmt: skip
    def test_what_is_a_start(self, back_ms: int, is_keyframe: bool, restarts: int) -> None:
        clock, *_ = passed([packet("video", 2000), packet("video", 2000 - back_ms, is_keyframe=is_keyframe)])
        assert clock.restarts == restarts

    def test_sound_alone_that_starts_again_is_left_out(self) -> None:
        clock, _, sound = passed([packet("video", 0), packet("audio", 0), packet("audio", 400), packet("audio", 0)])
        assert sound == [0, 400] and clock.left_out_s == pytest.approx(0.02)

    def test_sound_that_goes_on_is_apart(self) -> None:
        clock, _, sound = passed([
            packet("video", 0), packet("audio", 0), packet("video", 4000), packet("audio", 4000), packet("video", 0),
            packet("audio", 4600), packet("audio", 5200),
        ])  # fmt: skip
        assert sound == [0, 4000, 4600, 5200] and clock.is_apart

    def test_subtitles_follow_the_pictures(self) -> None:
        *_, words = passed([packet("video", 0), packet("video", 4000), packet("video", 0), packet("subtitle", 3000)])
        assert words == [7040]
