"""facekit eval, eval-predictions, report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from facekit.cli.options import (
    FILE,
    data_options,
    multi_scale_option,
    read_factors,
    read_label_files,
    read_template,
    template_option,
)


@click.command("eval")
@template_option
@click.option("--load-weights", type=FILE, required=True, help=".pth, .onnx, .xml or .bin.")
@data_options("test-ann-files", "test-data-roots")
@click.option("--scale", default="template", show_default=True,
              help="template; origin (pictures' own size); 640 or max:N (longest side); vga (fit into 640x640, "
                   "padded to it); WxH (stretched).")  # fmt: skip
@click.option("--flip", is_flag=True, help="Look at each picture mirrored too, and merge by weighted box fusion.")
@multi_scale_option
@click.option("--score-threshold", type=click.FloatRange(0, 1), help="Least score of a detection [template's].")
@click.option("--nms-threshold", type=click.FloatRange(0, 1), help="IoU over which NMS drops a box [template's].")
@click.option("--max-detections", type=click.IntRange(min=1), help="Boxes kept a picture [template's].")
@click.option("--batch-size", type=click.IntRange(1, 256), default=1, show_default=True,
              help="Pictures that go through the network together, where they have one size.")  # fmt: skip
@click.option("--save-metrics-to", type=FILE, help="metrics.yaml to write.")
@click.option("--report", type=FILE, help="Page to write: report.html, with curves and the worst mistakes.")
@click.option("--save-output-to", type=FILE, help="Folder for pictures with boxes and WIDER result files.")
@click.option("--save-predictions", type=FILE, help="Folder for WIDER result files: EVENT/NAME.txt, to hand in.")
@click.option("--wider-dir", type=FILE, help="Folder with WIDER_val/images and ground_truth/.")
@click.option("--wider-gt", type=FILE, help="Folder with the four .mat files, if elsewhere.")
@click.option("--threshold", type=click.FloatRange(0, 1), default=0.5, show_default=True,
              help="Score of the boxes that --save-output-to draws; figures use the template's.")  # fmt: skip
def evaluate(
    template: str, test_ann_files: str | None, test_data_roots: str | None, flip: bool, multi_scale: str | None,
    score_threshold: float | None, nms_threshold: float | None, max_detections: int | None, **flags: Any,
) -> None:  # fmt: skip
    """Measure weights: COCO AP and AP over 64 px on labelled pictures, WIDER FACE easy/medium/hard."""
    from facekit.commands.evaluate import EvalOptions, measure
    from facekit.detector import Passes
    from facekit.files import write_text
    from facekit.template import at_scale, with_thresholds

    if not test_ann_files and not flags["wider_dir"]:
        raise click.UsageError(
            "Nothing to measure on: give --test-ann-files (with --test-data-roots), --wider-dir, or both."
        )
    own = read_template(template)
    loaded = with_thresholds(at_scale(own, flags["scale"]), score_threshold, nms_threshold, max_detections)
    options = EvalOptions(passes=Passes(read_factors(multi_scale), flip), published_protocol=own.protocol(), **flags)
    measured = measure(loaded, read_label_files(test_ann_files, test_data_roots, "test"), options)
    if measured is None:
        return
    table, record = measured
    if options.report is not None:
        from facekit.pages.evaluation import evaluation_page

        write_text(options.report, evaluation_page(record))
    click.echo(table)


@click.command("eval-predictions")
@click.argument("predictions", type=FILE)
@click.option("--wider-gt", type=FILE, required=True, help="Folder with the four official .mat files.")
def eval_predictions(predictions: Path, wider_gt: Path) -> None:
    """Score WIDER result files (a folder of EVENT/NAME.txt, or an .npz) of anybody's detector."""
    from facekit.metrics.wider import read_wider_ground_truth, wider_ap
    from facekit.results.wider import read_predictions

    ground_truth = read_wider_ground_truth(wider_gt)
    figures = wider_ap(read_predictions(predictions), ground_truth)
    for name, value in figures.items():
        click.echo(f"{name:<7} {value:.6f}")
    click.echo(f"protocol: official WIDER FACE, IoU 0.5, {len(ground_truth.names)} pictures; scores as predicted")


@click.command()
@click.argument("reports", nargs=-1, required=True, type=FILE)
@click.option("--output", type=FILE, required=True, help="The page to write.")
def report(reports: tuple[Path, ...], output: Path) -> None:
    """Lay the REPORTS that evaluations wrote beside each other on one page."""
    from facekit.files import write_text
    from facekit.pages.comparison import comparison_page, run_names
    from facekit.pages.evaluation import read_record

    if output.resolve() in {path.resolve() for path in reports}:
        raise click.UsageError(f"--output {output} is one of the reports. Choose another file.")
    records = [read_record(path) for path in reports]
    write_text(output, comparison_page(records, run_names(records, [path.stem for path in reports])))
    click.echo(f"Done: {output}")
