"""The visualize command: pictures or a video in, their faces drawn, into a window or into files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from facekit.base.options import BACKEND, FOUND_SCORE, LAYOUT, THREADS, Runtime, command_options, option, takes
from facekit.commands.inputs import choose_detector
from facekit.errors import ArgumentError
from facekit.pictures.headers import MAX_PIXELS

if TYPE_CHECKING:
    from facekit.commands.drawing import Drawn, Watched


@command_options
class VisualizeOptions:
    """Options of drawing faces."""

    pictures: tuple[str, ...] = option(
        "Files, folders, globs.", default=(), positional=True, kw_only=False, metavar="[PICTURES]..."
    )
    template: str | None = option(
        "Template name, template.yaml or work dir [as the weights say; the bundled detector's].",
        default=None,
        template=True,
    )
    load_weights: Path | None = option(
        ".pth, .onnx, .xml or another exported file; bundled [a work dir's best or newest; else bundled].",
        default=None, reads=True, names=("bundled",),
    )  # fmt: skip
    video: str | None = option("Camera (number or device), video file or URL.", default=None)
    images: tuple[str, ...] = option("Picture, folder, or quoted glob; may be repeated.", default=())
    output: Path | None = option(
        "Folder to write to, or file for a single picture or a video; else a window, where there is a display.",
        default=None,
    )
    threshold: float = option("Least score shown.", default=FOUND_SCORE, least=0, most=1)
    threads: int | None = option(THREADS, default=None, least=1, most=1024)
    backend: Runtime | None = option(BACKEND, default=None)
    layout: str | None = option(LAYOUT, default=None, metavar="NAME")
    overlay: bool = option("Write frames a second and the number of faces into a video, too.", default=False)
    max_pixels: int = option(
        "Refuse larger pictures, by their header, and videos of larger frames (of over 67,108,864 pixels always).",
        default=MAX_PIXELS, least=1, most=1 << 30, metavar="N",
    )  # fmt: skip

    def __post_init__(self) -> None:
        if (self.video is None) == (not (self.images or self.pictures)):
            raise ArgumentError("Give either `video` or `images`.")


@takes(VisualizeOptions)
def visualize(options: VisualizeOptions) -> Drawn | Watched:
    """Draws boxes, scores and landmarks on pictures or a video, and returns what was written and what was left out.

    Raises FacekitError where there is nothing to draw on or it can't be read or written, and Interrupted, what was
    written being whole, where a signal asks for the end.
    """
    chosen = choose_detector(options.load_weights, options.template, options.threads, options.backend, options.layout)
    if options.video is None:
        from facekit.commands.drawing import plan_pictures, visualize_pictures

        plan = plan_pictures([*options.images, *options.pictures], options.output)
        return visualize_pictures(chosen.open(), plan, options.threshold, options.max_pixels)
    from facekit.commands.drawing import plan_video, visualize_video

    video = plan_video(options.video, options.output)
    return visualize_video(chosen.open(), video, options.threshold, options.overlay, options.max_pixels)
