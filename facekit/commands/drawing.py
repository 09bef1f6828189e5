"""Faces drawn on pictures and video, in a window where there is a display and into files where there is none."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlparse

import numpy as np
from numpy.typing import NDArray

from facekit.errors import FacekitError, Interrupted, Loss
from facekit.files import check_outputs, check_writable_folder, protecting
from facekit.machine.signals import StopSignals
from facekit.pictures.draw import draw_faces, draw_label
from facekit.pictures.headers import MAX_PIXELS
from facekit.pictures.listing import list_pictures
from facekit.pictures.read_ahead import read_each
from facekit.pictures.video import Source, Video, find_source
from facekit.pictures.video_file import VideoFile, check_video_name
from facekit.pictures.window import has_display, show
from facekit.pictures.write import WRITTEN_SUFFIXES, check_picture_name, write_picture
from facekit.progress import progress_bar

if TYPE_CHECKING:  # PyTorch takes seconds to come: plans are made, and refused, without it
    from facekit.detector import Detector

log = logging.getLogger(__name__)

PICTURES_FOLDER, VIDEO_NAME = Path("facekit_output"), Path("facekit_output.mp4")  # where nothing else is said


@dataclass(frozen=True)
class PicturePlan:
    """Which pictures are drawn on, and where each goes."""

    pictures: list[Path]
    targets: list[Path] | None  # None: into a window
    losses: list[Loss] = field(default_factory=list)  # names that stand for no picture


@dataclass(frozen=True)
class Drawn:
    """What became of a plan."""

    written: list[Path]
    losses: list[Loss]

    def text(self) -> str:
        """Empty where all was shown in a window."""
        return f"{len(self.written)} picture(s) written; the last: {self.written[-1]}" if self.written else ""


def plan_pictures(images: Sequence[str], output: Path | None) -> PicturePlan:
    """Of files, folders and globs. `output` is a folder, or a file for a single picture; without it the pictures are
    shown, or, with no display, written to ./facekit_output, which is said.

    Raises FacekitError, before anything is loaded or written, where there are no pictures, a file is given for many, or
    a picture would be written over one that is read.
    """
    if output is None and has_display():
        listing = list_pictures(images)
        listing.say()
        return PicturePlan(listing.pictures, None, listing.losses)
    if output is None:
        log.info("There is no display to open a window on: writing pictures to %s", PICTURES_FOLDER.resolve())
    folder = output or PICTURES_FOLDER
    listing = list_pictures(images, folder)
    listing.say()
    if folder.suffix and not folder.is_dir():
        if len(listing.pictures) != 1:
            raise FacekitError(
                f"`output={folder}`: a name with a suffix is a file, and there are {len(listing.pictures)} pictures. "
                f"Give a folder, and make it first if {folder.name} is to be one."
            )
        check_picture_name(folder)
        targets = [folder]
    else:
        targets = [folder / name for name in _output_names(listing.pictures)]
    check_outputs(listing.pictures, targets)
    check_writable_folder(targets[0].parent)
    return PicturePlan(listing.pictures, targets, listing.losses)


def _output_names(pictures: list[Path]) -> list[str]:
    """File names for the drawn pictures: their own, as .jpg where their kind can't be written, and numbered where two
    folders hold the same name, also to disks that don't tell capitals."""
    names: dict[str, str] = {}
    for path in pictures:
        suffix = path.suffix if path.suffix.lower() in WRITTEN_SUFFIXES else ".jpg"
        numbered = (f"{path.stem}_{number}{suffix}" for number in itertools.count(2))
        name = next(n for n in itertools.chain([path.stem + suffix], numbered) if n.casefold() not in names)
        names[name.casefold()] = name
    return list(names.values())


def visualize_pictures(detector: Detector, plan: PicturePlan, threshold: float, max_pixels: int = MAX_PIXELS) -> Drawn:
    """Draws each picture's faces of at least `threshold`; pictures that can't be read are left out and told.

    Raises FacekitError where none can be read or the disk refuses, and Interrupted where a signal asks for the end.
    """
    written: list[Path] = []
    losses = list(plan.losses)
    targets: Sequence[Path | None] = plan.targets or [None] * len(plan.pictures)
    done = 0
    images = read_each(plan.pictures, max_pixels=max_pixels)
    several = len(plan.pictures) > 1
    bar = progress_bar(None, total=len(plan.pictures), desc="drawing", unit="picture") if several else None
    with protecting(plan.pictures), StopSignals() as stop, closing(images), bar or nullcontext():
        for path, target, image_bgr in zip(plan.pictures, targets, images, strict=True):
            if stop.received:
                raise Interrupted(f"Stopped after {done} of {len(plan.pictures)} pictures.", stop.received)
            if bar is not None:
                bar.update()
            if isinstance(image_bgr, FacekitError):
                losses.append(Loss.of(path, image_bgr))
                continue
            canvas = _drawn_faces(detector, path, image_bgr, threshold)
            done += 1
            if target is not None:
                write_picture(target, canvas)
                written.append(target)
            elif not show(canvas, wait_ms=0):
                break
    if not done:
        _refuse_all(losses)
    return Drawn(written, losses)


def _drawn_faces(detector: Detector, path: Path, image_bgr: NDArray[np.uint8], threshold: float) -> NDArray[np.uint8]:
    started = time.perf_counter()
    faces = detector.detect(image_bgr).above(threshold)
    log.info("%s: %d faces in %.0f ms", path, len(faces), 1e3 * (time.perf_counter() - started))
    return draw_faces(image_bgr, faces)


def _refuse_all(losses: list[Loss]) -> None:
    if len(losses) == 1:
        raise FacekitError(str(losses[0]))
    shown = "\n".join(f"  {loss}" for loss in losses[:10])
    raise FacekitError(f"None of the {len(losses)} pictures could be read:\n{shown}")


@dataclass(frozen=True)
class VideoPlan:
    """What is watched, and where it is written."""

    source: Source
    output: Path | None
    is_shown: bool


@dataclass(frozen=True)
class Watched:
    """What became of a plan."""

    frames: int  # seen
    fps: float  # frames a second, reading, drawing and writing included
    output: Path | None
    written: int  # frames of the output, at output_fps
    output_fps: float
    losses: list[Loss]

    def text(self) -> str:
        lines = [f"{self.frames} frames, {self.fps:.1f} frames a second, reading and drawing included"]
        if self.output is not None:
            rate = f"{self.written} frames at {self.output_fps:g} a second"
            lines.append(f"Done: {self.output}, {rate}, read back; no sound")
        return "\n".join(lines)


def plan_video(name: str, output: Path | None) -> VideoPlan:
    """Of a camera's number, a video file or a URL; `output` is a video file, or a folder. A window is shown where there
    is a display; where there is none and no output, ./facekit_output.mp4 is written.

    Raises FacekitError, before anything is loaded or written, where there is no such source, no such kind of video, or
    the video would be written over itself.
    """
    source = find_source(name)
    is_shown = has_display()
    if output is None and not is_shown:
        output = VIDEO_NAME
        log.info("There is no display to open a window on: writing the video to %s", output.resolve())
    elif output is not None and (output.is_dir() or not output.suffix):
        output /= f"{_stem(source)}.mp4"
    if output is not None:
        check_video_name(output)
        check_outputs([source.path], [output])
        check_writable_folder(output.parent)
    return VideoPlan(source, output, is_shown)


def _stem(source: Source) -> str:
    """What a video is called that is made of the source."""
    if isinstance(source.opened, int):
        return f"camera_{source.opened}"
    if source.path is not None:
        return source.path.stem
    return Path(urlparse(source.name).path).stem or "video"


def visualize_video(detector: Detector, plan: VideoPlan, threshold: float, overlay: bool = False) -> Watched:
    """Draws faces on every frame; overlay: rate and number of faces too, as in the window, also in the written file.

    Raises FacekitError for a source without frames and a file that can't be written, and Interrupted, the file being
    whole, where a signal asks for the end.
    """
    started = time.perf_counter()
    smoothed_fps = 0.0
    with ExitStack() as stack:
        stack.enter_context(protecting([plan.source.path]))
        stop = stack.enter_context(StopSignals())
        video = stack.enter_context(Video(plan.source))
        writer = stack.enter_context(VideoFile(plan.output, video.fps)) if plan.output else None
        has_ended = True
        for time_s, frame_bgr in progress_bar(video.frames(), total=video.total, desc="video", unit="frame"):
            tick = time.perf_counter()
            faces = detector.detect(frame_bgr).above(threshold)
            fps = 1 / max(time.perf_counter() - tick, 1e-6)
            smoothed_fps = fps if video.count == 1 else 0.9 * smoothed_fps + 0.1 * fps
            canvas = draw_faces(frame_bgr, faces)
            told = canvas.copy() if plan.is_shown or overlay else canvas
            if plan.is_shown or overlay:
                draw_label(told, f"{smoothed_fps:.1f} FPS  {len(faces)} faces", 4, 24, 0.6)
            if writer is not None:
                writer.write(told if overlay else canvas, time_s)
            if stop.received or (plan.is_shown and not show(told, wait_ms=1)):
                has_ended = False
                break
        if not video.count and not stop.received:
            raise FacekitError(f"`video={plan.source.name}`: opened, but gave no frame. Is it damaged, or in use?")
    if stop.received:
        kept = f" {plan.output} holds them and can be played." if writer is not None and writer.written else ""
        raise Interrupted(f"Stopped after {video.count} frames.{kept}", stop.received)
    losses = video.losses() if has_ended else []
    written, output_fps = (writer.written, writer.fps) if writer is not None else (0, 0.0)
    if writer is not None:
        losses += writer.losses
        if writer.repeated:
            log.info("The frames come at varying times: %d of %d are repeated, so that each stands at its own time.",
                     writer.repeated, written)  # fmt: skip
    rate = video.count / (time.perf_counter() - started)
    return Watched(video.count, rate, plan.output, written, output_fps, losses)
