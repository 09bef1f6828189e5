"""`facekit data mark`."""

from __future__ import annotations

from pathlib import Path

import click

from facekit.cli.options import FILE, finish, max_pixels_option, multi_scale_option, read_factors


@click.command("mark")
@click.argument("source", type=FILE)
@click.argument("destination", type=FILE)
@click.option("--data-root", type=FILE, help="Folder above the pictures [where the format has it].")
@click.option("--unlabelled", is_flag=True, help="SOURCE is pictures (a folder or a file), or labels to pass over.")
@click.option("--template", help="The detector's: name, template.yaml or work dir [the bundled detector's].")
@click.option("--load-weights", type=FILE, help="Its weights: .pth, .onnx, .xml or .bin [the bundled detector's].")
@click.option("--threshold", type=click.FloatRange(0, 1), default=0.3, show_default=True, help="Least score taken.")
@multi_scale_option
@max_pixels_option
def mark_data(
    source: Path, destination: Path, data_root: Path | None, unlabelled: bool, template: str | None,
    load_weights: Path | None, threshold: float, multi_scale: str | None, max_pixels: int,
) -> None:  # fmt: skip
    """Complete labels by a detector, as COCO json: landmarks for the faces of SOURCE that have none, or, with
    --unlabelled, the faces themselves; each with the detector's score.

    Pictures that can't be read are listed at the end, with exit code 3.
    """
    from facekit.commands.mark import mark, plan_mark, write_marked
    from facekit.detector import Detector, Passes
    from facekit.errors import Interrupted

    if (template is None) != (load_weights is None):
        raise click.UsageError("Give --template and --load-weights together, or neither for the bundled detector.")
    passes = Passes(read_factors(multi_scale))
    pictures = plan_mark(source, destination, data_root, unlabelled)
    detector = (
        Detector.open(load_weights, template, passes=passes)
        if load_weights and template
        else Detector.bundled(passes=passes)
    )
    marked = mark(pictures, detector, threshold, max_pixels)
    write_marked(destination, marked, source if unlabelled and source.is_dir() else None)
    text = f"{destination}; {marked.text()} ({detector.protocol()}; score over {threshold:g})"
    if marked.stopped_by:
        raise Interrupted(f"Stopped: what was marked so far is in {text}", marked.stopped_by)
    click.echo(f"Done: {text}")
    finish(marked.losses)
