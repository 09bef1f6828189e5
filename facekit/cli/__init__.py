"""The commands: parse, call, show errors. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import io
import logging
import sys
from pathlib import Path
from typing import Any

import click

from facekit import __version__
from facekit.cli.data import data, priors
from facekit.cli.evaluation import eval_predictions, evaluate, report
from facekit.cli.options import FILE, data_options, read_label_files, read_template, template_option
from facekit.cli.training import plot, reproduce, train
from facekit.cli.visualize import visualize
from facekit.errors import FacekitError, Interrupted


class _Screen(logging.Handler):
    """Log lines that don't tear a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        prefix = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        tqdm.write(prefix + record.getMessage(), file=sys.stderr)


def main(
    args: list[str] | None = None, prog_name: str | None = None, default_map: dict[str, Any] | None = None
) -> None:
    """Runs a command line of facekit's and exits."""
    run_command(cli, args, prog_name, default_map)


def run_command(
    command: click.Command,
    args: list[str] | None = None,
    prog_name: str | None = None,
    default_map: dict[str, Any] | None = None,
) -> None:
    """Runs it and exits; a user's mistake is a message and exit code 1, never a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of pictures may be no UTF-8
    logger = logging.getLogger("facekit")
    logger.handlers = [_Screen()]
    logger.setLevel(logging.INFO)
    try:
        command.main(args=args, prog_name=prog_name, default_map=default_map, standalone_mode=False)
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


@cli.command()
@click.argument("template")
@click.argument("work_dir", type=FILE)
@click.option("--snapshot", type=FILE, help="Weights to take instead of the published ones: .pth, or an IR's .xml.")
@click.option("--no-snapshot", is_flag=True, help="Make the work dir without weights.")
@click.option("--force", is_flag=True, help="Write into a folder that holds something else.")
def instantiate(template: str, work_dir: Path, snapshot: Path | None, no_snapshot: bool, force: bool) -> None:
    """Make a work dir of a template: its scripts and its snapshot."""
    from facekit.commands.instantiate import instantiate
    from facekit.template import find_template

    if snapshot and no_snapshot:
        raise click.UsageError("Give --snapshot or --no-snapshot, not both.")
    instantiate(find_template(template), work_dir, snapshot, no_snapshot, force)
    click.echo(f"{work_dir} is ready: train.py, eval.py, export.py, compress.py, visualize.py" + (
        "" if no_snapshot else ", snapshot.pth"))  # fmt: skip


@cli.command("import-weights")
@click.argument("source", type=FILE)
@template_option
@click.option("--output", type=FILE, required=True, help="The snapshot.pth to write.")
def import_weights(source: Path, template: str, output: Path) -> None:
    """Turn weights into a snapshot: other systems' .pth, an Open Model Zoo IR (.xml with .bin), or a checkpoint of
    facekit's own, of which optimiser and all else that only training needs are left out."""
    from facekit.weights.checkpoint import save_checkpoint, weights_alone
    from facekit.weights.load import load_weights

    checkpoint = load_weights(source, read_template(template))
    save_checkpoint(output, weights_alone(checkpoint))
    click.echo(f"{output}: {len(checkpoint.state_dict)} tensors of {source}, epoch {checkpoint.epoch}")


@cli.command()
@click.argument("template")
@click.option("--per-layer", is_flag=True, help="A table with a line a layer above the totals.")
@click.option("--input-size", metavar="WxH", help="Pixels of the picture [template's].")
def flops(template: str, per_layer: bool, input_size: str | None) -> None:
    """Count parameters and FLOPs of a template's network: a name, template.yaml or work dir."""
    from facekit.commands.flops import format_costs, parse_size, template_costs

    loaded = read_template(template)
    try:
        size_hw = parse_size(input_size) if input_size is not None else loaded.input.size_hw
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--input-size") from error
    click.echo(format_costs(template_costs(loaded, size_hw), size_hw, per_layer))


@cli.command("export")
@template_option
@click.option("--load-weights", type=FILE, required=True, help="Weights to export.")
@click.option("--save-model-to", type=FILE, required=True, help="Folder for model.onnx, model.xml, model.bin.")
@click.option("--onnx/--no-onnx", default=True, show_default=True)
@click.option("--openvino/--no-openvino", default=True, show_default=True)
def export(template: str, load_weights: Path, save_model_to: Path, onnx: bool, openvino: bool) -> None:
    """Export to ONNX and OpenVINO, each compared with PyTorch before it is kept."""
    from facekit.commands.export import export_weights

    for path in export_weights(load_weights, read_template(template), save_model_to, onnx, openvino):
        click.echo(f"{path} ({path.stat().st_size / 1024:.1f} KiB)")


@cli.command()
@template_option
@click.option("--load-weights", type=FILE, required=True, help="Float weights.")
@data_options("train-ann-files", "train-data-roots", required=True)
@data_options("val-ann-files", "val-data-roots")
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
    from facekit.engine.compress.run import CompressOptions, format_footprints
    from facekit.engine.compress.run import compress as run

    loaded = read_template(template)
    train_pictures = read_label_files(train_ann_files, train_data_roots, "train")
    val_pictures = read_label_files(val_ann_files, val_data_roots, "val")
    path, rows = run(loaded, train_pictures, val_pictures, CompressOptions(**flags))
    click.echo(format_footprints(rows, f"{len(val_pictures)} pictures; {loaded.protocol()}"))
    click.echo(f"Done: {path}, {path.with_name('model.xml')}, {path.with_name('model.bin')}")


for command in (train, reproduce, plot, evaluate, eval_predictions, report, data, priors, visualize):
    cli.add_command(command)
