"""Frames of video files and cameras, and frames into a video file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from facekit.errors import FacekitError
from facekit.files import check_writable_folder

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv")


def open_video(source: str) -> Any:
    if not source.isdigit() and "://" not in source and not Path(source).is_file():
        raise FacekitError(f"--video {source}: there is no such file. Give a camera's number, a video file or a URL.")
    capture = cv2.VideoCapture(int(source) if source.isdigit() else source)
    if not capture.isOpened():
        what = f"camera {source}" if source.isdigit() else source
        raise FacekitError(f"--video {source}: can't open {what}. Is it connected, and not in use by another program?")
    return capture


def frames_of(capture: Any) -> Iterator[NDArray[np.uint8]]:
    while True:
        more, frame_bgr = capture.read()
        if not more:
            return
        yield frame_bgr


class VideoFile:
    """An .mp4 that is opened at the first frame and takes its place when it is complete."""

    def __init__(self, path: Path, fps: float) -> None:
        self.path = path
        self.fps = fps if 0 < fps < 1000 else 25.0
        self.beside = path.with_name(f".{path.stem}.part{path.suffix}")
        self.writer: Any = None

    def __enter__(self) -> VideoFile:
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
