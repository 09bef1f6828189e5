"""`facekit visualize`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from facekit.cli.options import FILE, finish, max_pixels_option

if TYPE_CHECKING:
    from facekit.detector import Detector


@click.command()
@click.argument("pictures", nargs=-1, metavar="[PICTURES]...")
@click.option("--template", help="Template name, template.yaml or work dir [the bundled detector's].")
@click.option("--load-weights", type=FILE, help=".pth, .onnx, .xml or .bin [the bundled detector's].")
@click.option("--video", help="Camera (number or device), video file or URL.")
@click.option("--images", multiple=True, help="Picture, folder, or quoted glob; may be repeated.")
@click.option(
    "--output", type=FILE,
    help="Folder to write to, or file for a single picture or a video; else a window, where there is a display.",
)  # fmt: skip
@click.option("--threshold", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="Least score shown.")
@click.option("--overlay", is_flag=True, help="Write frames a second and the number of faces into a video, too.")
@max_pixels_option
def visualize(
    pictures: tuple[str, ...], template: str | None, load_weights: Path | None, video: str | None,
    images: tuple[str, ...], output: Path | None, threshold: float, overlay: bool, max_pixels: int,
) -> None:  # fmt: skip
    """Draw boxes, scores and landmarks on PICTURES (files, folders, globs) or a video.

    Pictures that can't be read are listed at the end, with exit code 3. Videos are written without sound.
    """
    names = [*images, *pictures]
    if (video is None) == (not names):
        raise click.UsageError("Give either --video or --images.")
    if (template is None) != (load_weights is None):
        raise click.UsageError("Give --template and --load-weights together, or neither for the bundled detector.")
    if video is None:
        _pictures(names, output, (load_weights, template), threshold, max_pixels)
    else:
        _video(video, output, (load_weights, template), threshold, overlay)


def _pictures(
    names: list[str], output: Path | None, chosen: tuple[Path | None, str | None], threshold: float, max_pixels: int
) -> None:
    from facekit.commands.visualize import plan_pictures, visualize_pictures

    plan = plan_pictures(names, output)
    drawn = visualize_pictures(_open_detector(*chosen), plan, threshold, max_pixels)
    if drawn.written:
        click.echo(f"{len(drawn.written)} picture(s) written; the last: {drawn.written[-1]}")
    finish(drawn.losses)


def _video(
    name: str, output: Path | None, chosen: tuple[Path | None, str | None], threshold: float, overlay: bool
) -> None:
    from facekit.commands.visualize import plan_video, visualize_video

    plan = plan_video(name, output)
    watched = visualize_video(_open_detector(*chosen), plan, threshold, overlay)
    click.echo(f"{watched.frames} frames, {watched.fps:.1f} frames a second, reading and drawing included")
    if watched.output is not None:
        click.echo(
            f"Done: {watched.output}, {watched.written} frames at {watched.output_fps:g} a second, read back; no sound"
        )
    finish(watched.losses)


def _open_detector(weights: Path | None, template: str | None) -> Detector:
    from facekit.detector import Detector

    return Detector.open(weights, template) if weights and template else Detector.bundled()
