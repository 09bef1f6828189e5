"""The anonymize command: pictures and videos in, the same with their faces covered out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from facekit.base.options import BACKEND, COVERED_SCORE, LAYOUT, THREADS, Runtime, command_options, option, takes
from facekit.commands.detect import MODEL
from facekit.commands.inputs import choose_model
from facekit.errors import ArgumentError
from facekit.pictures.headers import MAX_PIXELS

if TYPE_CHECKING:
    from facekit.commands.anonymizing import Anonymized

AREA = "x,y,width,height in pixels; may be repeated."


@command_options
class AnonymizeOptions:
    """Options of covering faces."""

    inputs: tuple[str, ...] = option(
        "Pictures, folders, globs, videos.", positional=True, kw_only=False, metavar="INPUTS..."
    )
    output: Path = option("File, for a single picture or video; else a folder.", other_flag="-o")
    method: Literal["blur", "pixelate", "solid", "mosaic"] = option("How faces are covered.", default="blur")
    shape: Literal["ellipse", "box"] = option("Of what is covered.", default="ellipse")
    margin: float = option("Cover more, by this part of a face's sides on each side.", default=0.2, least=0, most=2)
    threshold: float = option("Least score that makes a face.", default=COVERED_SCORE, least=0, most=1)
    low_threshold: float = option(
        "Of videos: least score at which a face that was there before is still there.", default=0.05, least=0, most=1
    )
    min_size: float = option("Only faces at least this wide and high, in pixels.", default=0, least=0)
    bridge: int = option("Of videos: cover faces that are missed for up to so many frames, too.",
                         default=15, least=0, most=10_000)  # fmt: skip
    every: int = option("Of videos: look at each so manieth frame only.", default=1, least=1, most=1000)
    ignore: tuple[str, ...] = option(f"Leave faces alone whose centre is here: {AREA}", default=(), metavar="AREA")
    only: tuple[str, ...] = option(f"Cover only faces whose centre is here: {AREA}", default=(), metavar="AREA")
    start: tuple[str, ...] = option(
        "Of videos: write what is from this time on, as 90 or 1:30; repeat it, and its end, for several parts.",
        default=(), flag="--from", metavar="TIME",
    )  # fmt: skip
    end: tuple[str, ...] = option("Of videos: write what is up to this time.", default=(), flag="--to", metavar="TIME")
    keep_sound: bool = option("Keep a video's sound.", default=True)
    keep_metadata: bool = option("Keep what a picture's EXIF says of camera, times, exposure and place.", default=False)
    report: Path | None = option(
        "Write what was covered, a line of JSON a frame, and beside it, as .jpg, the frames to look at.",
        default=None, writes=True,
    )  # fmt: skip
    model: str | None = option(MODEL, default=None)
    scale: float = option("Look at pictures at this multiple of their size.", default=1.0, least=0.1, most=8)
    longest_side: int | None = option(
        "Look at larger pictures scaled down to this longest side, in pixels.", default=None, least=32, most=1 << 15
    )
    threads: int | None = option(THREADS, default=None, least=1, most=1024)
    backend: Runtime | None = option(BACKEND, default=None)
    layout: str | None = option(LAYOUT, default=None, metavar="NAME")
    max_pixels: int = option(
        "Refuse larger pictures, by their header, and videos of larger frames (of over 67,108,864 pixels always).",
        default=MAX_PIXELS, least=1, most=1 << 30, metavar="N",
    )  # fmt: skip

    def __post_init__(self) -> None:
        if not self.inputs:
            raise ArgumentError("Give `inputs`.")


@takes(AnonymizeOptions)
def anonymize(options: AnonymizeOptions) -> Anonymized:
    """Covers faces. Videos are looked at twice: faces are followed backwards and forwards first, so that one that is
    missed for some frames is covered there, too. Returns what was written and what was left out.

    Raises FacekitError where there is nothing to look at or it can't be written, and Interrupted, what was written
    being whole, where a signal asks for the end.
    """
    chosen = choose_model(options.model, options.threads, options.backend, options.layout)
    from facekit.commands.anonymizing import run_anonymize

    return run_anonymize(options, chosen)
