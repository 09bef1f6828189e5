"""Frames of cameras, video files and streams, each with its time, and what is missing of them."""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np
from numpy.typing import NDArray

from facekit.base.files import real_path
from facekit.base.nearest import did_you_mean_path
from facekit.base.reading import stand_in_of_picture
from facekit.base.urls import path_of
from facekit.errors import FacekitError, Loss, masked
from facekit.machine.native_output import quiet_opencv
from facekit.pictures.containers import lists_others, opencv_follows_none, unmistakable

log = logging.getLogger(__name__)

DEVICES = Path("/dev")  # where Linux has its cameras, as video0, video1, ...
ANSWER_TIMEOUT_MS = 15_000  # of a stream's server, to open and for each frame
FALLBACK_FPS, MAX_FPS = 25.0, 120.0
LOOKED_FRAMES, LOOKED_S = 300, 1.0  # at a file's start, to learn how close its frames come
SAME_FPS = 0.06  # relative: containers round times to milliseconds
LATE_START_S = 0.2  # of the first frame, behind the sound's, as PyAV's reader allows for
MAX_GAP_S = 600.0  # between two frames; more is a clock that was set, not a pause


@dataclass(frozen=True)
class Source:
    """What `video` names."""

    name: str  # to be shown: without password
    opened: str | int  # what OpenCV is given
    path: Path | None = None  # of a file


def find_source(name: str) -> Source:
    """A camera's number or device, a video file, or an address. Raises FacekitError where there is no such thing."""
    name = path_of(name)
    if "://" in name:
        return Source(masked(re.sub(r"[\s\"']", "_", name)), name)
    device = re.fullmatch(rf"{re.escape(str(DEVICES))}/video(\d+)", str(real_path(Path(name))))
    if name.isdigit() or device:
        return _find_camera(name, int(name if device is None else device[1]))
    path = Path(name)
    if path.is_dir():
        raise FacekitError(f"`video={name}`: a folder. Give a video file, or pictures as `images`.")
    if path.exists() and not path.is_file():
        raise FacekitError(f"`video={name}`: neither a camera nor a file on a disk, but a device or a pipe.")
    if not path.exists():
        hint = did_you_mean_path(path)
        raise FacekitError(
            f"`video={name}`: there is no such file.{hint} Give a camera's number, a video file or a URL."
        )
    return Source(name, name, path)


def _find_camera(name: str, number: int) -> Source:
    if sys.platform == "linux" and not (DEVICES / f"video{number}").exists():
        found = sorted(path.name for path in DEVICES.glob("video[0-9]*"))
        there = ", ".join(f"{DEVICES / camera} (`video={camera[5:]}`)" for camera in found) or "none"
        raise FacekitError(
            f"`video={name}`: can't open camera {number}: there is no {DEVICES}/video{number}. Cameras here: {there}."
        )
    return Source(name, number)


def open_capture(source: Source) -> Any:
    """cv2.VideoCapture, opened. Raises FacekitError, which says damaged files from missing cameras."""
    with quiet_opencv():
        if source.path is not None:
            with opencv_follows_none():
                # Named, as the next in OpenCV's row takes files of like names for pictures of one video.
                capture: Any = cv2.VideoCapture(unmistakable(source.path), cv2.CAP_FFMPEG)
        elif isinstance(source.opened, str):
            timeouts = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, ANSWER_TIMEOUT_MS,
                        cv2.CAP_PROP_READ_TIMEOUT_MSEC, ANSWER_TIMEOUT_MS]  # fmt: skip
            capture = cv2.VideoCapture(source.opened, cv2.CAP_FFMPEG, timeouts)
        else:
            capture = cv2.VideoCapture(source.opened)
        if capture.isOpened():
            return capture
    if source.path is not None:
        raise FacekitError(f"`video={source.name}`: {_why_unreadable(source.path)}")
    if isinstance(source.opened, int):
        remedy = "Is it connected, and not in use by another program?"
        raise FacekitError(f"`video={source.name}`: can't open camera {source.opened}. {remedy}")
    remedy = "Are the address, user and password right, and does the server answer?"
    raise FacekitError(f"`video={source.name}`: can't open it. {remedy}")


def _why_unreadable(path: Path) -> str:
    try:
        with path.open("rb") as file:
            head = file.read(1024)
    except OSError as error:
        return f"can't be read ({error.strerror}). Check the file."
    if not head:
        return "the file is empty. Copy or record it again."
    if lists_others(head):
        return "a list of other files, which is not followed. Give the videos themselves."
    if head[4:8] == b"ftyp" and "moov" not in boxes(path):
        return (
            "a damaged video: its index (the moov atom) is missing, as where a recording or a copy was broken off. "
            "Copy it again, or mend it with a tool such as untrunc."
        )
    if head[4:8] == b"ftyp" or head[:4] in (b"RIFF", b"\x1aE\xdf\xa3"):
        return (
            "a video that is damaged, or of sound alone: OpenCV finds no pictures in it. Copy it again, or convert it "
            "with ffmpeg."
        )
    if (what := stand_in_of_picture(head)) is not None:
        return f"not a video: {what}."
    return "not a video that OpenCV can decode. Convert it to .mp4, with ffmpeg for one."


def boxes(path: Path) -> list[str]:
    """The names of an MP4's or MOV's outermost boxes (ISO/IEC 14496-12, 4.2)."""
    names: list[str] = []
    end = path.stat().st_size
    with path.open("rb") as file:
        place = 0
        while place + 8 <= end and len(names) < 1000:
            file.seek(place)
            head = file.read(16)
            size = int.from_bytes(head[:4], "big")
            if size == 1:
                size = int.from_bytes(head[8:16], "big")
            names.append(head[4:8].decode("latin-1"))
            if size < 8:
                break
            place += size
    return names


class Video:
    """An open source; frames() may be asked for once, losses() behind it."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.capture = open_capture(source)
        told = float(self.capture.get(cv2.CAP_PROP_FPS))
        self.told_fps = told if 0 < told <= 2 * MAX_FPS else 0.0
        # Of which the written file's times are multiples.
        self.fps = self.told_fps or FALLBACK_FPS
        if source.path is not None:
            self.fps = _finest_fps(source, self.told_fps) or self.fps
        total = float(self.capture.get(cv2.CAP_PROP_FRAME_COUNT))
        has_length = 0 < total < 1e8
        # A web server's file waits for who reads it, a camera and a broadcast don't; a live playlist has no length.
        self.is_live = source.path is None and not (has_length and _is_of_the_web(source))
        self.total = int(total) if has_length and not self.is_live else None  # mostly right
        self.seconds = self.total / told if self.total and told > 0 else None
        self.count = self.jumps = 0
        self.has_gaps = False
        self.last_s = self.longest_s = 0.0  # between two frames

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *_: object) -> None:
        self.capture.release()

    def frames(self) -> Iterator[tuple[float, NDArray[np.uint8]]]:
        """Seconds since the first frame, never running back, and the frame: (H, W, 3) BGR uint8."""
        step_s, started_s, offset_s = 1 / self.fps, 0.0, 0.0
        has_times = True
        while True:
            with quiet_opencv():
                more, frame_bgr = self.capture.read()
                told_s = float(self.capture.get(cv2.CAP_PROP_POS_MSEC)) / 1e3 if more else 0.0
            if not more:
                return
            if self.count == 0:
                started_s, time_s = told_s, 0.0
            else:
                has_times = has_times and (self.count > 1 or told_s > started_s)
                time_s = told_s - started_s + offset_s if has_times else self.count * step_s
                if not self.last_s < time_s < self.last_s + MAX_GAP_S:
                    self.jumps += 1
                    offset_s += self.last_s + step_s - time_s
                    time_s = self.last_s + step_s
                self.has_gaps |= time_s - self.last_s > 1.5 * step_s
                self.longest_s = max(self.longest_s, time_s - self.last_s)
            self.last_s = time_s
            self.count += 1
            yield time_s, frame_bgr

    def losses(self) -> list[Loss]:
        """What a file promises and frames() didn't give, once it came to its end."""
        found = []
        if self.jumps:
            found.append(Loss(self.source.name, f"its times jump {self.jumps} times; frames follow each other there"))
        if self.total is None or self.seconds is None:
            return found
        step_s = 1 / (self.told_fps or self.fps)
        # Other containers know only their length, of which the count is guessed: a varying rate would look like loss.
        path = self.source.path or PurePosixPath(urlsplit(self.source.name).path)
        knows_count = path.suffix.lower() in (".mp4", ".mov", ".m4v")
        if self.source.path is None and not knows_count and path.suffix.lower() not in (".avi", ".mkv", ".webm"):
            return found  # a playlist's length, or one that is guessed of the file's size
        missing_s = self.seconds - self.last_s - step_s
        slack_s, of = 1.5 * step_s, f" of {self.total}"
        if not knows_count and path.suffix.lower() != ".avi":
            # The length begins at zero, be it before the first frame, and ends with the last one, however long that is.
            slack_s, of = max(slack_s, self.longest_s, LATE_START_S), ""
        if missing_s > slack_s and self.count < self.total:
            found.append(Loss(self.source.name, (
                f"cut off or damaged: it ends at {self.last_s + step_s:.2f} of {self.seconds:.2f} s; "
                f"{self.count}{of} frames could be read"
            )))  # fmt: skip
        elif knows_count and self.has_gaps and self.count < self.total:
            found.append(Loss(self.source.name, f"damaged: {self.count} of {self.total} frames could be read"))
        return found


def _is_of_the_web(source: Source) -> bool:
    return isinstance(source.opened, str) and source.opened.lower().startswith(("http://", "https://"))


def _finest_fps(source: Source, told_fps: float) -> float | None:
    """The rate at which frames come where they come closest, looked for at a file's start; None for too few frames.

    A file of varying rate is told to have the mean one: its frames would not find room at their own times.
    """
    capture = open_capture(source)
    times_ms: list[float] = []
    started = time.monotonic()
    with quiet_opencv():
        while len(times_ms) < LOOKED_FRAMES and time.monotonic() - started < LOOKED_S and capture.grab():
            times_ms.append(float(capture.get(cv2.CAP_PROP_POS_MSEC)))
        capture.release()
    steps_ms = np.diff(times_ms)
    steps_ms = steps_ms[steps_ms > 0]
    if not len(steps_ms):
        return None
    # Not the least one: a single pair of frames may come closer than the rest.
    fps = 1e3 / float(np.percentile(steps_ms, 5, method="lower"))
    if told_fps and abs(fps - told_fps) <= SAME_FPS * told_fps:
        return told_fps
    return min(fps, MAX_FPS)
