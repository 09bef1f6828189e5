"""Parts of a video: the numbers, times and sound that they have in the whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from facekit.pictures.av_file import AvFile
from facekit.pictures.av_video import AvVideo
from facekit.pictures.spans import Spans
from tests.pictures.av_support import av, make, moved, sound_ms, times_ms

STARTS = ("0.12", "0.41", "0.48", "0.9", "1.2", "1.57")
HOURS_S = 15 * 3600.0


def rows(path: Path, start: str | None = None) -> list[tuple[int, int, int]]:
    """Number, milliseconds and grey of the frames from there on; from 31 on they are as good as white."""
    with AvVideo(path, None if start is None else Spans.of([start], [])) as reader:
        found = [
            (frame.number, round(1000 * frame.time_s), min(round(frame.image_bgr.mean() / 8), 31))
            for frame in reader.frames()
        ]
        assert not reader.losses()
    return found


def is_from(row: tuple[int, int, int], start: str) -> bool:
    return row[1] >= 1000 * float(start)


@pytest.mark.parametrize(("name", "by_s"), [
    ("a.mkv", 5), ("a.mp4", 5), ("a.ts", 5), ("a.ts", HOURS_S), ("a.mp4", -0.32), ("a.mp4", -0.36),
])  # fmt: skip
def test_sound_of_a_part_stays_with_its_pictures(tmp_path: Path, name: str, by_s: float) -> None:
    """Wherever the file's clock begins."""
    source = moved(make(tmp_path / "0.mp4", range(0, 2000, 40), b_frames=3), tmp_path / name, by_s)
    with AvVideo(source, Spans.of(["0.5", "1.2"], ["0.9", "1.4"]), wants_others=True) as reader, \
            AvFile(tmp_path / "b.mkv", reader, reader.fps) as sink:  # fmt: skip
        for frame in reader.frames():
            sink.write(frame, frame.image_bgr)
    with av.open(str(source)) as container:
        first_ms = min(1000 * float(frame.pts * frame.time_base) for frame in container.decode(video=0))
    begins = sound_ms(source)[:, 0] - first_ms
    expected = [begins[(begins >= 500) & (begins < 900)] - 500, begins[(begins >= 1200) & (begins < 1400)] - 800]
    assert np.allclose(sound_ms(tmp_path / "b.mkv")[:, 0], np.concatenate(expected), atol=2)
    assert sink.written == len(times_ms(tmp_path / "b.mkv")) == 15


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.ts"])
def test_frames_of_open_groups_keep_their_numbers(tmp_path: Path, name: str, codec: str) -> None:
    """Frames behind a key frame that are shown before it are not decoded where it is the first."""
    source = make(tmp_path / name, range(0, 2000, 40), sound=False, codec=codec, b_frames=3)
    whole = rows(source)
    assert whole == [(i, 40 * i, min(i, 31)) for i in range(50)]
    for start in STARTS:
        assert rows(source, start) == [row for row in whole if is_from(row, start)]


@pytest.mark.parametrize("hidden", [1, 8, 9, 10, 11, 14])
def test_a_trimmed_video_begins_at_its_first_shown_frame(tmp_path: Path, hidden: int) -> None:
    """Of the frames before, all of which are in the file, none has a time or a number."""
    whole = make(tmp_path / "0.mp4", range(0, 2000, 40), sound=False, b_frames=3)
    source = moved(whole, tmp_path / "a.mp4", -0.04 * hidden)
    shown = rows(source)
    assert shown == [(i, 40 * i, min(i + hidden, 31)) for i in range(50 - hidden)]
    for start in STARTS:
        assert rows(source, start) == [row for row in shown if is_from(row, start)]


def test_sound_that_is_trimmed_away_stays_away(tmp_path: Path) -> None:
    """It is in the file, and would be heard where the copy has no edit list."""
    whole = make(tmp_path / "0.mp4", range(0, 2000, 40), b_frames=3)
    source = moved(whole, tmp_path / "a.mp4", -0.36)
    assert sound_ms(source)[0, 0] < -360
    with AvVideo(source, wants_others=True) as reader, AvFile(tmp_path / "b.mkv", reader, reader.fps) as sink:
        for frame in reader.frames():
            sink.write(frame, frame.image_bgr)
    with av.open(str(tmp_path / "b.mkv")) as container:
        first_ms = 1000 * next(container.decode(video=0)).time
    begins = sound_ms(source)[:, 0]
    assert np.allclose(sound_ms(tmp_path / "b.mkv")[:, 0] - first_ms, begins[begins >= -80], atol=2)
