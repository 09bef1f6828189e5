from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from facekit.commands import visualize
from facekit.commands.visualize import visualize_pictures, visualize_video
from facekit.errors import FacekitError
from facekit.pictures.draw import BOX_BGR, LANDMARK_BGR, draw_faces
from facekit.pictures.listing import list_pictures
from facekit.pictures.read import PICTURE_SUFFIXES
from facekit.pictures.window import has_display
from facekit.pictures.write import write_picture
from facekit.structures import Detections

HEIGHT, WIDTH = 64, 96


def faces(*boxes: tuple[float, ...], landmarks: bool = False, score: float = 0.9) -> Detections:
    count = len(boxes)
    points = np.tile(np.array([[20, 30], [40, 30], [30, 40], [22, 50], [38, 50]], np.float32), (count, 1, 1))
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.full(count, score, np.float32),
        points if landmarks else None,
    )


class StubDetector:
    """Finds one sure and one doubtful face in every picture, and remembers what it saw."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, ...]] = []

    def detect(self, image_bgr: NDArray[np.uint8]) -> Detections:
        self.seen.append(image_bgr.shape)
        boxes = np.array([[10, 20, 60, 55], [70, 40, 90, 60]], np.float32)
        return Detections(boxes, np.array([0.9, 0.3], np.float32))


def stub() -> Any:
    return StubDetector()


def black() -> NDArray[np.uint8]:
    return np.zeros((HEIGHT, WIDTH, 3), np.uint8)


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), black())
    return path


def video(path: Path, frames: int = 3) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 5.0, (WIDTH, HEIGHT))
    for _ in range(frames):
        writer.write(black())
    writer.release()
    return path


def frames_of(path: Path) -> list[NDArray[Any]]:
    capture = cv2.VideoCapture(str(path))
    frames = []
    while True:
        more, frame = capture.read()
        if not more:
            return frames
        frames.append(frame)


@pytest.fixture
def no_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)


class TestDrawFaces:
    def test_no_faces(self) -> None:
        image_bgr = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
        canvas = draw_faces(image_bgr, faces())
        assert canvas is not image_bgr
        np.testing.assert_array_equal(canvas, image_bgr)

    def test_input_stays_and_the_box_is_drawn(self) -> None:
        image_bgr = black()
        canvas = draw_faces(image_bgr, faces((30, 20, 80, 60)))
        assert not image_bgr.any()
        for x, y in ((30, 40), (80, 40), (50, 60), (75, 20)):
            assert np.abs(canvas[y, x] - np.array(BOX_BGR)).max() < 40  # lines have soft edges
        assert not canvas[30:55, 40:70].any()  # the face itself stays to be seen

    @pytest.mark.parametrize("top", [40, 0])
    def test_score_is_written_above_or_inside(self, top: int) -> None:
        sure, unsure = (draw_faces(black(), faces((30, top, 90, 63), score=score)) for score in (0.91, 0.27))
        changed = np.nonzero((sure != unsure).any(axis=2))[0]
        assert len(changed)
        assert (changed < top).all() if top else (changed < 20).all()

    def test_landmarks(self) -> None:
        canvas = draw_faces(black(), faces((10, 20, 60, 60), landmarks=True))
        assert tuple(canvas[30, 20]) == LANDMARK_BGR[0]
        assert tuple(canvas[50, 38]) == LANDMARK_BGR[4]

    @pytest.mark.parametrize("box", [(-50, -50, 200, 200), (500, 500, 600, 600), (5, 5, 5, 5)])
    def test_boxes_that_leave_the_picture(self, box: tuple[float, ...]) -> None:
        assert draw_faces(black(), faces(box)).shape == (HEIGHT, WIDTH, 3)


class TestHasDisplay:
    def test_none(self, no_display: None) -> None:
        assert not has_display()

    @pytest.mark.parametrize("display", ["", ":4711", ":4711.0", "127.0.0.1:4711.0"])
    def test_unset_or_stale(self, no_display: None, monkeypatch: pytest.MonkeyPatch, display: str) -> None:
        monkeypatch.setenv("DISPLAY", display)
        assert not has_display()

    @pytest.fixture
    def socket_path(self) -> Iterator[Path]:
        folder = Path("/tmp/.X11-unix")
        folder.mkdir(exist_ok=True)
        path = folder / f"X{40_000 + os.getpid() % 20_000}"
        yield path
        path.unlink(missing_ok=True)

    def test_server_that_listens(self, no_display: None, monkeypatch: pytest.MonkeyPatch, socket_path: Path) -> None:
        monkeypatch.setenv("DISPLAY", f":{socket_path.name[1:]}.0")
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(socket_path))
            server.listen()
            assert has_display()

    def test_socket_of_a_server_that_died(
        self, no_display: None, monkeypatch: pytest.MonkeyPatch, socket_path: Path
    ) -> None:
        monkeypatch.setenv("DISPLAY", f":{socket_path.name[1:]}")
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(socket_path))
        assert socket_path.exists()
        assert not has_display()

    def test_wayland(self, no_display: None, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
        assert has_display()


class TestListPictures:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        for name in ("b.jpg", "a.PNG", "sub/c.webp", "sub/deep/d.jpeg"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        (tmp_path / "notes.txt").touch()
        (tmp_path / "folder.jpg").mkdir()
        return tmp_path

    def test_file(self, folder: Path) -> None:
        assert list_pictures(str(folder / "b.jpg")) == [folder / "b.jpg"]

    def test_folder(self, folder: Path) -> None:
        names = ["a.PNG", "b.jpg", "sub/c.webp", "sub/deep/d.jpeg"]
        assert list_pictures(str(folder)) == [folder / name for name in names]

    @pytest.mark.parametrize(("pattern", "names"), [
        ("*.jpg", ["b.jpg"]), ("*", ["a.PNG", "b.jpg"]), ("**/*.jp*g", ["b.jpg", "sub/deep/d.jpeg"]),
        ("sub/?.webp", ["sub/c.webp"]),
    ])  # fmt: skip
    def test_glob(self, folder: Path, pattern: str, names: list[str]) -> None:
        assert list_pictures(str(folder / pattern)) == [folder / name for name in names]

    @pytest.mark.parametrize("name", ["none.jpg", "*.gif", "empty", "sub/*.txt"])
    def test_nothing(self, folder: Path, name: str) -> None:
        (folder / "empty").mkdir()
        with pytest.raises(FacekitError, match=r"--images .*no pictures there\. Give a file, a folder or a quoted"):
            list_pictures(str(folder / name))


class TestPictures:
    def test_into_a_folder(self, tmp_path: Path) -> None:
        detector = stub()
        sources = [picture(tmp_path / "in" / name) for name in ("a.png", "b.jpg")]
        written = visualize_pictures(detector, sources, tmp_path / "out", 0.5)
        assert written == [tmp_path / "out" / "a.png", tmp_path / "out" / "b.jpg"]
        canvas = cv2.imread(str(written[0]))
        np.testing.assert_array_equal(canvas, draw_faces(black(), faces((10, 20, 60, 55))))
        assert detector.seen == [(HEIGHT, WIDTH, 3)] * 2

    def test_threshold(self, tmp_path: Path) -> None:
        source = picture(tmp_path / "a.png")
        [low] = visualize_pictures(stub(), [source], tmp_path / "low", 0.1)
        [high] = visualize_pictures(stub(), [source], tmp_path / "high", 0.95)
        assert cv2.imread(str(low))[50, 70].any()
        assert not cv2.imread(str(high)).any()

    def test_single_into_a_file(self, tmp_path: Path) -> None:
        written = visualize_pictures(stub(), [picture(tmp_path / "a.png")], tmp_path / "new" / "drawn.jpg", 0.5)
        assert written == [tmp_path / "new" / "drawn.jpg"]
        assert [p.name for p in (tmp_path / "new").iterdir()] == ["drawn.jpg"]

    def test_same_names_do_not_overwrite_each_other(self, tmp_path: Path) -> None:
        names = ["x/a.png", "y/a.png", "z/a_2.png", "w/a.png", "v/a_2.png"]
        sources = [picture(tmp_path / "in" / name) for name in names]
        written = visualize_pictures(stub(), sources, tmp_path / "out", 0.5)
        assert len({*written}) == len(sources)
        assert all(path.is_file() for path in written)
        assert written[0].name == "a.png"
        assert {path.suffix for path in written} == {".png"}

    def test_no_display_writes_files_and_says_so(
        self, tmp_path: Path, no_display: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.chdir(tmp_path)
        source = picture(tmp_path / "in" / "a.png")
        with caplog.at_level(logging.INFO, "facekit"):
            visualize_pictures(stub(), [source], None, 0.5)
        assert (tmp_path / "facekit_output" / "a.png").is_file()
        assert f"no display to open a window on: writing pictures to {tmp_path / 'facekit_output'}" in caplog.text

    def test_window_until_q(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        shown: list[NDArray[np.uint8]] = []

        def show(canvas: NDArray[np.uint8], wait_ms: int) -> bool:
            assert wait_ms == 0  # until a key is pressed
            shown.append(canvas)
            return len(shown) < 2

        monkeypatch.setattr(visualize, "has_display", lambda: True)
        monkeypatch.setattr(visualize, "show", show)
        monkeypatch.chdir(tmp_path)
        sources = [picture(tmp_path / "in" / f"{i}.png") for i in range(3)]
        assert visualize_pictures(stub(), sources, None, 0.5) == []
        assert len(shown) == 2
        assert [p.name for p in tmp_path.iterdir()] == ["in"]

    def test_unwritable(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        detector = stub()
        with pytest.raises(FacekitError, match="can't write there"):
            visualize_pictures(detector, [picture(tmp_path / "a.png")], tmp_path / "file" / "out", 0.5)
        assert not detector.seen  # said before the work

    def test_broken_picture_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "a.jpg").write_bytes(b"text")
        with pytest.raises(FacekitError, match=r"a\.jpg: not a picture"):
            visualize_pictures(stub(), [tmp_path / "a.jpg"], tmp_path / "out", 0.5)
        assert not list((tmp_path / "out").iterdir())


class TestWritePicture:
    @pytest.mark.parametrize("suffix", PICTURE_SUFFIXES)
    def test_every_kind_that_is_read_is_written(self, tmp_path: Path, suffix: str) -> None:
        write_picture(tmp_path / f"a{suffix}", black())
        assert cv2.imread(str(tmp_path / f"a{suffix}")).shape == (HEIGHT, WIDTH, 3)

    @pytest.mark.parametrize("name", ["a", "a.gif", "a.txt"])
    def test_unknown_kind(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(FacekitError, match=rf"{name}: unknown kind of picture; expected one of \.jpg"):
            write_picture(tmp_path / name, black())
        assert not list(tmp_path.iterdir())


class TestVideo:
    @pytest.mark.parametrize("suffix", [".mp4", ".avi"])
    def test_every_frame_is_drawn(self, tmp_path: Path, no_display: None, suffix: str) -> None:
        detector = stub()
        output = tmp_path / "out" / f"drawn{suffix}"
        count, fps = visualize_video(detector, str(video(tmp_path / "in.avi", frames=4)), output, 0.5)
        assert (count, len(detector.seen)) == (4, 4)
        assert fps > 0
        frames = frames_of(output)
        assert len(frames) == 4
        for frame in frames:
            assert frame.shape == (HEIGHT, WIDTH, 3)
            assert frame[40, 10, 1] > 120  # the box's left edge is green
        assert [p.name for p in output.parent.iterdir()] == [output.name]

    def test_no_display_writes_a_file_and_says_so(
        self, tmp_path: Path, no_display: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.chdir(tmp_path)
        with caplog.at_level(logging.INFO, "facekit"):
            visualize_video(stub(), str(video(tmp_path / "in.avi")), None, 0.5)
        assert len(frames_of(tmp_path / "facekit_output.mp4")) == 3
        assert f"no display to open a window on: writing the video to {tmp_path / 'facekit_output.mp4'}" in caplog.text

    def test_into_a_folder(self, tmp_path: Path, no_display: None) -> None:
        (tmp_path / "out").mkdir()
        visualize_video(stub(), str(video(tmp_path / "in.avi")), tmp_path / "out", 0.5)
        [written] = (tmp_path / "out").iterdir()
        assert written.suffix == ".mp4"
        assert len(frames_of(written)) == 3

    def test_without_a_suffix_it_is_a_folder(self, tmp_path: Path, no_display: None) -> None:
        visualize_video(stub(), str(video(tmp_path / "in.avi")), tmp_path / "new", 0.5)
        [written] = (tmp_path / "new").iterdir()
        assert len(frames_of(written)) == 3

    def test_missing(self, tmp_path: Path, no_display: None) -> None:
        with pytest.raises(FacekitError, match=r"--video .*none\.avi: there is no such file"):
            visualize_video(stub(), str(tmp_path / "none.avi"), tmp_path / "out.mp4", 0.5)
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("data", [b"", b"this is no video"])
    def test_no_video(self, tmp_path: Path, no_display: None, data: bytes) -> None:
        (tmp_path / "in.avi").write_bytes(data)
        with pytest.raises(FacekitError, match=r"--video .*in\.avi: can't open"):
            visualize_video(stub(), str(tmp_path / "in.avi"), tmp_path / "out.mp4", 0.5)
        assert [p.name for p in tmp_path.iterdir()] == ["in.avi"]

    def test_no_frames(self, tmp_path: Path, no_display: None, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(visualize, "frames_of", lambda capture: iter(()))
        with pytest.raises(FacekitError, match="gave no frame"):
            visualize_video(stub(), str(video(tmp_path / "in.avi")), tmp_path / "out.mp4", 0.5)
        assert [p.name for p in tmp_path.iterdir()] == ["in.avi"]

    @pytest.mark.parametrize("camera", ["77"])
    def test_no_camera(self, tmp_path: Path, no_display: None, camera: str) -> None:
        with pytest.raises(FacekitError, match="can't open camera 77"):
            visualize_video(stub(), camera, tmp_path / "out.mp4", 0.5)

    @pytest.mark.parametrize("name", ["out.txt", "out.jpg"])
    def test_no_kind_of_video(self, tmp_path: Path, no_display: None, name: str) -> None:
        source = video(tmp_path / "in.avi")
        with pytest.raises(FacekitError, match=r"can't be written; use \.mp4, \.avi"):
            visualize_video(stub(), str(source), tmp_path / name, 0.5)
        assert [p.name for p in tmp_path.iterdir()] == ["in.avi"]

    def test_unwritable(self, tmp_path: Path, no_display: None) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(FacekitError, match="can't write there"):
            visualize_video(stub(), str(video(tmp_path / "in.avi")), tmp_path / "file" / "out.mp4", 0.5)

    def test_failure_leaves_the_old_video(self, tmp_path: Path, no_display: None) -> None:
        class Failing(StubDetector):
            def detect(self, image_bgr: NDArray[np.uint8]) -> Detections:
                if len(self.seen) == 2:
                    raise FacekitError("broken")
                return super().detect(image_bgr)

        failing: Any = Failing()
        output = tmp_path / "out" / "a.mp4"
        output.parent.mkdir()
        output.write_bytes(b"old")
        with pytest.raises(FacekitError, match="broken"):
            visualize_video(failing, str(video(tmp_path / "in.avi")), output, 0.5)
        assert output.read_bytes() == b"old"
        assert [p.name for p in output.parent.iterdir()] == ["a.mp4"]

    def test_ctrl_c_keeps_what_was_recorded(self, tmp_path: Path, no_display: None) -> None:
        class Interrupted(StubDetector):
            def detect(self, image_bgr: NDArray[np.uint8]) -> Detections:
                if len(self.seen) == 2:
                    raise KeyboardInterrupt
                return super().detect(image_bgr)

        interrupted: Any = Interrupted()
        with pytest.raises(KeyboardInterrupt):
            visualize_video(interrupted, str(video(tmp_path / "in.avi")), tmp_path / "a.avi", 0.5)
        assert len(frames_of(tmp_path / "a.avi")) == 2
