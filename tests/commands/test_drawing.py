from __future__ import annotations

import logging
import os
import signal
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from facekit.commands import drawing
from facekit.commands.drawing import (
    Drawn,
    Watched,
    plan_pictures,
    plan_video,
    visualize_pictures,
    visualize_video,
)  # fmt: skip
from facekit.errors import FacekitError, Interrupted, Loss
from facekit.pictures.draw import draw_faces
from facekit.pictures.write import SIGNATURE
from facekit.structures import Detections
from tests.pictures.support import HEIGHT, WIDTH, black, faces, frames_of, picture, vary_rate, video


class StubDetector:
    """Finds one sure and one doubtful face in every picture, and remembers what it saw."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, ...]] = []

    def losses(self) -> list[Loss]:
        return []

    def detect(self, image_bgr: NDArray[np.uint8]) -> Detections:
        self.seen.append(image_bgr.shape)
        boxes = np.array([[10, 20, 60, 55], [70, 40, 90, 60]], np.float32)
        return Detections(boxes, np.array([0.9, 0.3], np.float32))


class FaceLess(StubDetector):
    """Leaves frames as they are."""

    def detect(self, image_bgr: NDArray[np.uint8]) -> Detections:
        self.seen.append(image_bgr.shape)
        return Detections(np.empty((0, 4), np.float32), np.empty(0, np.float32))


def stub() -> Any:
    return StubDetector()


@pytest.fixture(autouse=True)
def no_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)


def draw(detector: Any, sources: list[Path] | Path, output: Path | None, threshold: float = 0.5) -> Drawn:
    names = [str(source) for source in (sources if isinstance(sources, list) else [sources])]
    return visualize_pictures(detector, plan_pictures(names, output), threshold)


def watch(detector: Any, source: Path | str, output: Path | None, **options: Any) -> Watched:
    return visualize_video(detector, plan_video(str(source), output), 0.5, **options)


class TestPictures:
    def test_into_a_folder(self, tmp_path: Path) -> None:
        detector = stub()
        sources = [picture(tmp_path / "in" / name) for name in ("a.png", "b.jpg")]
        drawn = draw(detector, sources, tmp_path / "out")
        assert drawn.written == [tmp_path / "out" / "a.png", tmp_path / "out" / "b.jpg"]
        assert not drawn.losses
        canvas = cv2.imread(str(drawn.written[0]))
        np.testing.assert_array_equal(canvas, draw_faces(black(), faces((10, 20, 60, 55))))
        assert detector.seen == [(HEIGHT, WIDTH, 3)] * 2

    def test_threshold(self, tmp_path: Path) -> None:
        source = picture(tmp_path / "a.png")
        [low] = draw(stub(), source, tmp_path / "low", 0.1).written
        [high] = draw(stub(), source, tmp_path / "high", 0.95).written
        assert cv2.imread(str(low))[50, 70].any()
        assert not cv2.imread(str(high)).any()

    def test_single_into_a_file(self, tmp_path: Path) -> None:
        drawn = draw(stub(), picture(tmp_path / "a.png"), tmp_path / "new" / "drawn.jpg")
        assert drawn.written == [tmp_path / "new" / "drawn.jpg"]
        assert [p.name for p in (tmp_path / "new").iterdir()] == ["drawn.jpg"]

    def test_same_names_do_not_overwrite_each_other(self, tmp_path: Path) -> None:
        names = ["x/a.png", "y/a.png", "z/a_2.png", "w/a.png", "v/a_2.png", "u/A.png"]
        sources = [picture(tmp_path / "in" / name) for name in names]
        written = draw(stub(), sources, tmp_path / "out").written
        assert len({str(path).lower() for path in written}) == len(sources)
        assert all(path.is_file() for path in written)
        assert written[0].name == "a.png"

    def test_kinds_that_cannot_be_written_become_jpeg(self, tmp_path: Path) -> None:
        cv2.imwrite(str(tmp_path / "a.gif"), black())
        [written] = draw(stub(), tmp_path / "a.gif", tmp_path / "out").written
        assert written.name == "a.jpg"

    def test_no_display_writes_files_and_says_so(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.chdir(tmp_path)
        source = picture(tmp_path / "in" / "a.png")
        with caplog.at_level(logging.INFO, "facekit"):
            draw(stub(), source, None)
        assert (tmp_path / "facekit_output" / "a.png").is_file()
        assert f"no display to open a window on: writing pictures to {tmp_path / 'facekit_output'}" in caplog.text

    def test_window_until_q(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        shown: list[NDArray[np.uint8]] = []

        def show(canvas: NDArray[np.uint8], wait_ms: int) -> bool:
            assert wait_ms == 0  # until a key is pressed
            shown.append(canvas)
            return len(shown) < 2

        monkeypatch.setattr(drawing, "has_display", lambda: True)
        monkeypatch.setattr(drawing, "show", show)
        monkeypatch.chdir(tmp_path)
        sources = [picture(tmp_path / "in" / f"{i}.png") for i in range(3)]
        assert draw(stub(), sources, None).written == []
        assert len(shown) == 2
        assert [p.name for p in tmp_path.iterdir()] == ["in"]

    def test_unwritable(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(FacekitError, match="can't write there"):
            plan_pictures([str(picture(tmp_path / "a.png"))], tmp_path / "file" / "out")

    def test_signal_ends_between_two_pictures(self, tmp_path: Path) -> None:
        class Stopping(StubDetector):
            def detect(self, image_bgr: NDArray[np.uint8]) -> Detections:
                if len(self.seen) == 1:
                    os.kill(os.getpid(), signal.SIGTERM)
                return super().detect(image_bgr)

        sources = [picture(tmp_path / "in" / f"{i}.png") for i in range(5)]
        with pytest.raises(Interrupted, match="after 2 of 5 pictures") as caught:
            draw(Stopping(), sources, tmp_path / "out")
        assert caught.value.exit_code == 143
        assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["0.png", "1.png"]


class TestBadPictures:
    """F8, P8."""

    def test_the_others_are_done(self, tmp_path: Path) -> None:
        for name in ("a.png", "c.png"):
            picture(tmp_path / "in" / name)
        (tmp_path / "in" / "b.jpg").write_bytes(b"no picture")
        (tmp_path / "in" / "d.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0heicmif1")
        (tmp_path / "in" / "e.png").symlink_to(tmp_path / "none.png")
        drawn = draw(stub(), tmp_path / "in", tmp_path / "out")
        assert [path.name for path in drawn.written] == ["a.png", "c.png"]
        assert [Path(loss.what).name for loss in drawn.losses] == ["b.jpg", "d.heic", "e.png"]
        assert "not a picture" in drawn.losses[0].why
        assert not any(loss.why.startswith(str(tmp_path)) for loss in drawn.losses)

    def test_none_is_left(self, tmp_path: Path) -> None:
        for name in ("a.jpg", "b.jpg"):
            (tmp_path / name).write_bytes(b"text")
        with pytest.raises(FacekitError, match=r"a\.jpg: not a picture"):
            draw(stub(), tmp_path / "a.jpg", tmp_path / "out")
        with pytest.raises(FacekitError, match="None of the 2 pictures could be read"):
            draw(stub(), tmp_path, tmp_path / "out")
        assert not list((tmp_path / "out").iterdir())

    def test_one_over_the_limit(self, tmp_path: Path) -> None:
        names = [str(picture(tmp_path / "a.png"))]
        big = tmp_path / "b.png"
        cv2.imwrite(str(big), np.zeros((HEIGHT, WIDTH + 1, 3), np.uint8))
        plan = plan_pictures([*names, str(big)], tmp_path / "out")
        drawn = visualize_pictures(stub(), plan, 0.5, max_pixels=HEIGHT * WIDTH)
        assert len(drawn.written) == 1
        assert "over the limit of 6144" in drawn.losses[0].why


class TestInputsAreSacred:
    """F1: refused before anything is loaded or written, whatever the name."""

    @pytest.fixture
    def own(self, tmp_path: Path) -> Path:
        picture(tmp_path / "own" / "a.png")
        picture(tmp_path / "own" / "sub" / "b.png")
        return tmp_path / "own"

    @pytest.mark.parametrize(
        "output", ["own", "own/.", "own/sub/..", "link", "a.png", "own/a.png", "hard", "hard/a.png"]
    )
    def test_pictures(self, own: Path, output: str) -> None:
        (own.parent / "link").symlink_to(own)
        (own.parent / "a.png").symlink_to(own / "a.png")
        (own.parent / "hard").mkdir()
        os.link(own / "a.png", own.parent / "hard" / "a.png")
        before = (own / "a.png").read_bytes()
        with pytest.raises(FacekitError, match="would be written over, but this command reads it"):
            plan_pictures([str(own / "a.png")], own.parent / output)
        assert (own / "a.png").read_bytes() == before
        assert sorted(p.name for p in own.rglob("*")) == ["a.png", "b.png", "sub"]

    def test_source_by_a_link(self, own: Path) -> None:
        (own.parent / "link.png").symlink_to(own / "a.png")
        with pytest.raises(FacekitError, match="this command reads it"):
            plan_pictures([str(own.parent / "link.png")], own / "a.png")

    def test_one_of_many(self, own: Path) -> None:
        """own/sub/b.png would go to own/b.png, which is free; own/a.png to itself."""
        with pytest.raises(FacekitError, match=r"a\.png: would be written over"):
            plan_pictures([str(own)], own)

    def test_a_folder_beside_or_below_is_fine(self, own: Path) -> None:
        assert plan_pictures([str(own)], own / "out").targets == [own / "out" / "a.png", own / "out" / "b.png"]
        assert plan_pictures([str(own / "sub")], own).targets == [own / "b.png"]

    @pytest.mark.parametrize("output", [".", "in.avi", "link.avi", "hard.avi", "folder"])
    def test_video(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str) -> None:
        monkeypatch.chdir(tmp_path)
        source = video(tmp_path / "in.avi")
        (tmp_path / "in.mp4").symlink_to(source)
        (tmp_path / "link.avi").symlink_to("in.avi")
        os.link(source, "hard.avi")
        (tmp_path / "folder").symlink_to(tmp_path)
        before = source.read_bytes()
        with pytest.raises(FacekitError, match="this command reads it"):
            plan_video("in.avi", Path(output))
        assert source.read_bytes() == before

    def test_again_and_again(self, tmp_path: Path) -> None:
        """P9: 6, 12, 24, 48 pictures."""
        for index in range(6):
            picture(tmp_path / "in" / f"{index}.png")
        for output in ("out", "out", "other", "out"):
            assert len(draw(stub(), tmp_path / "in", tmp_path / "in" / output).written) == 6


class TestOutputs:
    """F6, F7."""

    @pytest.mark.parametrize("name", ["faces.json", "one.jpg", "out.v2"])
    def test_a_file_for_many(self, tmp_path: Path, name: str) -> None:
        names = [str(picture(tmp_path / "in" / f"{i}.png")) for i in range(2)]
        with pytest.raises(FacekitError, match="a name with a suffix is a file, and there are 2 pictures"):
            plan_pictures(names, tmp_path / name)
        assert [p.name for p in tmp_path.iterdir()] == ["in"]

    def test_no_picture_for_one(self, tmp_path: Path) -> None:
        with pytest.raises(FacekitError, match=r"faces\.json: unknown kind of picture"):
            plan_pictures([str(picture(tmp_path / "a.png"))], tmp_path / "faces.json")

    def test_a_folder_with_a_suffix_that_is_there(self, tmp_path: Path) -> None:
        (tmp_path / "out.v2").mkdir()
        assert draw(stub(), picture(tmp_path / "a.png"), tmp_path / "out.v2").written == [tmp_path / "out.v2" / "a.png"]

    def test_several_names(self, tmp_path: Path) -> None:
        sources = [picture(tmp_path / name) for name in ("a.png", "b.png", "sub/c.png")]
        assert len(draw(stub(), [*sources, tmp_path / "sub"], tmp_path / "out").written) == 3


class TestVideo:
    @pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mov", ".mkv"])
    def test_every_frame_is_drawn(self, tmp_path: Path, suffix: str) -> None:
        detector = stub()
        output = tmp_path / "out" / f"drawn{suffix}"
        watched = watch(detector, video(tmp_path / "in.avi", frames=4), output)
        assert (watched.frames, watched.written, len(detector.seen)) == (4, 4, 4)
        assert watched.fps > 0
        assert not watched.losses
        frames = frames_of(output)
        assert len(frames) == 4
        for frame in frames:
            assert frame.shape == (HEIGHT, WIDTH, 3)
            assert frame[40, 10, 1] > 120  # the box's left edge is green
        assert [p.name for p in output.parent.iterdir()] == [output.name]

    def test_frames_over_max_pixels_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(FacekitError, match=r"a frame of 96x64 pixels, over the limit of 6143"):
            watch(stub(), video(tmp_path / "in.avi"), tmp_path / "out.mp4", max_pixels=HEIGHT * WIDTH - 1)
        assert [path.name for path in tmp_path.iterdir()] == ["in.avi"]

    def test_no_display_writes_a_file_and_says_so(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.chdir(tmp_path)
        with caplog.at_level(logging.INFO, "facekit"):
            watch(stub(), video(tmp_path / "in.avi"), None)
        assert len(frames_of(tmp_path / "facekit_output.mp4")) == 3
        assert f"no display to open a window on: writing the video to {tmp_path / 'facekit_output.mp4'}" in caplog.text

    @pytest.mark.parametrize("exists", [True, False])
    def test_into_a_folder(self, tmp_path: Path, exists: bool) -> None:
        if exists:
            (tmp_path / "out").mkdir()
        watch(stub(), video(tmp_path / "in.avi"), tmp_path / "out")
        [written] = (tmp_path / "out").iterdir()
        assert written.name == "in.mp4"
        assert len(frames_of(written)) == 3

    def test_overlay_is_only_written_if_asked_for(self, tmp_path: Path) -> None:
        """F14."""
        source = video(tmp_path / "in.avi")
        watch(FaceLess(), source, tmp_path / "plain.avi")
        watch(FaceLess(), source, tmp_path / "told.avi", overlay=True)
        assert frames_of(tmp_path / "plain.avi")[0].max() < 20  # frame 0 is black
        assert frames_of(tmp_path / "told.avi")[0].max() > 150

    @pytest.mark.parametrize("name", ["out.txt", "out.jpg", "faces.json"])
    def test_no_kind_of_video(self, tmp_path: Path, name: str) -> None:
        source = video(tmp_path / "in.avi")
        with pytest.raises(FacekitError, match=r"can't be written; use \.mp4, \.avi"):
            plan_video(str(source), tmp_path / name)
        assert [p.name for p in tmp_path.iterdir()] == ["in.avi"]

    def test_unwritable(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(FacekitError, match="can't write there"):
            plan_video(str(video(tmp_path / "in.avi")), tmp_path / "file" / "out.mp4")

    def test_failure_leaves_the_old_video(self, tmp_path: Path) -> None:
        class Failing(StubDetector):
            def detect(self, image_bgr: NDArray[np.uint8]) -> Detections:
                if len(self.seen) == 2:
                    raise FacekitError("broken")
                return super().detect(image_bgr)

        output = tmp_path / "out" / "a.mp4"
        output.parent.mkdir()
        old = b"old" + SIGNATURE  # drawn by an earlier run
        output.write_bytes(old)
        with pytest.raises(FacekitError, match="broken"):
            watch(Failing(), video(tmp_path / "in.avi"), output)
        assert output.read_bytes() == old
        assert [p.name for p in output.parent.iterdir()] == ["a.mp4"]

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_signals_finish_the_file(self, tmp_path: Path, number: signal.Signals) -> None:
        """F13."""

        class Stopping(StubDetector):
            def detect(self, image_bgr: NDArray[np.uint8]) -> Detections:
                if len(self.seen) == 1:
                    os.kill(os.getpid(), number)
                return super().detect(image_bgr)

        with pytest.raises(Interrupted, match=r"Stopped after 2 frames.*a\.mp4 holds them") as caught:
            watch(Stopping(), video(tmp_path / "in.avi"), tmp_path / "a.mp4")
        assert caught.value.exit_code == 128 + number
        assert len(frames_of(tmp_path / "a.mp4")) == 2
        assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4", "in.avi"]


class TestTimes:
    """P10: the frame of a time comes at that time."""

    @pytest.mark.parametrize("steps", [[2, 2, 1] * 5, [1, 1, 1, 1, 20, 1, 1], [1] * 30])
    def test_by_pyav_to_its_own_clock(self, tmp_path: Path, steps: list[int]) -> None:
        pytest.importorskip("av")
        from tests.pictures.av_support import times_ms

        source = video(tmp_path / "in.mp4", frames=len(steps), fps=25)
        vary_rate(source, steps)
        watched = watch(FaceLess(), source, tmp_path / "out.mp4")
        assert (watched.frames, watched.written, watched.losses) == (len(steps), len(steps), [])
        assert times_ms(tmp_path / "out.mp4") == times_ms(source) == (40 * np.cumsum([0, *steps[:-1]])).tolist()
        assert "at their own times, no sound" in watched.text()

    def test_by_opencv_at_a_constant_rate(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("facekit.pictures.frames.has_av", lambda: False)
        source = video(tmp_path / "in.mp4", frames=15, fps=25)
        steps = [2, 2, 1] * 5
        vary_rate(source, steps)
        watched = watch(FaceLess(), source, tmp_path / "out.mp4")
        assert (watched.frames, watched.written, watched.losses) == (15, 25, [])
        assert "at 25 a second, 10 of them repeated; no sound" in watched.text()
        times = np.cumsum([0, *steps[:-1]])
        greys = np.array([frame.mean() for frame in frames_of(source)])
        for slot, frame in enumerate(frames_of(tmp_path / "out.mp4")):
            assert np.abs(greys - frame.mean()).argmin() == np.flatnonzero(times <= slot)[-1]

    def test_a_gap_by_opencv(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("facekit.pictures.frames.has_av", lambda: False)
        source = video(tmp_path / "in.mp4", frames=10, fps=10)
        vary_rate(source, [1, 1, 1, 1, 20, 1, 1, 1, 1, 1])
        watched = watch(FaceLess(), source, tmp_path / "out.mp4")
        assert (watched.frames, watched.written) == (10, 29)
        assert not watched.losses


class TestLosses:
    """F11, P11: what is lost is said."""

    def test_cut_video(self, tmp_path: Path) -> None:
        whole = video(tmp_path / "whole.avi", frames=30, size_wh=(320, 240))
        cut = tmp_path / "cut.avi"
        cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
        watched = watch(stub(), cut, tmp_path / "out.mp4")
        assert 5 < watched.frames < 25
        assert len(frames_of(tmp_path / "out.mp4")) == watched.frames
        (loss,) = watched.losses
        assert loss.what == str(cut)
        assert f"{watched.frames} of 30 frames could be read" in loss.why

    def test_frames_of_another_size(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        class Turning(StubDetector):
            def detect(self, image_bgr: NDArray[np.uint8]) -> Detections:
                return Detections(np.empty((0, 4), np.float32), np.empty(0, np.float32))

        monkeypatch.setattr(drawing, "draw_faces", lambda image_bgr, _: image_bgr[:: self.skip(), :])
        self.calls = 0
        watched = watch(Turning(), video(tmp_path / "in.avi"), tmp_path / "out.mp4")
        assert len(frames_of(tmp_path / "out.mp4")) == 3
        assert "2 frames of another size scaled to 96x64" in str(watched.losses[0])

    def skip(self) -> int:
        self.calls += 1
        return 1 if self.calls == 1 else 2

    def test_odd_sides_keep_their_last_pixels(self, tmp_path: Path) -> None:
        source = video(tmp_path / "in.avi", size_wh=(98, 66))
        detector = FaceLess()
        plan = plan_video(str(source), tmp_path / "out.mp4")
        visualize_video(detector, plan, 0.5)
        assert frames_of(tmp_path / "out.mp4")[0].shape == (66, 98, 3)
