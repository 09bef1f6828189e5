"""Frames into a video file: each at its own time, and read back before anything is called done."""

from __future__ import annotations

import shutil
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from facekit.base.files import beside_name, check_not_input, check_writable_folder, replacing
from facekit.base.progress import progress_bar
from facekit.errors import FacekitError, Loss
from facekit.machine.native_output import quiet_opencv
from facekit.pictures.containers import unmistakable
from facekit.pictures.write import sign_video

WRITTEN_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv")
ONLY_AV_SUFFIXES = (".m4v", ".webm", ".ts")  # where PyAV is installed
FULL_DISK_BYTES = 1 << 20
DISK_IS_FULL = "the disk is full (No space left on device)"
LATEST_BY = 1.5  # frames of the written rate: a frame that finds its place taken may come this much later


def check_video_name(path: Path) -> None:
    """Raises FacekitError for a suffix that can't be written."""
    known = WRITTEN_SUFFIXES + (ONLY_AV_SUFFIXES if find_spec("av") else ())
    if path.suffix.lower() not in known:
        raise FacekitError(f"{path}: this kind of video can't be written; use {', '.join(known)}.")


class VideoFile:
    """A video of a constant rate, opened at the first frame, which takes its place when it is complete and checked.

    Left by an exception other than Ctrl-C, nothing is kept. Behind it stand `written`, the number of its frames, and
    `losses`.
    """

    def __init__(self, path: Path, fps: float) -> None:
        self.path = path
        # MPEG-4 counts time in parts of a second that are at most 65,535.
        self.fps = round(fps, 3 if fps < 60 else 2)
        self.beside = beside_name(path)
        self.writer: Any = None
        self.size_wh = (0, 0)
        self.written = self.repeated = self.skipped = self.resized = 0
        self.losses: list[Loss] = []
        self._last: NDArray[np.uint8] | None = None

    def __enter__(self) -> VideoFile:
        check_video_name(self.path)
        check_not_input(self.path)
        check_writable_folder(self.path.parent)
        return self

    def write(self, frame_bgr: NDArray[np.uint8], time_s: float) -> None:
        """(H, W, 3) BGR uint8 at seconds since the first frame. Gaps are filled with the frame before; a frame whose
        place is taken comes a little later, or is left out. Raises FacekitError where the disk or the encoder refuses.
        """
        frame_bgr = self._fitted(frame_bgr)
        slot = round(time_s * self.fps)
        if slot < self.written and self.written - time_s * self.fps > LATEST_BY:
            self.skipped += 1
            self._last = frame_bgr
            return
        while self.written < slot:
            self.repeated += 1
            self._append(frame_bgr if self._last is None else self._last)
        self._append(frame_bgr)
        self._last = frame_bgr

    def _fitted(self, frame_bgr: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The frame at the file's size: encoders take even sides alone, and OpenCV drops other frames unsaid."""
        height, width = frame_bgr.shape[:2]
        if self.writer is None:
            self.size_wh = (width + width % 2, height + height % 2)
            self._open()
        if (width + width % 2, height + height % 2) != self.size_wh:
            self.resized += 1
            return np.asarray(cv2.resize(frame_bgr, self.size_wh, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        if (width, height) == self.size_wh:
            return frame_bgr
        padded = cv2.copyMakeBorder(frame_bgr, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        return np.asarray(padded, dtype=np.uint8)

    def _open(self) -> None:
        codec = cv2.VideoWriter.fourcc(*("MJPG" if self.path.suffix.lower() == ".avi" else "mp4v"))
        with quiet_opencv():
            self.writer = cv2.VideoWriter(unmistakable(self.beside), codec, self.fps, self.size_wh)
            if not self.writer.isOpened():
                raise FacekitError(f"{self.path}: OpenCV can't write this kind of video here; try .avi.")

    def _append(self, frame_bgr: NDArray[np.uint8]) -> None:
        with quiet_opencv():
            done = self.writer.write(frame_bgr)
        if done is False:  # OpenCV 4 says nothing: _check() finds what it left out
            raise FacekitError(
                f"{self.path}: can't be written: {self._why_refused()} after {self.written} frames; nothing kept."
            )
        self.written += 1

    def _why_refused(self) -> str:
        return DISK_IS_FULL if self._disk_is_full() else "the encoder refused a frame"

    def _disk_is_full(self) -> bool:
        return shutil.disk_usage(self.beside.parent).free < FULL_DISK_BYTES

    def __exit__(self, kind: object, *rest: object) -> None:
        if self.writer is None:
            return
        try:
            with quiet_opencv():
                self.writer.release()
            # Ctrl-C ends a camera's recording, and so does who wants no more frames; what was recorded is kept.
            if kind in (None, KeyboardInterrupt, GeneratorExit):
                self._check()
                sign_video(self.beside)
                with replacing(self.path, beside=self.beside):
                    pass  # it lies where replacing takes it from
        finally:
            with suppress(OSError):
                self.beside.unlink()

    def _check(self) -> None:
        """Reads back what was written. Raises FacekitError where that can't be, notes frames that are missing."""
        with quiet_opencv():
            capture: Any = cv2.VideoCapture(unmistakable(self.beside))
            size_wh = tuple(round(capture.get(side)) for side in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
            found = 0
            with progress_bar(None, total=self.written, desc="checking", unit="frame", delay_s=2) as bar:
                while capture.isOpened() and capture.grab():
                    found += 1
                    bar.update()
            capture.release()
        if not found or size_wh != self.size_wh:
            reason = f"{found} frames of {size_wh} pixels, for {self.written} of {self.size_wh}"
            reason = DISK_IS_FULL if self._disk_is_full() else reason
            raise FacekitError(f"{self.path}: what was written can't be read back: {reason}. Nothing was kept.")
        if found != self.written:
            reason = f"; {DISK_IS_FULL}" if self._disk_is_full() else ""
            reason = f"{found} of the {self.written} frames written can be read back{reason}"
            self.losses.append(Loss(str(self.path), reason))
            self.written = found
        if self.skipped:
            reason = f"{self.skipped} frames left out, closer to others than 1/{self.fps:g} s"
            self.losses.append(Loss(str(self.path), reason))
        if self.resized:
            reason = f"{self.resized} frames of another size scaled to {self.size_wh[0]}x{self.size_wh[1]}"
            self.losses.append(Loss(str(self.path), reason))
