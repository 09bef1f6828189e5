"""Video written by PyAV: each frame at its own time, in the source's codec and colours, with its sound beside it."""

from __future__ import annotations

import logging
import os
import shutil
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from facekit.base.files import beside_name, check_not_input, check_writable_folder, replacing
from facekit.errors import FacekitError, Loss
from facekit.machine.cores import usable_cores
from facekit.pictures.av_video import COPIED, AvVideo, Frame
from facekit.pictures.containers import unmistakable
from facekit.pictures.video_file import DISK_IS_FULL, FULL_DISK_BYTES, check_video_name
from facekit.pictures.write import sign_video

log = logging.getLogger(__name__)

# FFmpeg's encoder of a codec, with settings whose loss is hard to see.
ENCODERS = {
    "h264": (
        "libx264",
        {"preset": "veryfast", "crf": "20", "x264-params": "rc-lookahead=4:sync-lookahead=0:bframes=2"},
    ),
    "hevc": ("libx265", {"preset": "veryfast", "crf": "22", "x265-params": "log-level=none"}),
    "vp8": ("libvpx", {"crf": "12", "b": "4000000", "deadline": "realtime", "cpu-used": "6"}),
    "vp9": ("libvpx-vp9", {"crf": "28", "b": "0", "deadline": "realtime", "cpu-used": "6", "row-mt": "1"}),
    "av1": ("libsvtav1", {"crf": "30", "preset": "10"}),
    "mpeg4": ("mpeg4", {"qmin": "2", "qmax": "4"}),
    "mjpeg": ("mjpeg", {"qmin": "2", "qmax": "3"}),
}
# Which of them a container takes, or what players know in it; .mkv takes all.
TAKEN = {
    ".mp4": ("h264", "hevc", "vp9", "av1", "mpeg4", "mjpeg"),
    ".mov": ("h264", "hevc", "mpeg4", "mjpeg"),
    ".m4v": ("h264", "mpeg4"),
    ".avi": ("h264", "mpeg4", "mjpeg"),
    ".ts": ("h264", "hevc", "mpeg4"),
    ".webm": ("vp9", "vp8", "av1"),
}
PLAIN_FORMATS = ("yuv420p", "yuvj420p", "yuv422p", "yuv444p")
MOST_THREADS = 4
TIME_BASE = Fraction(1, 90_000)  # of what has none of its own


class AvFile:
    """Opened at the first frame; takes its place when it is complete and checked. Left by an exception other than
    Ctrl-C, nothing is kept. Behind it stand `written`, the number of its frames, and `losses`."""

    def __init__(self, path: Path, source: AvVideo | None, fps: float, sound: bool = True) -> None:
        """`source`: the video whose codec, colours, times, subtitles and, with `sound`, sound are kept; it must
        collect others for the latter."""
        self.path, self.source, self.fps, self.sound = path, source, fps, sound
        self.beside = beside_name(path)
        self.written = self._resized = 0
        self.losses: list[Loss] = []
        self._container: Any = None
        self._size_wh = (0, 0)
        self._last_pts = -1
        self._copied: dict[int, Any] = {}

    @property
    def kept(self) -> str:
        """What of the source is in it, in words that follow "12 frames"."""
        if self.source is None:
            return " at the times they came"
        has_sound = any(stream.type == "audio" for stream in self._copied.values())
        return f" at their own times, {'with its sound' if has_sound else 'no sound'}"

    def __enter__(self) -> AvFile:
        check_video_name(self.path)
        check_not_input(self.path)
        check_writable_folder(self.path.parent)
        return self

    def write(self, frame: Frame, image_bgr: NDArray[np.uint8]) -> None:
        """The frame's picture, drawn on, at its time. Raises FacekitError where the disk or the encoder refuses."""
        import av

        try:
            if self._container is None:
                self._open(image_bgr)
            place_s = frame.time_s if self.source is None else self.source.spans.place(frame.time_s) or 0.0
            self._mux_others(place_s)
            self._encode(image_bgr, place_s)
        except (av.FFmpegError, OSError, ValueError) as error:
            full = shutil.disk_usage(self.path.parent).free < FULL_DISK_BYTES
            why = DISK_IS_FULL if full else f"FFmpeg refuses: {error}"
            raise FacekitError(f"{self.path}: can't be written: {why}, after {self.written} frames.") from error

    def _open(self, image_bgr: NDArray[np.uint8]) -> None:
        import av

        height, width = image_bgr.shape[:2]
        self._size_wh = (width + width % 2, height + height % 2)
        if self._size_wh != (width, height):
            log.info("%s: %dx%d pixels become %dx%d: most codecs take even sides alone", self.path, width, height,
                     *self._size_wh)  # fmt: skip
        self._container = av.open(unmistakable(self.beside), "w")
        source = None if self.source is None else self.source.stream
        os.environ.setdefault("SVT_LOG", "1")  # errors alone of AV1's encoder, which writes to standard error itself
        name, options = self._encoder("h264" if source is None else source.codec_context.codec.canonical_name)
        stream = self._container.add_stream(name, rate=Fraction(self.fps).limit_denominator(1_001), options=options)
        stream.width, stream.height = self._size_wh
        stream.pix_fmt = "yuvj420p" if name == "mjpeg" else "yuv420p"
        base = TIME_BASE if source is None or source.time_base is None else source.time_base
        self._base = base if base < Fraction(1, 200) and name != "mpeg4" else Fraction(1, 1000)
        stream.time_base = stream.codec_context.time_base = self._base
        stream.codec_context.thread_count = min(usable_cores(), MOST_THREADS)  # each holds frames
        if source is not None:
            self._keep_looks(source.codec_context, stream)
            if source.metadata.get("alpha_mode") == "1":  # of VP8 and VP9, beside their pictures: FFmpeg passes it over
                reason = "the source's transparency can't be read: what is hidden under it may come to light"
                self.losses.append(Loss(str(self.path), reason))
        self._stream = stream
        if self.source is not None:
            self._add_others()

    def _encoder(self, codec: str) -> tuple[str, dict[str, str]]:
        import av

        taken = TAKEN.get(self.path.suffix.lower(), tuple(ENCODERS))
        name, options = ENCODERS[codec if codec in taken else taken[0]]
        if name not in av.codecs_available:
            name, options = ENCODERS["h264"] if "libx264" in av.codecs_available else ENCODERS["mpeg4"]
        return name, dict(options)

    def _keep_looks(self, looks: Any, stream: Any) -> None:
        made = stream.codec_context
        if looks.pix_fmt in PLAIN_FORMATS and made.name != "mjpeg":
            taken = {kind.name for kind in made.codec.video_formats}
            kinds = (looks.pix_fmt, looks.pix_fmt.replace("yuvj", "yuv"))  # the range is kept by itself
            stream.pix_fmt = next((kind for kind in kinds if kind in taken), "yuv420p")
        elif looks.pix_fmt not in PLAIN_FORMATS:
            log.info("%s: colours of the kind %s are written as 8 bits, yuv420p", self.path, looks.pix_fmt)
        for name in ("color_range", "colorspace", "color_primaries", "color_trc", "sample_aspect_ratio"):
            with suppress(AttributeError, ValueError, TypeError):
                if (value := getattr(looks, name)) is not None:
                    if name == "sample_aspect_ratio" and value and self.source is not None and self.source.swaps_sides:
                        value = 1 / value
                    setattr(made, name, value)

    def _add_others(self) -> None:
        assert self.source is not None
        for stream in self.source.container.streams:
            if stream is self.source.stream or (stream.type == "audio" and not self.sound):
                continue
            try:
                if stream.type not in COPIED:
                    raise ValueError
                copied = self._copied[stream.index] = self._container.add_stream_from_template(stream)
                if language := stream.metadata.get("language"):
                    copied.metadata["language"] = language
            except (ValueError, RuntimeError, LookupError):
                codec = getattr(getattr(stream, "codec_context", None), "name", None) or "unknown"
                if stream.type in COPIED:
                    what = "sound" if stream.type == "audio" else "subtitles"
                    reason = f"{what} of the kind {codec} don't fit into {self.path.suffix}: left out. Write .mkv."
                    self.losses.append(Loss(str(self.path), reason))

    def _mux_others(self, until_s: float) -> None:
        if self.source is None:
            return
        others = self.source.others
        while others and others[0][0] <= until_s:
            _, packet = others.popleft()
            if (stream := self._copied.get(packet.stream.index)) is None:
                continue
            if self.source.first_s and not self.source.spans.each_s:  # both begin where the pictures begin
                shift = round(self.source.first_s / packet.time_base)
                packet.pts = None if packet.pts is None else packet.pts - shift
                packet.dts = None if packet.dts is None else packet.dts - shift
            packet.stream = stream
            self._container.mux(packet)

    def _encode(self, image_bgr: NDArray[np.uint8], place_s: float) -> None:
        import av

        height, width = image_bgr.shape[:2]
        if (width, height) != self._size_wh:
            if (width + width % 2, height + height % 2) == self._size_wh:
                padded: Any = cv2.copyMakeBorder(image_bgr, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
            else:
                self._resized += 1
                padded = cv2.resize(image_bgr, self._size_wh, interpolation=cv2.INTER_AREA)
            image_bgr = np.asarray(padded, dtype=np.uint8)
        made = av.VideoFrame.from_ndarray(np.ascontiguousarray(image_bgr), format="bgr24")
        context = self._stream.codec_context
        made = made.reformat(
            format=self._stream.pix_fmt, dst_colorspace=context.colorspace, dst_color_range=context.color_range
        )
        self._last_pts = made.pts = max(round(place_s / self._base), self._last_pts + 1)
        made.time_base = self._base
        self._container.mux(self._stream.encode(made))
        self.written += 1

    def __exit__(self, kind: object, *rest: object) -> None:
        if self._container is None:
            return
        import av

        try:
            if kind in (None, KeyboardInterrupt, GeneratorExit):
                self._mux_others(float("inf") if kind is None else self._last_pts * float(self._base))
                self._container.mux(self._stream.encode(None))
                self._container.close()
                self._check()
                sign_video(self.beside)
                if self._resized:
                    size = f"{self._size_wh[0]}x{self._size_wh[1]}"
                    self.losses.append(Loss(str(self.path), f"{self._resized} frames of another size scaled to {size}"))
                with replacing(self.path, beside=self.beside):
                    pass  # it lies where replacing takes it from
        except (av.FFmpegError, OSError) as error:
            raise FacekitError(f"{self.path}: can't be written to its end ({error}). Nothing was kept.") from error
        finally:
            with suppress(Exception):
                self._container.close()
            with suppress(OSError):
                self.beside.unlink()

    def _check(self) -> None:
        """Raises FacekitError where what was written can't be read back, frame by frame."""
        import av

        with av.open(unmistakable(self.beside)) as container:
            first, found = None, 0
            if container.streams.video:  # MPEG-TS loses what it has no number for, such as MJPEG
                stream = container.streams.video[0]
                first = next(container.decode(stream), None)
                container.seek(0)
                found = sum(1 for packet in container.demux(stream) if packet.size)
        size_wh = None if first is None else (first.width, first.height)
        if found != self.written or size_wh != self._size_wh:
            raise FacekitError(
                f"{self.path}: {found} frames of {size_wh} can be read back, of {self.written} of {self._size_wh}. "
                f"Nothing was kept."
            )
