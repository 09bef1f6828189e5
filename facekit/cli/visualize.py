"""`facekit visualize`."""

from __future__ import annotations

from pathlib import Path

import click

from facekit.cli.options import FILE


@click.command()
@click.option("--template", help="Template name, template.yaml or work dir [the bundled detector's].")
@click.option("--load-weights", type=FILE, help=".pth, .onnx, .xml or .bin [the bundled detector's].")
@click.option("--video", help="Camera number, video file or URL.")
@click.option("--images", help="Picture, folder, or quoted glob.")
@click.option("--output", type=FILE, help="File or folder to write; without it a window, where there is a display.")
@click.option("--threshold", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="Least score shown.")
def visualize(
    template: str | None, load_weights: Path | None, video: str | None, images: str | None, output: Path | None,
    threshold: float,
) -> None:  # fmt: skip
    """Draw boxes, scores and landmarks on pictures or video."""
    from facekit.commands.visualize import visualize_pictures, visualize_video
    from facekit.detector import Detector
    from facekit.pictures.listing import list_pictures

    if (video is None) == (images is None):
        raise click.UsageError("Give either --video or --images.")
    if (template is None) != (load_weights is None):
        raise click.UsageError("Give --template and --load-weights together, or neither for the bundled detector.")
    pictures = list_pictures(images) if images is not None else []
    detector = Detector.open(load_weights, template) if load_weights and template else Detector.bundled()
    if video is not None:
        frames, fps = visualize_video(detector, video, output, threshold)
        click.echo(f"{frames} frames, {fps:.1f} frames a second, reading and drawing included")
    else:
        written = visualize_pictures(detector, pictures, output, threshold)
        if written:
            click.echo(f"{len(written)} picture(s) written; the last: {written[-1]}")
