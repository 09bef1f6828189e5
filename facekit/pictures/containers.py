"""Which containers are read: those that hold their pictures.

FFmpeg would also follow a list of other files (ffconcat, HLS, DASH, SDP, ...) under any name, so a stranger's "video"
could show what lies elsewhere on the disk, and an output could be written over what is read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from facekit.errors import FacekitError

# FFmpeg's names; of those with several, one.
HOLDING = (
    "mov", "matroska", "avi", "mpegts", "mpeg", "mpegvideo", "flv", "live_flv", "kux", "ogg", "asf", "mxf", "gxf",
    "nut", "rm", "ivr", "wtv", "ty", "dv", "dhav", "nsv", "nuv", "pva", "lxf", "swf", "ivf", "obu", "av1", "h261",
    "h263", "h264", "hevc", "vvc", "evc", "m4v", "vc1", "dirac", "cavsvideo", "mjpeg", "mjpeg_2000", "mpjpeg",
    "smjpeg", "yuv4mpegpipe", "gif", "apng", "jpeg_pipe", "png_pipe", "bink", "smk", "flic", "roq",
)  # fmt: skip
_OPTIONS = {"format_whitelist": ",".join(HOLDING), "protocol_whitelist": "file"}
_OPENCV_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
FRAME_PIXELS = 1 << 26  # of one frame: 8K has 33 million
TS_PACKET_BYTES = 188  # each begins with a G (ISO/IEC 13818-1, 2.4.3)
_LISTS = (b"ffconcat", b"#extm3u", b"<mpd", b"v=0", b"# vobsub", b"[playlist]", b"[reference]", b"<asx", b"<smil")


def open_container(path: Path, max_pixels: int = FRAME_PIXELS) -> Any:
    """PyAV's, of a file that holds its pictures. Raises what av.open() raises.

    max_pixels: of the frame that FFmpeg decodes to learn of what kind they are.
    """
    import av

    return av.open(
        unmistakable(path), metadata_errors="replace", options=decoding_options(max_pixels),
        container_options=dict(_OPTIONS),
    )  # fmt: skip


def decoding_options(max_pixels: int) -> dict[str, str]:
    """For FFmpeg's decoders. Four times as many: they count what they allocate, in rows of a multiple of 64 pixels.
    check_frame_size() is exact behind them."""
    return {"max_pixels": str(4 * max_pixels)}


def check_frame_size(name: object, size_wh: tuple[int, int], max_pixels: int) -> None:
    """Raises FacekitError for a frame of more pixels; its message begins with `name`."""
    width, height = size_wh
    if width * height > max_pixels:
        raise too_large(name, f"{width}x{height} pixels, over the limit of {max_pixels}", max_pixels)


def too_large(name: object, what: str, max_pixels: int) -> FacekitError:
    """The error for a video with a frame of `what`."""
    remedy = ", or raise `max_pixels`" if max_pixels < FRAME_PIXELS else ""
    return FacekitError(f"{name}: a frame of {what}: not looked at. Scale the video down{remedy}.")


def unmistakable(path: Path) -> str:
    """The name as FFmpeg and OpenCV take it for a file's: one such as concat:a.ts is the name of a protocol to them."""
    return str(path.absolute())


def ends_within_packet(path: Path) -> bool:
    """Whether an MPEG transport stream breaks off there, by its size alone: FFmpeg says nothing of it. False for one
    whose packets are of other sizes, as a camera's .m2ts."""
    try:
        with path.open("rb") as file:
            head = file.read(TS_PACKET_BYTES + 1)
        return head[::TS_PACKET_BYTES] == b"GG" and path.stat().st_size % TS_PACKET_BYTES != 0
    except OSError:  # taken away since it was opened
        return False


@contextmanager
def opencv_follows_none() -> Iterator[None]:
    """What OpenCV opens by FFmpeg meanwhile must hold its pictures; it takes such options by the environment alone."""
    before = os.environ.get(_OPENCV_OPTIONS)
    ours = "|".join(f"{name};{value}" for name, value in _OPTIONS.items())
    os.environ[_OPENCV_OPTIONS] = f"{before}|{ours}" if before else ours
    try:
        yield
    finally:
        if before is None:
            del os.environ[_OPENCV_OPTIONS]
        else:
            os.environ[_OPENCV_OPTIONS] = before


def lists_others(head: bytes) -> bool:
    """Whether a file that begins so looks like a list of other files."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return text.startswith(_LISTS) or (text.startswith(b"<?xml") and (b"<mpd" in text or b"<smil" in text))
