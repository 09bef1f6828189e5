"""Faces drawn on pictures and video, in a window where there is a display and into files where there is none."""

from __future__ import annotations

import glob
import itertools
import logging
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import cv2
import numpy as np
from numpy.typing import NDArray

from facekit.datasets.pictures import PICTURE_SUFFIXES, read_picture
from facekit.detector import Detector
from facekit.errors import FacekitError
from facekit.files import check_writable_folder, is_half_written, replacing
from facekit.progress import progress_bar
from facekit.structures import Detections

log = logging.getLogger(__name__)

BOX_BGR = (80, 220, 60)
TEXT_BGR = (20, 20, 20)
LANDMARK_BGR = ((255, 80, 80), (80, 80, 255), (60, 220, 220), (255, 80, 255), (80, 200, 255))
VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv")
WINDOW = "facekit (q or Esc ends)"
MAX_WINDOW_WH = (1280, 720)


def draw_faces(image_bgr: NDArray[np.uint8], faces: Detections) -> NDArray[np.uint8]:
    """A copy of the picture with boxes, scores and landmarks; line widths follow the picture's size."""
    canvas = image_bgr.copy()
    unit = max(canvas.shape[:2]) / 640
    line = max(1, round(unit))
    for index in range(len(faces)):
        x1, y1, x2, y2 = (round(float(value)) for value in faces.boxes_xyxy[index])
        cv2.rectangle(canvas, (x1, y1), (x2, y2), BOX_BGR, line, cv2.LINE_AA)
        _draw_label(canvas, f"{faces.scores[index]:.2f}", x1, y1, 0.3 * max(unit, 1.2))
        if faces.landmarks_xy is not None:
            for point, colour in zip(faces.landmarks_xy[index], LANDMARK_BGR, strict=True):
                centre = (round(float(point[0])), round(float(point[1])))
                cv2.circle(canvas, centre, line + 1, colour, cv2.FILLED, cv2.LINE_AA)
    return canvas


def _draw_label(canvas: NDArray[np.uint8], text: str, x: int, y: int, scale: float) -> None:
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    # Above the box, or inside where that would leave the picture.
    bottom = y if y >= height + 4 else y + height + 4
    cv2.rectangle(canvas, (x, bottom - height - 4), (x + width + 2, bottom), BOX_BGR, cv2.FILLED)
    cv2.putText(canvas, text, (x + 1, bottom - 3), cv2.FONT_HERSHEY_SIMPLEX, scale, TEXT_BGR, 1, cv2.LINE_AA)


def has_display() -> bool:
    """Whether a window can be opened: Qt in opencv-python aborts the whole process where there is none."""
    if sys.platform in ("win32", "darwin"):
        return True
    if os.environ.get("WAYLAND_DISPLAY"):
        return True
    host, _, number = os.environ.get("DISPLAY", "").rpartition(":")
    number = number.partition(".")[0]
    if not number.isdigit():
        return False
    # A stale DISPLAY aborts Qt as well as none does: ask whether the server answers.
    try:
        if host in ("", "unix"):
            with socket.socket(socket.AF_UNIX) as server:
                server.connect(f"/tmp/.X11-unix/X{number}")
        else:
            socket.create_connection((host, 6000 + int(number)), timeout=2).close()
    except (OSError, OverflowError):
        return False
    return True


def list_pictures(pattern: str) -> list[Path]:
    """The pictures of a file, a folder (with subfolders) or a glob, sorted. Raises FacekitError when there are none."""
    path = Path(pattern)
    if path.is_file():
        return [path]
    found = path.rglob("*") if path.is_dir() else (Path(name) for name in glob.glob(pattern, recursive=True))  # noqa: PTH207
    pictures = sorted(
        p for p in found if p.suffix.lower() in PICTURE_SUFFIXES and not is_half_written(p) and p.is_file()
    )
    if not pictures:
        raise FacekitError(f"--images {pattern}: no pictures there. Give a file, a folder or a quoted glob.")
    return pictures


def visualize_pictures(detector: Detector, pictures: list[Path], output: Path | None, threshold: float) -> list[Path]:
    """Draws each picture's faces; returns the files written. `output` is a folder, or a file for a single picture.

    Without output the pictures are shown, or, with no display, written to ./facekit_output, which is said.
    """
    window = output is None and has_display()
    folder = output or Path("facekit_output")
    single = len(pictures) == 1 and folder.suffix.lower() in PICTURE_SUFFIXES
    if not window:
        if output is None:
            log.info("There is no display to open a window on: writing pictures to %s", folder.resolve())
        check_writable_folder(folder.parent if single else folder)
    names = _output_names(pictures)
    written = []
    for path, name in zip(progress_bar(pictures, desc="drawing", unit="picture"), names, strict=True):
        image_bgr = read_picture(path)
        started = time.perf_counter()
        faces = detector.detect(image_bgr).above(threshold)
        log.info("%s: %d faces in %.0f ms", path, len(faces), 1e3 * (time.perf_counter() - started))
        canvas = draw_faces(image_bgr, faces)
        if window:
            if not _show(canvas, wait_ms=0):
                break
        else:
            target = folder if single else folder / name
            write_picture(target, canvas)
            written.append(target)
    return written


def _output_names(pictures: list[Path]) -> list[str]:
    """File names for the drawn pictures: their own, numbered where two folders hold the same name."""
    names: dict[str, None] = {}
    for path in pictures:
        numbered = (f"{path.stem}_{number}{path.suffix}" for number in itertools.count(2))
        names[next(name for name in itertools.chain([path.name], numbered) if name not in names)] = None
    return list(names)


def write_picture(path: Path, image_bgr: NDArray[np.uint8]) -> None:
    """Encodes by the suffix and writes whole or not at all. Raises FacekitError where that fails."""
    if path.suffix.lower() not in PICTURE_SUFFIXES:
        raise FacekitError(f"{path}: unknown kind of picture; expected one of {', '.join(PICTURE_SUFFIXES)}.")
    done, data = cv2.imencode(path.suffix, image_bgr)
    if not done:
        raise FacekitError(f"{path}: the picture can't be encoded as {path.suffix}. Choose .png or .jpg.")
    with replacing(path) as beside:
        beside.write_bytes(data.tobytes())


def visualize_video(detector: Detector, source: str, output: Path | None, threshold: float) -> tuple[int, float]:
    """Draws faces on a camera (a number), a video file or a URL; returns frames seen and frames a second.

    Shows a window where there is a display; writes a video to `output` (.mp4, or a folder), by default
    ./facekit_output.mp4 where there is no display.
    """
    capture = _open_video(source)
    window = has_display()
    if output is None and not window:
        output = Path("facekit_output.mp4")
        log.info("There is no display to open a window on: writing the video to %s", output.resolve())
    elif output is not None and (output.is_dir() or not output.suffix):
        output /= f"camera_{source}.mp4" if source.isdigit() else f"{Path(urlparse(source).path).stem or 'video'}.mp4"
    frames = _frames(capture)
    started = time.perf_counter()
    count, smoothed_fps = 0, 0.0
    total = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT))) or None
    with ExitStack() as stack:
        stack.callback(capture.release)
        writer = stack.enter_context(_VideoFile(output, capture.get(cv2.CAP_PROP_FPS))) if output else None
        for frame_bgr in progress_bar(frames, total=total, desc="video", unit="frame"):
            tick = time.perf_counter()
            faces = detector.detect(frame_bgr).above(threshold)
            fps = 1 / max(time.perf_counter() - tick, 1e-6)
            smoothed_fps = fps if not count else 0.9 * smoothed_fps + 0.1 * fps
            canvas = draw_faces(frame_bgr, faces)
            _draw_label(canvas, f"{smoothed_fps:.1f} FPS  {len(faces)} faces", 4, 24, 0.6)
            count += 1
            if writer is not None:
                writer.write(canvas)
            if window and not _show(canvas, wait_ms=1):
                break
    if not count:
        raise FacekitError(f"--video {source}: opened, but gave no frame. Is it a video, or the camera in use?")
    return count, count / (time.perf_counter() - started)


def _open_video(source: str) -> Any:
    if not source.isdigit() and "://" not in source and not Path(source).is_file():
        raise FacekitError(f"--video {source}: there is no such file. Give a camera's number, a video file or a URL.")
    capture = cv2.VideoCapture(int(source) if source.isdigit() else source)
    if not capture.isOpened():
        what = f"camera {source}" if source.isdigit() else source
        raise FacekitError(f"--video {source}: can't open {what}. Is it connected, and not in use by another program?")
    return capture


def _frames(capture: Any) -> Iterator[NDArray[np.uint8]]:
    while True:
        more, frame_bgr = capture.read()
        if not more:
            return
        yield frame_bgr


def _show(canvas: NDArray[np.uint8], wait_ms: int) -> bool:
    """False when the user wants to end."""
    # opencv-python's Qt finds no fonts of its own and says so at each window; nothing is written with them.
    os.environ.setdefault("QT_LOGGING_RULES", "*.warning=false")
    height, width = canvas.shape[:2]
    scale = min(1.0, MAX_WINDOW_WH[0] / width, MAX_WINDOW_WH[1] / height)
    cv2.namedWindow(WINDOW, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
    cv2.resizeWindow(WINDOW, round(width * scale), round(height * scale))
    cv2.imshow(WINDOW, canvas)
    return cv2.waitKey(wait_ms) & 0xFF not in (ord("q"), 27)


class _VideoFile:
    """An .mp4 that is opened at the first frame and takes its place when it is complete."""

    def __init__(self, path: Path, fps: float) -> None:
        self.path = path
        self.fps = fps if 0 < fps < 1000 else 25.0
        self.beside = path.with_name(f".{path.stem}.part{path.suffix}")
        self.writer: Any = None

    def __enter__(self) -> _VideoFile:
        if self.path.suffix.lower() not in VIDEO_SUFFIXES:
            raise FacekitError(f"{self.path}: this kind of video can't be written; use {', '.join(VIDEO_SUFFIXES)}.")
        check_writable_folder(self.path.parent)
        return self

    def write(self, frame_bgr: NDArray[np.uint8]) -> None:
        if self.writer is None:
            size_wh = (frame_bgr.shape[1], frame_bgr.shape[0])
            codec = cv2.VideoWriter.fourcc(*("MJPG" if self.path.suffix.lower() == ".avi" else "mp4v"))
            self.writer = cv2.VideoWriter(str(self.beside), codec, self.fps, size_wh)
            if not self.writer.isOpened():
                raise FacekitError(f"{self.path}: OpenCV can't write this kind of video here; try .avi.")
        self.writer.write(frame_bgr)

    def __exit__(self, kind: object, *rest: object) -> None:
        if self.writer is None:
            return
        self.writer.release()
        # Ctrl-C ends a camera's recording; what was recorded is kept.
        if kind is None or kind is KeyboardInterrupt:
            self.beside.replace(self.path)
        else:
            self.beside.unlink(missing_ok=True)
