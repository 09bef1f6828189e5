"""Videos, cameras and streams as frames, and frames as videos: by PyAV where it is installed, else by OpenCV."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from facekit.errors import FacekitError, Loss
from facekit.pictures.av_file import AvFile
from facekit.pictures.av_video import AvVideo, Frame, has_av
from facekit.pictures.containers import FRAME_PIXELS, check_frame_size
from facekit.pictures.spans import Spans
from facekit.pictures.video import Source, Video
from facekit.pictures.video_file import VideoFile

log = logging.getLogger(__name__)

AHEAD_BYTES, MOST_AHEAD = 20 << 20, 8  # of frames that wait between two stages


class Frames(Protocol):
    """An open video; frames() may be asked for once."""

    is_live: bool  # its frames come whether somebody has time for them or not
    fps: float
    size_wh: tuple[int, int]  # as it is stored
    total: int | None  # frames; None: not known
    count: int  # frames given
    end_s: float  # of the last frame that was seen, given or not, since the first; 0: there was none

    def __enter__(self) -> Frames: ...
    def __exit__(self, *_: object) -> None: ...
    def frames(self) -> Iterator[Frame]:
        """Those of the wanted spans."""

    def losses(self) -> list[Loss]:
        """What was promised and did not come, behind the last frame."""


class Sink(Protocol):
    """A video that is written; behind it stand `written` and `losses`."""

    @property
    def written(self) -> int: ...
    @property
    def losses(self) -> list[Loss]: ...
    @property
    def kept(self) -> str: ...
    def __enter__(self) -> Sink: ...
    def __exit__(self, kind: object, *rest: object) -> None: ...
    def write(self, frame: Frame, image_bgr: NDArray[np.uint8]) -> None:
        """A picture at the frame's time."""


class _CvVideo:
    """OpenCV's, as frames."""

    def __init__(self, source: Source, spans: Spans, max_pixels: int) -> None:
        self.video = Video(source)
        self.fps, self.total, self._spans = self.video.fps, self.video.total, spans
        self.is_live = self.video.is_live
        sides = (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
        width, height = (int(self.video.capture.get(side)) for side in sides)
        self.size_wh = width, height
        self.count, self.end_s, self._max_pixels = 0, 0.0, min(max_pixels, FRAME_PIXELS)

    def __enter__(self) -> _CvVideo:
        return self

    def __exit__(self, *_: object) -> None:
        self.video.capture.release()

    def frames(self) -> Iterator[Frame]:
        check_frame_size(self.video.source.name, self.size_wh, self._max_pixels)  # later ones are scaled to the first's
        for index, (time_s, image_bgr) in enumerate(self.video.frames()):
            self.end_s = time_s + 1 / self.fps
            if time_s >= self._spans.end_s:
                return
            if self._spans.place(time_s) is not None:
                self.count += 1
                yield Frame(index, time_s, image_bgr)

    def losses(self) -> list[Loss]:
        return [] if self._spans.each_s else self.video.losses()


class _CvFile:
    """OpenCV's, at a constant rate and without sound."""

    def __init__(self, path: Path, fps: float, spans: Spans) -> None:
        self.path, self._file, self._spans = path, VideoFile(path, fps), spans

    @property
    def written(self) -> int:
        return self._file.written

    @property
    def losses(self) -> list[Loss]:
        return self._file.losses

    @property
    def kept(self) -> str:
        repeated = f", {self._file.repeated} of them repeated" if self._file.repeated else ""
        return f" at {self._file.fps:g} a second{repeated}; no sound"

    def __enter__(self) -> _CvFile:
        self._file.__enter__()
        return self

    def __exit__(self, kind: object, *rest: object) -> None:
        self._file.__exit__(kind, *rest)

    def write(self, frame: Frame, image_bgr: NDArray[np.uint8]) -> None:
        self._file.write(image_bgr, self._spans.place(frame.time_s) or 0.0)


def open_frames(
    source: Source, spans: Spans | None = None, wants_others: bool = False, max_pixels: int = FRAME_PIXELS,
    sound: bool = True,
) -> Frames:  # fmt: skip
    """wants_others: subtitles and, with `sound`, sound are collected for open_sink(). max_pixels: of a frame, and no
    more than FRAME_PIXELS; a larger one is an error of frames(). Raises FacekitError for what can't be read."""
    if source.path is not None and has_av():
        try:
            return AvVideo(source.path, spans, wants_others, max_pixels, sound)
        except FacekitError as error:
            log.debug("%s", error)  # OpenCV reads it, or says what is wrong with it
    return _CvVideo(source, spans or Spans(), max_pixels)


def open_sink(path: Path, video: Frames, spans: Spans | None = None, sound: bool = True) -> Sink:
    """A video with the source's times, codec, colours, subtitles and, with `sound`, sound; where PyAV is missing, with
    its pictures alone, at a constant rate, which is said."""
    if has_av():
        return AvFile(path, video if isinstance(video, AvVideo) else None, video.fps, sound)
    log.warning(
        "%s: PyAV is not installed, so this is written without sound, at a constant rate, by a plain codec. "
        'For these: pip install "facekit[video]"', path,
    )  # fmt: skip
    return _CvFile(path, video.fps, spans or Spans())


def frames_ahead(video: Frames) -> int:
    """How many of its frames may wait between two stages."""
    return max(1, min(MOST_AHEAD, AHEAD_BYTES // max(3 * video.size_wh[0] * video.size_wh[1], 1)))
