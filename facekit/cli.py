"""The commands: parse, call, show errors. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facekit import __version__
from facekit.errors import FacekitError, Interrupted

if TYPE_CHECKING:
    from facekit.datasets.labels import PictureLabels
    from facekit.template import Template

FILE = click.Path(path_type=Path)
FORMATS_WRITTEN = ("coco", "labelv2", "wider", "voc", "voc-wider", "yolo", "yolo-face")  # of datasets.formats
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
@click.option("--resume-from", type=FILE, help="Go on from this checkpoint, or the newest whole one of a folder.")
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
              help="template; origin (pictures' own size); max:N (longest side); WxH (stretched).")  # fmt: skip
@click.option("--save-metrics-to", type=FILE, help="metrics.yaml to write.")
@click.option("--save-output-to", type=FILE, help="Folder for pictures with boxes and WIDER result files.")
@click.option("--wider-dir", type=FILE, help="Folder with WIDER_val/images and ground_truth/.")
@click.option("--wider-gt", type=FILE, help="Folder with the four .mat files, if elsewhere.")
@click.option("--threshold", type=click.FloatRange(0, 1), default=0.5, show_default=True,
              help="Score of the boxes that --save-output-to draws; figures use the template's.")  # fmt: skip
def evaluate(
    template: str, load_weights: Path, test_ann_files: str | None, test_data_roots: str | None, scale: str,
    save_metrics_to: Path | None, save_output_to: Path | None, wider_dir: Path | None, wider_gt: Path | None,
    threshold: float,
) -> None:  # fmt: skip
    """Measure weights: COCO AP and AP over 64 px on labelled pictures, WIDER FACE easy/medium/hard."""
    from facekit.engine.measure import EvalOptions, measure
    from facekit.template import at_scale

    if not test_ann_files and not wider_dir:
        raise click.UsageError(
            "Nothing to measure on: give --test-ann-files (with --test-data-roots), --wider-dir, or both."
        )
    options = EvalOptions(load_weights, wider_dir, wider_gt, save_metrics_to, save_output_to, threshold)
    loaded = at_scale(_load_template(template), scale)
    click.echo(measure(loaded, _read_labels(test_ann_files, test_data_roots, "test"), options))


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


@cli.group()
def data() -> None:
    """Labels: check, convert, merge, look at."""


@data.command("check")
@click.argument("labels", type=FILE)
@click.option("--data-root", type=FILE, help="Folder above the pictures [where the format has it].")
@click.option("--against", type=FILE, help="Labels of a set that must share no picture with this one.")
@click.option("--against-root", type=FILE, help="Folder above that set's pictures [the same].")
@click.option("--fix", type=FILE, metavar="DST", help="COCO json to write: the labels without what is wrong in them.")
@click.option("--json", "json_file", type=FILE, metavar="FILE", help="Every finding, for programs.")
@click.option("--strict", is_flag=True, help="Exit with 1 for warnings too.")
@click.option("--workers", type=click.IntRange(min=0), default=2, show_default=True, help="Processes that read data.")
def check_data(
    labels: Path, data_root: Path | None, against: Path | None, against_root: Path | None, fix: Path | None,
    json_file: Path | None, strict: bool, workers: int,
) -> None:  # fmt: skip
    """Look for defects in labels and pictures; exits with 1 where there are errors."""
    from facekit.datasets.check import check
    from facekit.datasets.check_report import format_report, write_json
    from facekit.datasets.clean import check_destinations, clean, write_cleaned
    from facekit.datasets.formats import read_labels

    check_destinations(fix, json_file, [labels, against])
    pictures = read_labels(labels, data_root, as_written=True)
    others = read_labels(against, against_root, as_written=True) if against else []
    checked = check(pictures, others, workers)
    click.echo(format_report(checked))
    if json_file:
        write_json(checked, json_file)
    if fix:
        cleaned = clean(checked)
        root = write_cleaned(cleaned, fix)
        click.echo("\n".join(["", *cleaned.lines(), f"Done: {fix}, for the data root {root}"]))
    if checked.has("error") or (strict and checked.has("warning")):
        sys.exit(1)


def _convert_options(function: F) -> F:
    options = (
        click.option("--to", "format_name", type=click.Choice(FORMATS_WRITTEN), required=True, help="Format to write."),
        click.option("--min-size", type=click.FloatRange(min=0), default=0, help="Leave out faces smaller, pixels."),
        click.option("--drop-invalid", is_flag=True, help="Leave out faces that WIDER's attributes call invalid."),
        click.option("--subset", type=FILE, help="Text file with the pictures to keep, a name a line."),
        click.option("--split", metavar="A:B[:C]", help="Shares of train, val and test, such as 0.9:0.1."),
        click.option("--seed", type=int, default=0, show_default=True, help="Of the split."),
        click.option("--pictures", type=click.Choice(("none", "copy", "link")),
                     help="What to do with them [copy into yolo, yolo-face, voc, voc-wider; else none]."),
        click.option("--force", is_flag=True, help="Write over a file, or into a folder that holds something else."),
    )  # fmt: skip
    for option in reversed(options):
        function = option(function)
    return function


def _convert(
    sources: list[tuple[Path, Path | None]], format_name: str, destination: Path, flags: dict[str, Any]
) -> None:
    from facekit.datasets.convert import ConvertOptions, convert, parse_split

    try:
        flags["split"] = parse_split(flags["split"]) if flags["split"] else ()
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--split") from error
    click.echo(convert({"train": sources}, format_name, destination, ConvertOptions(**flags)).table())


@data.command("convert")
@click.argument("labels", type=FILE)
@click.argument("destination", type=FILE)
@click.option("--data-root", type=FILE, help="Folder above the pictures [where the format has it].")
@_convert_options
def convert_data(labels: Path, destination: Path, data_root: Path | None, format_name: str, **flags: Any) -> None:
    """Write LABELS, of any format, in another one."""
    _convert([(labels, data_root)], format_name, destination, flags)


@data.command("merge")
@click.argument("labels", nargs=-1, required=True, type=FILE)
@click.argument("destination", type=FILE)
@click.option("--data-roots", help="Comma-separated folders above their pictures [where the formats have them].")
@_convert_options
def merge_data(
    labels: tuple[Path, ...], destination: Path, data_roots: str | None, format_name: str, **flags: Any
) -> None:
    """Write several LABELS, of any formats, as one set; pictures are named from the folder above all of them."""
    roots: list[Path | None] = [Path(root) for root in data_roots.split(",")] if data_roots else [None] * len(labels)
    if len(roots) != len(labels):
        raise click.UsageError(f"{len(labels)} labels and --data-roots with {len(roots)} folders: one a set.")
    _convert(list(zip(labels, roots, strict=True)), format_name, destination, flags)


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
