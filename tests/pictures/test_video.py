from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from facekit.base.files import protecting
from facekit.errors import FacekitError
from facekit.pictures import video as sources
from facekit.pictures.video import Video, boxes, find_source, open_capture
from facekit.pictures.video_file import VideoFile
from tests.pictures.support import black, frames_of, vary_rate, video


class TestFindSource:
    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(FacekitError, match=r"`video=.*none\.avi`: there is no such file"):
            find_source(str(tmp_path / "none.avi"))

    def test_pipe_device_folder(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe.mp4")
        for name in (str(tmp_path / "pipe.mp4"), "/dev/urandom"):
            with pytest.raises(FacekitError, match="a device or a pipe"):
                find_source(name)
        with pytest.raises(FacekitError, match="a folder"):
            find_source(str(tmp_path))

    def test_address_is_shown_without_password(self) -> None:
        source = find_source("rtsp://admin:ge heim@127.0.0.1:9/s")
        assert source.opened == "rtsp://admin:ge heim@127.0.0.1:9/s"
        assert source.name == "rtsp://admin:***@127.0.0.1:9/s"


@pytest.mark.skipif(sys.platform != "linux", reason="cameras are devices on Linux alone")
class TestCameras:
    """F12, P12."""

    @pytest.mark.parametrize("name", ["7", "{}/video7"])
    def test_none_of_that_number(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        monkeypatch.setattr(sources, "DEVICES", tmp_path)
        with pytest.raises(FacekitError, match=r"can't open camera 7: there is no .*video7\. Cameras here: none"):
            find_source(name.format(tmp_path))
        for camera in ("video0", "video2"):
            (tmp_path / camera).touch()
        with pytest.raises(FacekitError, match=r"video0 \(`video=0`\), .*video2 \(`video=2`\)\."):
            find_source(name.format(tmp_path))

    def test_number_device_or_link(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sources, "DEVICES", tmp_path)
        (tmp_path / "video3").touch()
        (tmp_path / "by-id").symlink_to(tmp_path / "video3")
        for name in ("3", str(tmp_path / "video3"), str(tmp_path / "by-id")):
            assert find_source(name).opened == 3


class TestDamaged:
    """F11: called damaged, and FFmpeg's own words stay off the screen."""

    def test_index_is_missing(self, tmp_path: Path) -> None:
        whole = video(tmp_path / "a.mp4", frames=20).read_bytes()
        (tmp_path / "a.mp4").write_bytes(whole[: whole.index(b"moov") - 4])
        assert "moov" not in boxes(tmp_path / "a.mp4")
        with pytest.raises(FacekitError, match=r"a damaged video: its index \(the moov atom\) is missing"):
            open_capture(find_source(str(tmp_path / "a.mp4")))

    @pytest.mark.parametrize(("data", "reason"), [
        (b"", "the file is empty"), (b"this is no video", "not a video that OpenCV can decode"),
        (b"RIFF" + bytes(100), "a video that is damaged"), (b"\x1aE\xdf\xa3" + bytes(100), "a video that is damaged"),
        (b"\0\0\0\x08ftyp" + bytes(100), "a damaged video"),
        (b"version https://git-lfs.github.com/spec/v1\n", "not a video: a Git LFS pointer"),
        (b"PK\x03\x04" + bytes(40), "not a video: a zip archive: unpack it first"),
    ])  # fmt: skip
    def test_others(self, tmp_path: Path, data: bytes, reason: str) -> None:
        (tmp_path / "a.avi").write_bytes(data)
        with pytest.raises(FacekitError, match=reason):
            open_capture(find_source(str(tmp_path / "a.avi")))

    def test_nothing_but_the_message(self, tmp_path: Path) -> None:
        whole = video(tmp_path / "a.mp4", frames=20).read_bytes()
        (tmp_path / "a.mp4").write_bytes(whole[: len(whole) // 2])
        code = f"""
from facekit.errors import FacekitError
from facekit.pictures.video import Source, find_source, open_capture
for source in (find_source({str(tmp_path / "a.mp4")!r}), Source("7", 7), find_source("rtsp://u:geheim@127.0.0.1:9/")):
    try:
        open_capture(source)
    except FacekitError as error:
        assert "geheim" not in str(error)
        print(error)
"""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENCV_")}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
        assert done.stderr == ""
        assert done.stdout.count("\n") == 3
        assert "can't open camera 7" in done.stdout


class TestFrames:
    def test_times(self, tmp_path: Path) -> None:
        with Video(find_source(str(video(tmp_path / "a.mp4", frames=10, fps=12.5)))) as source:
            times = [time_s for time_s, _ in source.frames()]
        assert np.allclose(times, np.arange(10) / 12.5, atol=2e-3)
        assert source.fps == source.told_fps == 12.5
        assert not source.losses()

    def test_rate_of_the_closest_frames(self, tmp_path: Path) -> None:
        vary_rate(video(tmp_path / "a.mp4", frames=12, fps=25), [3, 1, 2] * 4)
        with Video(find_source(str(tmp_path / "a.mp4"))) as source:
            assert source.told_fps == pytest.approx(12.5)
            assert source.fps == 25
            times = [time_s for time_s, _ in source.frames()]
        assert np.allclose(times, np.cumsum([0, *([3, 1, 2] * 4)[:-1]]) / 25, atol=2e-3)

    def test_times_that_run_back(self, tmp_path: Path) -> None:
        with Video(find_source(str(video(tmp_path / "a.avi", frames=4)))) as source:
            told = iter([0.0, 200.0, 100.0, 300.0])
            source.capture = Told(source.capture, told)
            times = [time_s for time_s, _ in source.frames()]
        assert np.allclose(times, [0, 0.2, 0.4, 0.6])
        assert "jump 1 times" in str(source.losses()[0])

    def test_without_times(self, tmp_path: Path) -> None:
        """As some cameras' drivers."""
        with Video(find_source(str(video(tmp_path / "a.avi", frames=4)))) as source:
            source.capture = Told(source.capture, iter([0.0] * 4))
            assert np.allclose([time_s for time_s, _ in source.frames()], [0, 0.2, 0.4, 0.6])
        assert not source.losses()

    @pytest.mark.parametrize(("suffix", "is_lost"), [(".mkv", False), (".webm", False), (".mp4", True), (".avi", True)])
    def test_a_first_frame_that_comes_late(self, tmp_path: Path, suffix: str, is_lost: bool) -> None:
        """Matroska's length begins before it, and the number of frames is guessed of that."""
        path = video(tmp_path / ("a.avi" if suffix == ".avi" else "a.mkv"), frames=10, fps=25)
        with Video(find_source(str(path.rename(path.with_suffix(suffix))))) as source:
            assert source.seconds and source.total
            source.seconds, source.total = source.seconds + 0.12, source.total + 3
            assert len(list(source.frames())) == 10
            assert bool(source.losses()) == is_lost

    def test_matroska_that_breaks_off(self, tmp_path: Path) -> None:
        path = video(tmp_path / "a.mkv", frames=50, fps=25)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with Video(find_source(str(path))) as source:
            count = len(list(source.frames()))
            (loss,) = source.losses()
        assert 0 < count < 45 and loss.why.endswith(f"of 2.00 s; {count} frames could be read")


class Told:
    """A capture that tells these times."""

    def __init__(self, capture: object, times_ms: object) -> None:
        self.capture, self.times_ms = capture, times_ms

    def read(self) -> tuple[bool, np.ndarray]:
        return self.capture.read()  # type: ignore[attr-defined, no-any-return]

    def get(self, _: int) -> float:
        return next(self.times_ms)  # type: ignore[call-overload, no-any-return]

    def release(self) -> None:
        self.capture.release()  # type: ignore[attr-defined]


class TestVideoFile:
    def test_a_frame_that_comes_too_close(self, tmp_path: Path) -> None:
        with VideoFile(tmp_path / "a.mp4", 10) as file:
            for time_s in (0, 0.1, 0.11, 0.12, 0.13, 0.2, 0.4):
                file.write(black(), time_s)
        assert (file.written, file.skipped, file.repeated) == (5, 2, 0)
        assert len(frames_of(tmp_path / "a.mp4")) == 5
        assert "2 frames left out, closer to others than 1/10 s" in str(file.losses[0])

    def test_odd_sides_are_padded(self, tmp_path: Path) -> None:
        frame = np.full((65, 97, 3), 200, np.uint8)
        with VideoFile(tmp_path / "a.mp4", 10) as file:
            file.write(frame, 0)
        assert frames_of(tmp_path / "a.mp4")[0].shape == (66, 98, 3)

    def test_a_name_that_looks_like_a_protocol(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        with VideoFile(Path("12:31.mp4"), 10) as file:
            file.write(black(), 0)
        assert len(frames_of(tmp_path / "12:31.mp4")) == 1

    def test_never_over_what_is_read(self, tmp_path: Path) -> None:
        path = video(tmp_path / "a.mp4")
        before = path.read_bytes()
        with protecting([path]), pytest.raises(FacekitError, match="this command reads it"), VideoFile(path, 10):
            pass
        assert path.read_bytes() == before

    @pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mkv"])
    def test_full_disk(self, tmp_path: Path, suffix: str) -> None:
        """P11: "50 frames", exit 0, and a file that can't be opened."""
        disk = tmp_path / "disk"
        disk.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("may not mount a small disk here")
        rng = np.random.default_rng(0)
        try:
            with pytest.raises(FacekitError, match="the disk is full"), VideoFile(disk / f"a{suffix}", 10) as file:
                for index in range(50):
                    file.write(rng.integers(0, 255, (120, 160, 3), np.uint8), index / 10)
            assert not list(disk.iterdir())
        finally:
            subprocess.run(["umount", str(disk)], check=True)

    def test_what_cannot_be_read_back_is_not_kept(self, tmp_path: Path) -> None:
        file = VideoFile(tmp_path / "a.mp4", 10)
        with pytest.raises(FacekitError, match="can't be read back"), file:
            file.write(black(), 0)
            file.writer.release()
            file.beside.write_bytes(b"gone")
        assert not list(tmp_path.iterdir())

    def test_frames_that_were_lost_are_told(self, tmp_path: Path) -> None:
        file = VideoFile(tmp_path / "a.mp4", 10)
        with file:
            for index in range(5):
                file.write(black(), index / 10)
            file.written += 2
        assert "5 of the 7 frames written can be read back" in str(file.losses[0])
