"""Faces drawn on pictures and video, in a window where there is a display and into files where there is none."""

from __future__ import annotations

import itertools
import logging
import time
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlparse

import cv2

from facekit.detector import Detector
from facekit.errors import FacekitError
from facekit.files import check_writable_folder
from facekit.pictures.draw import draw_faces, draw_label
from facekit.pictures.read import PICTURE_SUFFIXES, read_picture
from facekit.pictures.video import VideoFile, frames_of, open_video
from facekit.pictures.window import has_display, show
from facekit.pictures.write import write_picture
from facekit.progress import progress_bar

log = logging.getLogger(__name__)


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
            if not show(canvas, wait_ms=0):
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


def visualize_video(detector: Detector, source: str, output: Path | None, threshold: float) -> tuple[int, float]:
    """Draws faces on a camera (a number), a video file or a URL; returns frames seen and frames a second.

    Shows a window where there is a display; writes a video to `output` (.mp4, or a folder), by default
    ./facekit_output.mp4 where there is no display.
    """
    capture = open_video(source)
    window = has_display()
    if output is None and not window:
        output = Path("facekit_output.mp4")
        log.info("There is no display to open a window on: writing the video to %s", output.resolve())
    elif output is not None and (output.is_dir() or not output.suffix):
        output /= f"camera_{source}.mp4" if source.isdigit() else f"{Path(urlparse(source).path).stem or 'video'}.mp4"
    frames = frames_of(capture)
    started = time.perf_counter()
    count, smoothed_fps = 0, 0.0
    total = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT))) or None
    with ExitStack() as stack:
        stack.callback(capture.release)
        writer = stack.enter_context(VideoFile(output, capture.get(cv2.CAP_PROP_FPS))) if output else None
        for frame_bgr in progress_bar(frames, total=total, desc="video", unit="frame"):
            tick = time.perf_counter()
            faces = detector.detect(frame_bgr).above(threshold)
            fps = 1 / max(time.perf_counter() - tick, 1e-6)
            smoothed_fps = fps if not count else 0.9 * smoothed_fps + 0.1 * fps
            canvas = draw_faces(frame_bgr, faces)
            draw_label(canvas, f"{smoothed_fps:.1f} FPS  {len(faces)} faces", 4, 24, 0.6)
            count += 1
            if writer is not None:
                writer.write(canvas)
            if window and not show(canvas, wait_ms=1):
                break
    if not count:
        raise FacekitError(f"--video {source}: opened, but gave no frame. Is it a video, or the camera in use?")
    return count, count / (time.perf_counter() - started)
