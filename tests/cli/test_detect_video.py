"""facekit detect on video."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import facekit
from facekit.detector import Detector
from facekit.errors import FacekitError
from facekit.results.json_files import read_jsonl
from tests.cli.support import fails, run
from tests.conftest import Server
from tests.pictures.av_support import make, sound_of, times_ms
from tests.pictures.support import video

TIMES = [0, 40, 90, 120, 200, 210, 280, 330, 360, 420, 450, 500]


@pytest.fixture(scope="module")
def walking(tmp_path_factory: pytest.TempPathFactory, project_dir: Path) -> Path:
    """A face that goes six pixels a frame to the right, at varying times, with a tone."""
    portrait = cv2.resize(cv2.imread(str(project_dir / "data" / "demo" / "astronaut.jpg")), (160, 160))
    wide = np.concatenate([np.full((160, 80, 3), 90, np.uint8), portrait, np.full((160, 80, 3), 90, np.uint8)], axis=1)
    images = [np.ascontiguousarray(np.roll(wide, 6 * number, axis=1)) for number in range(len(TIMES))]
    return make(tmp_path_factory.mktemp("video") / "walk.mp4", TIMES, (320, 160), images_bgr=images)


def test_a_row_a_frame_and_all_is_kept(walking: Path, tmp_path: Path) -> None:
    out = tmp_path / "found.mp4"
    assert (
        run("detect", walking, "--jsonl", tmp_path / "a.jsonl", "--draw", out, "--track", "--crops", tmp_path / "c")
        == 0
    )
    rows = list(read_jsonl(tmp_path / "a.jsonl"))
    assert [row.frame for row in rows] == list(range(12))
    assert [round(1000 * (row.time_s or 0)) for row in rows] == TIMES
    assert [row.faces.track_ids.tolist() for row in rows if row.faces.track_ids is not None] == [[1]] * 12
    lefts = np.array([row.faces.boxes_xyxy[0, 0] for row in rows])
    assert np.abs(np.diff(lefts) - 6).max() < 4
    assert times_ms(out) == TIMES and np.array_equal(sound_of(out), sound_of(walking))
    capture = cv2.VideoCapture(str(out))
    drawn, plain = capture.read()[1], cv2.VideoCapture(str(walking)).read()[1]
    assert np.abs(drawn.astype(int) - plain).max() > 60
    assert len(list((tmp_path / "c" / "walk").iterdir())) == 12
    assert [row.faces.boxes_xyxy.tolist() for row in facekit.detect(walking)] == [
        row.faces.boxes_xyxy.tolist() for row in rows
    ]


@pytest.mark.parametrize("flag", ["--jsonl", "--csv", "--parquet"])
def test_a_forgotten_value_does_not_cost_a_video(
    walking: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], flag: str
) -> None:
    first = tmp_path / "1.mp4"
    first.write_bytes(walking.read_bytes())
    text = fails(capsys, "detect", flag, first, walking)  # --jsonl *.mp4
    assert "1.mp4: is " in text and first.read_bytes() == walking.read_bytes()


def test_a_frame_that_the_network_refuses_ends_its_video_alone(
    walking: Path, tmp_path: Path, project_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    detect, calls = Detector.detect, list[int]()

    def refusing(self: Detector, picture: Any) -> Any:
        calls.append(1)
        if len(calls) == 5:
            raise FacekitError("takes pictures of 320x160 alone")
        return detect(self, picture)

    monkeypatch.setattr(Detector, "detect", refusing)
    portrait = project_dir / "data" / "demo" / "astronaut.jpg"
    assert run("detect", walking, portrait, "--jsonl", tmp_path / "a.jsonl", "--draw", tmp_path / "drawn") == 3
    rows = list(read_jsonl(tmp_path / "a.jsonl"))
    assert [row.frame for row in rows] == [0, 1, 2, 3, None, None]
    assert rows[4].error == "from frame 4 on: takes pictures of 320x160 alone" and len(rows[5].faces) == 1
    assert times_ms(tmp_path / "drawn" / "walk.mp4") == TIMES[:4]


def test_every_nth_frame_and_spans(walking: Path) -> None:
    rows = list(facekit.detect(walking, every=4))
    between = [row.faces.is_interpolated.tolist() for row in rows if row.faces.is_interpolated is not None]
    assert between == [[number % 4 > 0] for number in range(12)]
    assert rows[3].faces.boxes_xyxy.tolist() == rows[0].faces.boxes_xyxy.tolist()
    tracked = list(facekit.detect(walking, every=3, track=True))
    lefts = [float(row.faces.boxes_xyxy[0, 0]) for row in tracked[6:]]
    assert np.abs(np.diff(lefts) - 6).max() < 8  # carried boxes move on
    assert [row.frame for row in facekit.detect(walking, start="0.2", end="0.3")] == [4, 5, 6]


@pytest.mark.parametrize("reads_by_av", [True, False])
def test_spans_without_a_frame(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, walking: Path, reads_by_av: bool
) -> None:
    if not reads_by_av:
        monkeypatch.setattr("facekit.pictures.frames.has_av", lambda: False)
    said = fails(capsys, "detect", walking, "--from", 10)
    assert "no frame from 10 s on: the video ends at 0.5 s. Give an earlier --from." in said
    assert "no frame from 0.46 to 0.48 s. Give" in fails(capsys, "detect", walking, "--from", 0.46, "--to", 0.48)


@pytest.mark.parametrize("reads_by_av", [True, False])
@pytest.mark.parametrize(("parts", "frames", "why"), [
    ((0.2, 0.3, 50, 60), [4, 5, 6], "no frame from 50 to 60 s: the video ends at 0.5 s"),
    ((0.2, 0.3, 50), [4, 5, 6], "no frame from 50 s on: the video ends at 0.5 s"),
    ((0.2, 0.21, 0.46, 0.48, 0.49, 0.6), [4, 11], "no frame from 0.46 to 0.48 s"),
])  # fmt: skip
def test_a_part_without_a_frame_is_a_loss(
    monkeypatch: pytest.MonkeyPatch, walking: Path, tmp_path: Path, reads_by_av: bool, parts: tuple[float, ...],
    frames: list[int], why: str,
) -> None:  # fmt: skip
    if not reads_by_av:
        monkeypatch.setattr("facekit.pictures.frames.has_av", lambda: False)
    named = [word for number, time_s in enumerate(parts) for word in (("--from", "--to")[number % 2], time_s)]
    assert run("detect", walking, *named, "--jsonl", tmp_path / "a.jsonl") == 3
    *found, last = read_jsonl(tmp_path / "a.jsonl")
    assert [row.frame for row in found] == frames and last.error == why


def test_anonymize_says_a_part_without_a_frame(
    capsys: pytest.CaptureFixture[str], walking: Path, tmp_path: Path
) -> None:  # fmt: skip
    assert run("anonymize", walking, "-o", tmp_path / "b.mp4", "--from", 0.2, "--to", 0.3, "--from", 50) == 3
    assert capsys.readouterr().err.count("no frame from 50 s on") == 1
    assert len(times_ms(tmp_path / "b.mp4")) == 3


def test_pictures_and_videos_in_their_order_and_gone_on_with(
    capsys: pytest.CaptureFixture[str], walking: Path, project_dir: Path, tmp_path: Path
) -> None:
    """A broken-off video starts anew; what is whole before it is kept."""
    portrait = project_dir / "data" / "demo" / "astronaut.jpg"
    (tmp_path / "b.jpg").write_bytes(portrait.read_bytes())
    inputs = [portrait, walking, tmp_path / "b.jpg", walking]
    assert run("detect", *inputs, "--jsonl", tmp_path / "whole.jsonl") == 0
    whole = (tmp_path / "whole.jsonl").read_bytes()
    assert whole.count(b"\n") == 26
    iterator = facekit.detect([str(name) for name in inputs], jsonl=tmp_path / "a.jsonl")
    for _ in range(18):  # in the middle of the second video
        next(iterator)
    del iterator
    capsys.readouterr()
    assert run("detect", *inputs, "--jsonl", tmp_path / "a.jsonl", "--resume") == 0
    assert "behind the 14 pictures" in capsys.readouterr().err
    assert (tmp_path / "a.jsonl").read_bytes() == whole


def test_what_breaks_off_has_a_row(walking: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "none.mp4").write_bytes(b"\0\0\0\x18ftypisom" + b"x" * 64)
    assert "a damaged video" in fails(capsys, "detect", tmp_path / "none.mp4", "--csv", tmp_path / "a.csv")
    assert run("detect", walking, tmp_path / "none.mp4", "--jsonl", tmp_path / "a.jsonl") == 3
    rows = list(read_jsonl(tmp_path / "a.jsonl"))
    assert len(rows) == 13 and "damaged" in (rows[-1].error or "")


@pytest.fixture
def slow_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    """Far slower than frames come."""
    detect = Detector.detect

    def slow(self: Detector, picture: Any) -> Any:
        time.sleep(0.02)
        return detect(self, picture)

    monkeypatch.setattr(Detector, "detect", slow)


@pytest.mark.usefixtures("slow_detector")
def test_a_live_stream(server: Server, tmp_path: Path) -> None:
    """Frames may be dropped, and are counted."""
    source = make(tmp_path / "a.ts", range(0, 800, 40), sound=False)
    server.files["a.ts"], server.content_type = source.read_bytes(), "video/mp2t"
    server.says_length = server.resumes = False
    found = facekit.detect((server.url("a.ts"),), draw=tmp_path / "out.avi")
    rows = list(found)
    assert 1 <= len(rows) < 20 and len(rows) + found.work.dropped == 20
    assert rows[-1].frame == 19 and rows[0].source == server.url("a.ts")
    assert len(times_ms(tmp_path / "out.avi")) == len(rows)


@pytest.mark.usefixtures("slow_detector")
@pytest.mark.parametrize("name", ["a.mp4", "a.avi", "a.m3u8"])
def test_a_file_of_a_server_waits(server: Server, tmp_path: Path, name: str) -> None:
    """Also a playlist that has an end."""
    if name == "a.avi":
        source = video(tmp_path / name, frames=30)
    else:
        source = make(tmp_path / name.replace("m3u8", "ts"), range(0, 1200, 40), sound=False)
    server.files[source.name] = source.read_bytes()
    if name == "a.m3u8":
        parts = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.2,\na.ts\n#EXT-X-ENDLIST\n"
        server.files[name], server.content_type = parts.encode(), "application/vnd.apple.mpegurl"
    found = facekit.detect((server.url(name),), draw=tmp_path / "out.mp4")
    assert [row.frame for row in found] == list(range(30))
    assert not found.losses and not found.work.dropped
    assert len(times_ms(tmp_path / "out.mp4")) == 30
    if name == "a.avi":
        server.cut_after = len(source.read_bytes()) * 2 // 3
        *_, last = facekit.detect((server.url(name),))
        assert "cut off or damaged" in (last.error or "")


def test_a_video_is_not_drawn_over_itself(walking: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = walking.read_bytes()
    assert "written over" in fails(capsys, "detect", walking, "--draw", walking)
    assert "written over" in fails(capsys, "detect", walking, "--draw", walking.parent)
    assert walking.read_bytes() == before
    other = walking.parent / "drawn" / walking.name
    other.parent.mkdir()
    other.write_bytes(b"another's")
    assert "facekit didn't write it" in fails(capsys, "detect", walking, "--draw", other.parent)
    assert other.read_bytes() == b"another's"
    other.unlink()
    assert run("detect", walking, "--draw", other.parent) == run("detect", walking, "--draw", other.parent) == 0


def test_ctrl_c_leaves_what_can_be_played(walking: Path, tmp_path: Path, project_dir: Path) -> None:
    images = [np.full((160, 320, 3), number % 200, np.uint8) for number in range(900)]
    source = make(tmp_path / "long.mp4", range(0, 36000, 40), (320, 160), images_bgr=images)
    out = tmp_path / "out.mp4"
    command = [sys.executable, "-m", "facekit", "detect", source, "--draw", out, "--threads", "1"]
    with subprocess.Popen(command, cwd=project_dir, stderr=subprocess.PIPE) as process:
        until = time.monotonic() + 30
        while not list(tmp_path.glob("*.unfinished")) and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        _, text = process.communicate()
    assert process.returncode == 130, text
    assert re.search(rb"Stopped after \d+ of 900 frames\.", text), text
    assert 0 < len(times_ms(out)) < 900
