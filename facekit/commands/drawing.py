"""Faces drawn on pictures and video, in a window where there is a display and into files where there is none."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlparse

import numpy as np
from numpy.typing import NDArray

from facekit.base.files import check_outputs, check_writable_folder, protecting
from facekit.base.progress import progress_bar
from facekit.commands.watching import Seen, watch
from facekit.errors import FacekitError, Interrupted, Loss, counted, printable
from facekit.machine.signals import StopSignals
from facekit.pictures.av_video import Frame
from facekit.pictures.containers import FRAME_PIXELS
from facekit.pictures.draw import draw_faces, draw_label
from facekit.pictures.headers import MAX_PIXELS
from facekit.pictures.listing import list_pictures
from facekit.pictures.read_ahead import read_each
from facekit.pictures.video import Source, find_source
from facekit.pictures.video_file import check_video_name
from facekit.pictures.window import has_display, show
from facekit.pictures.write import WRITTEN_SUFFIXES, check_picture_name, check_replaceable, write_picture
from facekit.structures import Detections

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
        if not self.written:
            return ""
        return f"{len(self.written)} picture(s) written; the last: {printable(self.written[-1])}"


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
    for target in targets:
        check_replaceable(target)
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
    with protecting(plan.pictures), StopSignals() as stop, closing(images), nullcontext() if bar is None else bar:
        for path, target, image_bgr in zip(plan.pictures, targets, images, strict=True):
            if stop.received:
                raise Interrupted(f"Stopped after {done} of {len(plan.pictures)} pictures.", stop.received)
            if bar is not None:
                bar.update()
            if isinstance(image_bgr, FacekitError):
                losses.append(Loss.of(path, image_bgr))
                continue
            try:
                canvas = _drawn_faces(detector, path, image_bgr, threshold)
            except FacekitError as error:  # the network can't take it
                losses.append(Loss.of(path, error))
                continue
            done += 1
            if target is not None:
                write_picture(target, canvas)
                written.append(target)
            elif not show(canvas, wait_ms=0):
                break
    if not done:
        _refuse_all(losses)
    return Drawn(written, losses + detector.losses())


def _drawn_faces(detector: Detector, path: Path, image_bgr: NDArray[np.uint8], threshold: float) -> NDArray[np.uint8]:
    started = time.perf_counter()
    faces = detector.detect(image_bgr).above(threshold)
    log.info("%s: %s in %.0f ms", printable(path), counted(len(faces), "face"), 1e3 * (time.perf_counter() - started))
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
    written: int  # frames of the output
    dropped: int  # of a live source, to keep up
    kept: str  # of a written video, in words: its sound and times, or what is lost
    losses: list[Loss]

    def text(self) -> str:
        dropped = f"; {self.dropped} more were dropped, to keep up" if self.dropped else ""
        lines = [f"{self.frames} frames, {self.fps:.1f} frames a second, reading and drawing included{dropped}"]
        if self.output is not None:
            lines.append(f"Done: {self.output}, {self.written} frames{self.kept}, read back")
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
        check_replaceable(output)
        check_writable_folder(output.parent)
    return VideoPlan(source, output, is_shown)


def _stem(source: Source) -> str:
    """What a video is called that is made of the source."""
    if isinstance(source.opened, int):
        return f"camera_{source.opened}"
    if source.path is not None:
        return source.path.stem
    return Path(urlparse(source.name).path).stem or "video"


def visualize_video(
    detector: Detector, plan: VideoPlan, threshold: float, overlay: bool = False, max_pixels: int = FRAME_PIXELS
) -> Watched:
    """Draws faces on every frame; overlay: rate and number of faces too, as in the window, also in the written file.

    Raises FacekitError for a source without frames and a file that can't be written, and Interrupted, the file being
    whole, where a signal asks for the end.
    """
    started = time.perf_counter()
    seen, rate = Seen(), _Rate()

    def look(frames: Iterator[Frame]) -> Iterator[tuple[Frame, Detections]]:
        for frame in frames:
            tick = time.perf_counter()
            faces = detector.detect(frame.image_bgr).above(threshold)
            rate.add(time.perf_counter() - tick)
            yield frame, faces

    def draw(frame: Frame, faces: Detections) -> NDArray[np.uint8]:
        canvas = draw_faces(frame.image_bgr, faces)
        return rate.drawn(canvas, len(faces)) if overlay else canvas

    has_ended = True
    with protecting([plan.source.path]), StopSignals() as stop:
        watched = watch(plan.source, seen, look, plan.output, draw, max_pixels=max_pixels)
        bar = progress_bar(None, desc="video", unit="frame")
        with closing(watched), bar:
            for frame, faces in watched:
                bar.total = seen.total
                bar.update()
                is_wanted = True
                if plan.is_shown:
                    is_wanted = show(rate.drawn(draw_faces(frame.image_bgr, faces), len(faces)), wait_ms=1)
                if stop.received or not is_wanted:
                    has_ended = False
                    break
    if stop.received:
        kept = f" {plan.output} holds them and can be played." if seen.written else ""
        raise Interrupted(f"Stopped after {seen.frames} frames.{kept}", stop.received)
    fps = seen.frames / (time.perf_counter() - started)
    losses = [*(seen.losses if has_ended else []), *detector.losses()]
    return Watched(seen.frames, fps, plan.output, seen.written, seen.dropped, seen.kept, losses)


class _Rate:
    """Detections a second, smoothed."""

    def __init__(self) -> None:
        self._fps = 0.0

    def add(self, seconds: float) -> None:
        fps = 1 / max(seconds, 1e-6)
        self._fps = 0.9 * self._fps + 0.1 * fps if self._fps else fps

    def drawn(self, canvas: NDArray[np.uint8], faces: int) -> NDArray[np.uint8]:
        """On the canvas itself."""
        draw_label(canvas, f"{self._fps:.1f} FPS  {counted(faces, 'face')}", 4, 24, 0.6)
        return canvas
