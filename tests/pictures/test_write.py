from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from facekit.base.files import protecting
from facekit.errors import FacekitError
from facekit.pictures.av_file import TAKEN
from facekit.pictures.frames import open_frames, open_sink
from facekit.pictures.read import is_cut_off, is_damaged, read_picture
from facekit.pictures.video import find_source
from facekit.pictures.video_file import ONLY_AV_SUFFIXES, VideoFile
from facekit.pictures.video_file import WRITTEN_SUFFIXES as VIDEO_SUFFIXES
from facekit.pictures.write import WRITTEN_SUFFIXES, check_replaceable, is_drawn, sign_video, write_picture
from tests.pictures.support import HEIGHT, WIDTH, black, frames_of, video


@pytest.mark.parametrize("suffix", WRITTEN_SUFFIXES)
class TestEveryKind:
    def test_is_written(self, tmp_path: Path, suffix: str) -> None:
        write_picture(tmp_path / f"a{suffix}", black())
        assert cv2.imread(str(tmp_path / f"a{suffix}")).shape == (HEIGHT, WIDTH, 3)

    def test_is_known_again(self, tmp_path: Path, suffix: str) -> None:
        noise = np.random.default_rng(0).integers(0, 255, (200, 300, 3), np.uint8)  # larger than what is searched
        cv2.imwrite(str(tmp_path / f"other{suffix}"), noise)
        assert not is_drawn(tmp_path / f"other{suffix}")
        path = tmp_path / f"a{suffix}"
        write_picture(path, noise)
        assert is_drawn(path)
        assert not is_cut_off(path.read_bytes()) and not is_damaged(path.read_bytes())
        if suffix in (".png", ".bmp", ".tif"):
            np.testing.assert_array_equal(read_picture(path), noise)


class TestVideos:
    """Of both writers, and read as before."""

    def check(self, path: Path, count: int) -> None:
        assert is_drawn(path)
        check_replaceable(path)
        assert len(frames_of(path)) == count

    @pytest.mark.parametrize("suffix", VIDEO_SUFFIXES)
    def test_of_opencv(self, tmp_path: Path, suffix: str) -> None:
        with VideoFile(tmp_path / f"a{suffix}", 10) as file:
            for number in range(3):
                file.write(black(), number / 10)
        self.check(tmp_path / f"a{suffix}", 3)

    @pytest.mark.parametrize("suffix", [*VIDEO_SUFFIXES, *ONLY_AV_SUFFIXES])
    def test_of_pyav(self, tmp_path: Path, suffix: str) -> None:
        pytest.importorskip("av")
        from tests.pictures.av_support import make

        source = make(tmp_path / "in.mp4", range(0, 1000, 40), sound=False)
        with open_frames(find_source(str(source))) as frames, open_sink(tmp_path / f"a{suffix}", frames) as sink:
            for frame in frames.frames():
                sink.write(frame, frame.image_bgr)
        self.check(tmp_path / f"a{suffix}", 25)

    def test_what_cannot_be_signed(self, tmp_path: Path) -> None:
        with pytest.raises(FacekitError, match=r"none/a\.mp4: can't be written to its end .* Nothing was kept"):
            sign_video(tmp_path / "none" / "a.mp4")

    def test_of_others(self, tmp_path: Path) -> None:
        source = video(tmp_path / "in.avi")
        assert not is_drawn(source)
        with pytest.raises(FacekitError, match=r"in\.avi: is there already, and facekit didn't write it"):
            check_replaceable(source)
        check_replaceable(tmp_path / "none.mp4")


@pytest.mark.parametrize("name", ["a", "a.gif", "a.txt"])
def test_unknown_kind(tmp_path: Path, name: str) -> None:
    with pytest.raises(FacekitError, match=rf"{name}: unknown kind of picture; expected one of \.jpg"):
        write_picture(tmp_path / name, black())
    assert not list(tmp_path.iterdir())


def test_more_than_the_format_has_room_for(tmp_path: Path) -> None:
    with pytest.raises(FacekitError, match=r"70000x2 pixels can't be encoded as \.jpg"):
        write_picture(tmp_path / "a.jpg", np.zeros((2, 70_000, 3), np.uint8))
    assert not list(tmp_path.iterdir())


def test_never_over_what_is_read(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", black())
    before = (tmp_path / "a.png").read_bytes()
    with protecting([tmp_path / "a.png"]), pytest.raises(FacekitError, match="this command reads it"):
        write_picture(tmp_path / "a.png", black() + 1)
    assert (tmp_path / "a.png").read_bytes() == before


@pytest.mark.parametrize("data", [b"", b"Drawn", b"x" * 10_000])
def test_files_that_are_no_pictures(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.jpg").write_bytes(data)
    assert not is_drawn(tmp_path / "a.jpg")
    assert not is_drawn(tmp_path / "none.jpg")


def test_a_kind_that_loses_its_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MPEG-TS has no number for MJPEG: were it written so, the stream would be lost without a word."""
    pytest.importorskip("av")
    monkeypatch.setitem(TAKEN, ".ts", ("mjpeg",))
    source = video(tmp_path / "in.avi")  # of MJPEG
    with (
        pytest.raises(FacekitError, match=r"0 frames of None can be read back, of 3"),
        open_frames(find_source(str(source))) as frames,
        open_sink(tmp_path / "a.ts", frames) as sink,
    ):
        for frame in frames.frames():
            sink.write(frame, frame.image_bgr)
    assert not (tmp_path / "a.ts").exists()
