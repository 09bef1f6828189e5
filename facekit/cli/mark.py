"""`facekit data mark`."""

from __future__ import annotations

from pathlib import Path

import click

from facekit.cli.options import FILE, multi_scale_option, read_factors


@click.command("mark")
@click.argument("source", type=FILE)
@click.argument("destination", type=FILE)
@click.option("--data-root", type=FILE, help="Folder above the pictures [where the format has it].")
@click.option("--unlabelled", is_flag=True, help="SOURCE is a folder of pictures, or labels to pass over.")
@click.option("--template", required=True, help="The detector's: name, template.yaml or work dir.")
@click.option("--load-weights", type=FILE, required=True, help="Its weights: .pth, .onnx, .xml or .bin.")
@click.option("--threshold", type=click.FloatRange(0, 1), default=0.3, show_default=True, help="Least score taken.")
@multi_scale_option
def mark_data(
    source: Path, destination: Path, data_root: Path | None, unlabelled: bool, template: str, load_weights: Path,
    threshold: float, multi_scale: str | None,
) -> None:  # fmt: skip
    """Complete labels by a detector, as COCO json: landmarks for the faces of SOURCE that have none, or, with
    --unlabelled, the faces themselves."""
    from facekit.commands.mark import mark, write_marked
    from facekit.detector import Detector, Passes
    from facekit.engine.training.distill import pictures_without_labels
    from facekit.files import check_writable_folder
    from facekit.labels.formats import read_labels

    if destination.exists() and destination.samefile(source):
        raise click.UsageError(f"{destination} would be written over what it is made of: choose another name.")
    check_writable_folder(destination.parent)
    pictures = pictures_without_labels(source, "--unlabelled") if unlabelled else read_labels(source, data_root)
    detector = Detector.open(load_weights, template, passes=Passes(read_factors(multi_scale)))
    marked = mark(pictures, detector, threshold)
    write_marked(destination, marked, source if unlabelled and source.is_dir() else None)
    click.echo(f"Done: {destination}; {marked.text()} ({detector.protocol()}; score over {threshold:g})")
