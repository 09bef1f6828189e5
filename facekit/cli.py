"""The commands: parse, call, show errors. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facekit import __version__
from facekit.cli_data import data
from facekit.errors import FacekitError, Interrupted

if TYPE_CHECKING:
    from facekit.datasets.labels import PictureLabels
    from facekit.template import Template

FILE = click.Path(path_type=Path)
F = Callable[..., Any]


class _Screen(logging.Handler):
    """Log lines that don't tear a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        prefix = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        tqdm.write(prefix + record.getMessage(), file=sys.stderr)


def main(
    args: list[str] | None = None, prog_name: str | None = None, default_map: dict[str, Any] | None = None
) -> None:
    """Runs a command line and exits; a user's mistake is a message and exit code 1, never a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of pictures may be no UTF-8
    logger = logging.getLogger("facekit")
    logger.handlers = [_Screen()]
    logger.setLevel(logging.INFO)
    try:
        cli.main(args=args, prog_name=prog_name, default_map=default_map, standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except Interrupted as stop:
        click.echo(str(stop), err=True)
        sys.exit(stop.exit_code)
    except FacekitError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Stopped.", err=True)
        sys.exit(130)
    sys.exit(0)


def run_in_work_dir(command: str, work_dir: Path) -> None:
    """What a work dir's scripts call: the command with the work dir's template, snapshot and output folders."""
    snapshot = work_dir / "snapshot.pth"
    defaults: dict[str, Any] = {"template": str(work_dir / "template.yaml")}
    if command != "train" and snapshot.is_file():
        defaults["load_weights"] = str(snapshot)
    defaults["save_checkpoints_to"] = str(work_dir / ("compressed" if command == "compress" else "outputs"))
    defaults["save_model_to"] = str(work_dir / "export")
    main([command, *sys.argv[1:]], prog_name="python", default_map={command: defaults})


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="facekit")
def cli() -> None:
    """facekit: face detectors from template to deployment."""


def _template_option(function: F) -> F:
    return click.option("--template", required=True, help="Template name, template.yaml or work dir.")(function)


def _data_options(*names: str, required: bool = False) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        for name in reversed(names):
            files = name.endswith("files")
            what = "labels of any format" if files else "folders above their pictures [where the formats have them]"
            option = click.option(f"--{name}", required=required and files, help=f"Comma-separated {what}.")
            function = option(function)
        return function

    return decorate


def _load_template(name: str) -> Template:
    from facekit.template import find_template, load_template

    return load_template(find_template(name))


def _read_labels(ann_files: str | None, data_roots: str | None, what: str) -> list[PictureLabels]:
    """Pictures of all the comma-separated files, each with its own root."""
    if not ann_files:
        return []
    from facekit.datasets.formats import read_labels

    files = ann_files.split(",")
    roots: list[Path | None] = [Path(root) for root in data_roots.split(",")] if data_roots else [None] * len(files)
    if len(files) != len(roots):
        raise click.UsageError(
            f"--{what}-ann-files names {len(files)} files, --{what}-data-roots {len(roots)} folders: one a file."
        )
    return [picture for file, root in zip(files, roots, strict=True) for picture in read_labels(Path(file), root)]


@cli.command()
@click.argument("template")
@click.argument("work_dir", type=FILE)
@click.option("--snapshot", type=FILE, help="Weights to take instead of the published ones: .pth, or an IR's .xml.")
@click.option("--no-snapshot", is_flag=True, help="Make the work dir without weights.")
@click.option("--force", is_flag=True, help="Write into a folder that holds something else.")
def instantiate(template: str, work_dir: Path, snapshot: Path | None, no_snapshot: bool, force: bool) -> None:
    """Make a work dir of a template: its scripts and its snapshot."""
    from facekit.template import find_template
    from facekit.workdir import instantiate

    if snapshot and no_snapshot:
        raise click.UsageError("Give --snapshot or --no-snapshot, not both.")
    instantiate(find_template(template), work_dir, snapshot, no_snapshot, force)
    click.echo(f"{work_dir} is ready: train.py, eval.py, export.py, compress.py, visualize.py" + (
        "" if no_snapshot else ", snapshot.pth"))  # fmt: skip


@cli.command("import-weights")
@click.argument("source", type=FILE)
@_template_option
@click.option("--output", type=FILE, required=True, help="The snapshot.pth to write.")
def import_weights(source: Path, template: str, output: Path) -> None:
    """Turn other systems' weights into a snapshot: a .pth of theirs, or an Open Model Zoo IR (.xml with .bin)."""
    from facekit.checkpoint import save_checkpoint
    from facekit.import_weights import load_weights

    checkpoint = load_weights(source, _load_template(template))
    save_checkpoint(output, checkpoint)
    click.echo(f"{output}: {len(checkpoint.state_dict)} tensors of {source}, epoch {checkpoint.epoch}")


@cli.command()
@click.argument("template")
@click.option("--per-layer", is_flag=True, help="A table with a line a layer above the totals.")
@click.option("--input-size", metavar="WxH", help="Pixels of the picture [template's].")
def flops(template: str, per_layer: bool, input_size: str | None) -> None:
    """Count parameters and FLOPs of a template's network: a name, template.yaml or work dir."""
    from facekit.engine.flops import format_costs, parse_size, template_costs

    loaded = _load_template(template)
    try:
        size_hw = parse_size(input_size) if input_size is not None else loaded.input.size_hw
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--input-size") from error
    click.echo(format_costs(template_costs(loaded, size_hw), size_hw, per_layer))


@cli.command()
@_template_option
@_data_options("train-ann-files", "train-data-roots", required=True)
@_data_options("val-ann-files", "val-data-roots")
@click.option("--resume-from", type=FILE, help="Go on from this checkpoint, or the newest whole one of a folder; auto: "
              "of --save-checkpoints-to, or start anew where it has none.")  # fmt: skip
@click.option("--load-weights", type=FILE, help="Start at epoch 0 from these weights.")
@click.option("--from-scratch", is_flag=True, help="Start from random weights, not the template's ImageNet backbone.")
@click.option("--save-checkpoints-to", type=FILE, required=True, help="Folder for latest.pth, best.pth, epoch_N.pth.")
@click.option("--epochs", type=click.IntRange(min=1), help="The absolute last epoch [template's].")
@click.option("--batch-size", type=click.IntRange(min=1), help="Pictures a process [template's].")
@click.option("--gpu-num", type=click.IntRange(min=0), help="GPUs to use, 0 for the CPU [template's, if there].")
@click.option("--base-learning-rate", type=click.FloatRange(min=0, min_open=True),
              help="[template's]. Beyond the template's last epoch: the rate itself.")  # fmt: skip
@click.option("--tensorboard-dir", type=FILE, help="Folder for TensorBoard scalars and pictures.")
@click.option("--val-interval", type=click.IntRange(min=1), default=1, show_default=True, help="Epochs between tests.")
@click.option("--checkpoint-interval", type=click.IntRange(min=1), help="Iterations between checkpoints [an epoch].")
@click.option("--workers", type=click.IntRange(min=0), default=2, show_default=True, help="Processes that read data.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--max-iterations", type=click.IntRange(min=1), help="Cut each epoch short (for trying things out).")
@click.option("--precision", type=click.Choice(("auto", "fp32", "bf16", "fp16")), default="auto", show_default=True,
              help="Of the network; auto: 16 bits where the hardware is faster with them.")  # fmt: skip
@click.option("--compile", is_flag=True, help="Compile the network first: a minute or so, then faster steps.")
@click.option("--cache", type=click.Choice(("ram", "disk")), help="Keep decoded pictures for the next epochs.")
@click.option("--cache-limit", type=click.FloatRange(min=0, min_open=True), default=4.0, show_default=True,
              help="GiB of --cache a process; pictures beyond are decoded each time.")  # fmt: skip
def train(
    template: str, train_ann_files: str, train_data_roots: str, val_ann_files: str | None, val_data_roots: str | None,
    gpu_num: int | None, **flags: Any,
) -> None:  # fmt: skip
    """Train or fine-tune a detector."""
    from facekit.engine.launch import launch_over_gpus
    from facekit.engine.train import TrainOptions
    from facekit.engine.train import train as run

    loaded = _load_template(template)
    if launch_over_gpus(loaded.gpu_num if gpu_num is None else gpu_num, asked=gpu_num is not None):
        return
    train_pictures = _read_labels(train_ann_files, train_data_roots, "train")
    val_pictures = _read_labels(val_ann_files, val_data_roots, "val")
    options = TrainOptions(
        train_ann_files=train_ann_files, train_data_roots=train_data_roots, val_ann_files=val_ann_files,
        val_data_roots=val_data_roots, **flags,
    )  # fmt: skip
    latest = run(loaded, train_pictures, val_pictures, options)
    if latest is not None:
        click.echo(f"Done: {latest}")


@cli.command()
@click.argument("record", type=FILE)
@click.option("--save-checkpoints-to", type=FILE, help="Folder for the checkpoints [reproduced, beside the record].")
@_data_options("train-ann-files", "train-data-roots", "val-ann-files", "val-data-roots")
@click.option("--force", is_flag=True, help="Run it with other data or weights, too.")
def reproduce(record: Path, save_checkpoints_to: Path | None, force: bool, **moved: str | None) -> None:
    """Run a training again by its run.json, and compare the weights; flags say where data lie that have moved."""
    from facekit.engine.launch import launch_over_gpus
    from facekit.engine.reproduce import recorded_options
    from facekit.engine.reproduce import reproduce as run
    from facekit.engine.run_record import read_record

    recorded = read_record(record)
    changes: dict[str, Any] = {name: value for name, value in moved.items() if value is not None}
    folder = save_checkpoints_to or record.parent / "reproduced"
    options = recorded_options(recorded, record, save_checkpoints_to=folder, tensorboard_dir=None, **changes)
    if launch_over_gpus(recorded.processes_on_gpus(), asked=False):
        return
    train_pictures = _read_labels(options.train_ann_files, options.train_data_roots, "train")
    val_pictures = _read_labels(options.val_ann_files, options.val_data_roots, "val")
    click.echo(run(recorded, record, options, train_pictures, val_pictures, force))


@cli.command()
@click.argument("runs", nargs=-1, required=True, type=FILE)
@click.option("--output", type=FILE, required=True, help="The .svg to write.")
def plot(runs: tuple[Path, ...], output: Path) -> None:
    """Draw the course of trainings: folders of checkpoints, or their log.jsonl."""
    from facekit.pages.curves import plot_runs

    plot_runs(runs, output)
    click.echo(f"{output}: {len(runs)} run(s)")


@cli.command("eval")
@_template_option
@click.option("--load-weights", type=FILE, required=True, help=".pth, .onnx, .xml or .bin.")
@_data_options("test-ann-files", "test-data-roots")
@click.option("--scale", default="template", show_default=True,
              help="template; origin (pictures' own size); 640 or max:N (longest side); vga (fit into 640x640, "
                   "padded to it); WxH (stretched).")  # fmt: skip
@click.option("--flip", is_flag=True, help="Look at each picture mirrored too, and merge by weighted box fusion.")
@click.option("--multi-scale", is_flag=False, flag_value="0.5,1,2", metavar="[FACTORS]",
              help="Look at each picture at these multiples of --scale, and merge; alone: 0.5,1,2.")  # fmt: skip
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
    from facekit.detector import Passes
    from facekit.engine.measure import EvalOptions, measure
    from facekit.files import write_text
    from facekit.template import at_scale, with_thresholds

    if not test_ann_files and not flags["wider_dir"]:
        raise click.UsageError(
            "Nothing to measure on: give --test-ann-files (with --test-data-roots), --wider-dir, or both."
        )
    try:
        factors = tuple(float(factor) for factor in ("1" if multi_scale is None else multi_scale).split(","))
    except ValueError as error:
        raise click.UsageError(f"--multi-scale: expected factors like 0.5,1,2, got {multi_scale!r}.") from error
    loaded = at_scale(_load_template(template), flags["scale"])
    loaded = with_thresholds(loaded, score_threshold, nms_threshold, max_detections)
    options = EvalOptions(passes=Passes(factors, flip), **flags)
    table, record = measure(loaded, _read_labels(test_ann_files, test_data_roots, "test"), options)
    if options.report is not None:
        from facekit.pages.evaluation import evaluation_page

        write_text(options.report, evaluation_page(record))
    click.echo(table)


@cli.command("eval-predictions")
@click.argument("predictions", type=FILE)
@click.option("--wider-gt", type=FILE, required=True, help="Folder with the four official .mat files.")
def eval_predictions(predictions: Path, wider_gt: Path) -> None:
    """Score WIDER result files (a folder of EVENT/NAME.txt, or an .npz) of anybody's detector."""
    from facekit.metrics.wider import read_wider_ground_truth, wider_ap
    from facekit.metrics.wider_files import read_predictions

    ground_truth = read_wider_ground_truth(wider_gt)
    figures = wider_ap(read_predictions(predictions), ground_truth)
    for name, value in figures.items():
        click.echo(f"{name:<7} {value:.6f}")
    click.echo(f"protocol: official WIDER FACE, IoU 0.5, {len(ground_truth.names)} pictures; scores as predicted")


@cli.command("export")
@_template_option
@click.option("--load-weights", type=FILE, required=True, help="Weights to export.")
@click.option("--save-model-to", type=FILE, required=True, help="Folder for model.onnx, model.xml, model.bin.")
@click.option("--onnx/--no-onnx", default=True, show_default=True)
@click.option("--openvino/--no-openvino", default=True, show_default=True)
def export(template: str, load_weights: Path, save_model_to: Path, onnx: bool, openvino: bool) -> None:
    """Export to ONNX and OpenVINO, each compared with PyTorch before it is kept."""
    from facekit.export.run import export_weights

    for path in export_weights(load_weights, _load_template(template), save_model_to, onnx, openvino):
        click.echo(f"{path} ({path.stat().st_size / 1024:.1f} KiB)")


@cli.command()
@_template_option
@click.option("--load-weights", type=FILE, required=True, help="Float weights.")
@_data_options("train-ann-files", "train-data-roots", required=True)
@_data_options("val-ann-files", "val-data-roots")
@click.option(
    "--save-checkpoints-to", type=FILE, required=True, help="Folder for compressed.pth, model.xml, model.bin."
)
@click.option("--nncf-quantization", "quantization", is_flag=True, help="INT8: calibrate, then fine-tune.")
@click.option("--nncf-sparsity", "sparsity", is_flag=True, help="Prune to the template's ratio, then fine-tune.")
@click.option("--batch-size", type=click.IntRange(min=1), help="Pictures a step [template's].")
@click.option("--passes", type=click.IntRange(min=0), help="Fine-tuning passes over the training set [template's].")
@click.option("--workers", type=click.IntRange(min=0), default=2, show_default=True, help="Processes that read data.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--max-iterations", type=click.IntRange(min=1), help="Cut each pass short (for trying things out).")
def compress(
    template: str, train_ann_files: str, train_data_roots: str, val_ann_files: str | None, val_data_roots: str | None,
    **flags: Any,
) -> None:  # fmt: skip
    """Compress to INT8, sparse, or both; prints size and AP before and after."""
    from facekit.compress.run import CompressOptions, format_footprints
    from facekit.compress.run import compress as run

    loaded = _load_template(template)
    train_pictures = _read_labels(train_ann_files, train_data_roots, "train")
    val_pictures = _read_labels(val_ann_files, val_data_roots, "val")
    path, rows = run(loaded, train_pictures, val_pictures, CompressOptions(**flags))
    click.echo(format_footprints(rows, f"{len(val_pictures)} pictures; {loaded.protocol()}"))
    click.echo(f"Done: {path}, {path.with_name('model.xml')}, {path.with_name('model.bin')}")


@cli.command()
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


@cli.command()
@_template_option
@click.option("--load-weights", type=FILE, required=True, help=".pth, .onnx, .xml or .bin.")
@click.option("--video", help="Camera number, video file or URL.")
@click.option("--images", help="Picture, folder, or quoted glob.")
@click.option("--output", type=FILE, help="File or folder to write; without it a window, where there is a display.")
@click.option("--threshold", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="Least score shown.")
def visualize(
    template: str, load_weights: Path, video: str | None, images: str | None, output: Path | None, threshold: float
) -> None:
    """Draw boxes, scores and landmarks on pictures or video."""
    from facekit.detector import Detector
    from facekit.visualize import list_pictures, visualize_pictures, visualize_video

    if (video is None) == (images is None):
        raise click.UsageError("Give either --video or --images.")
    pictures = list_pictures(images) if images is not None else []
    detector = Detector.open(load_weights, _load_template(template))
    if video is not None:
        frames, fps = visualize_video(detector, video, output, threshold)
        click.echo(f"{frames} frames, {fps:.1f} frames a second, reading and drawing included")
    else:
        written = visualize_pictures(detector, pictures, output, threshold)
        if written:
            click.echo(f"{len(written)} picture(s) written; the last: {written[-1]}")


cli.add_command(data)
