"""facekit train, reproduce, plot."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facekit.cli.options import FILE, F, data_options, read_label_files, read_template, template_option

if TYPE_CHECKING:
    from facekit.engine.training.presets import Preset
    from facekit.labels.picture_labels import PictureLabels
    from facekit.template import Template


def _teacher_options(function: F) -> F:
    for name, what in (
        ("distill-pictures", "Pictures for the teacher to mark, too: a folder, or labels, which are passed over."),
        ("teacher-template", "The teacher's: name, template.yaml or work dir."),
        ("teacher", "Weights of a detector to learn from: landmarks where labels have none, and scores."),
    ):
        function = click.option(f"--{name}", type=FILE, help=what)(function)
    return function


def _read_training(ann_files: str | None, data_roots: str | None, distill_pictures: Path | None) -> list[PictureLabels]:
    """The labelled pictures, and those that a teacher is to mark."""
    if ann_files is None and distill_pictures is None:
        raise click.UsageError("Nothing to train on: give --train-ann-files, or --distill-pictures with a --teacher.")
    pictures = read_label_files(ann_files, data_roots, "train")
    if distill_pictures is not None:
        from facekit.engine.training.distill import pictures_without_labels

        pictures += pictures_without_labels(distill_pictures)
    return pictures


@click.command()
@template_option
@data_options("train-ann-files", "train-data-roots")
@data_options("val-ann-files", "val-data-roots")
@_teacher_options
@click.option("--teacher-weight", type=click.FloatRange(min=0), default=1.0, show_default=True,
              help="Of the loss on the teacher's scores; 0: labels alone.")  # fmt: skip
@click.option("--resume-from", type=FILE, help="Go on from this checkpoint, or the newest whole one of a folder; auto: "
              "of --save-checkpoints-to, or start anew where it has none.")  # fmt: skip
@click.option("--load-weights", type=FILE, help="Start at epoch 0 from these weights.")
@click.option("--preset", type=click.Choice(("fine-tune", "scratch")),
              help="Choose what no flag gives by the data set's size, and say why.")  # fmt: skip
@click.option("--from-scratch", is_flag=True, help="Start from random weights, not the template's ImageNet backbone.")
@click.option("--save-checkpoints-to", type=FILE, required=True, help="Folder for latest.pth, best.pth, epoch_N.pth.")
@click.option("--epochs", type=click.IntRange(min=1), help="The absolute last epoch [template's].")
@click.option("--batch-size", type=click.IntRange(min=1), help="Pictures a process [template's].")
@click.option("--gpu-num", type=click.IntRange(min=0), help="GPUs to use, 0 for the CPU [template's, if there].")
@click.option("--base-learning-rate", type=click.FloatRange(min=0, min_open=True),
              help="[template's]. Beyond the template's last epoch: the rate itself.")  # fmt: skip
@click.option("--tensorboard-dir", type=FILE, help="Folder for TensorBoard scalars and pictures.")
@click.option("--val-interval", type=click.IntRange(min=1), help="Epochs between tests [1, or the preset's].")
@click.option("--checkpoint-interval", type=click.IntRange(min=1), help="Iterations between checkpoints [an epoch].")
@click.option("--workers", type=click.IntRange(min=0), default=2, show_default=True, help="Processes that read data.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--max-iterations", type=click.IntRange(min=1), help="Cut each epoch short (for trying things out).")
@click.option("--precision", type=click.Choice(("auto", "fp32", "bf16", "fp16")), default="auto", show_default=True,
              help="Of the network; auto: 16 bits where the hardware is faster with them.")  # fmt: skip
@click.option("--compile", is_flag=True, help="Compile the network first, for GPUs; try what it gives.")
@click.option("--cache", type=click.Choice(("ram", "disk")), help="Keep decoded pictures for the next epochs.")
@click.option("--cache-limit", type=click.FloatRange(min=0, min_open=True), default=4.0, show_default=True,
              help="GiB of --cache a process; pictures beyond are decoded each time.")  # fmt: skip
def train(
    template: str, train_ann_files: str | None, train_data_roots: str | None, val_ann_files: str | None,
    val_data_roots: str | None, teacher_template: Path | None, gpu_num: int | None, **flags: Any,
) -> None:  # fmt: skip
    """Train or fine-tune a detector."""
    from facekit.engine.training.options import TrainOptions
    from facekit.engine.training.train import train as run
    from facekit.machine.launch import launch_over_gpus
    from facekit.template import find_template

    loaded = read_template(template)
    if launch_over_gpus(loaded.gpu_num if gpu_num is None else gpu_num, asked=gpu_num is not None):
        return
    train_pictures = _read_training(train_ann_files, train_data_roots, flags["distill_pictures"])
    val_pictures = read_label_files(val_ann_files, val_data_roots, "val")
    if flags["preset"]:
        preset = _adapt(loaded, train_pictures, val_pictures, flags)
        loaded, flags["val_interval"] = preset.template, preset.val_interval
    options = TrainOptions(
        teacher_template=None if teacher_template is None else find_template(str(teacher_template)),
        train_ann_files=train_ann_files, train_data_roots=train_data_roots, val_ann_files=val_ann_files,
        val_data_roots=val_data_roots, **flags,
    )  # fmt: skip
    latest = run(loaded, train_pictures, val_pictures, options)
    if latest is not None:
        click.echo(f"Done: {latest}")


def _adapt(
    template: Template, train_pictures: list[PictureLabels], val_pictures: list[PictureLabels], flags: dict[str, Any]
) -> Preset:
    from facekit.engine.training.presets import Given, adapt

    if flags["preset"] == "fine-tune" and not (flags["load_weights"] or flags["resume_from"]):
        raise click.UsageError(
            "--preset fine-tune needs weights: give --load-weights, such as a work dir's snapshot.pth."
        )
    if flags["preset"] == "scratch" and flags["load_weights"]:
        raise click.UsageError("--preset scratch starts without weights: leave --load-weights out, or give fine-tune.")
    given = Given(**{field.name: flags[field.name] for field in dataclasses.fields(Given)})
    return adapt(flags["preset"], template, train_pictures, val_pictures, given)


@click.command()
@click.argument("record", type=FILE)
@click.option("--save-checkpoints-to", type=FILE, help="Folder for the checkpoints [reproduced, beside the record].")
@data_options("train-ann-files", "train-data-roots", "val-ann-files", "val-data-roots")
@_teacher_options
@click.option("--force", is_flag=True, help="Run it with other data or weights, too.")
def reproduce(record: Path, save_checkpoints_to: Path | None, force: bool, **moved: str | Path | None) -> None:
    """Run a training again by its run.json, and compare the weights; flags say where data lie that have moved."""
    from facekit.commands.reproduce import recorded_options
    from facekit.commands.reproduce import reproduce as run
    from facekit.machine.launch import launch_over_gpus
    from facekit.records.run import read_record
    from facekit.template import find_template

    recorded = read_record(record)
    if moved["teacher_template"] is not None:
        moved["teacher_template"] = find_template(str(moved["teacher_template"]))
    changes: dict[str, Any] = {name: value for name, value in moved.items() if value is not None}
    folder = save_checkpoints_to or record.parent / "reproduced"
    options = recorded_options(recorded, record, save_checkpoints_to=folder, tensorboard_dir=None, **changes)
    if launch_over_gpus(recorded.processes_on_gpus(), asked=False):
        return
    train_pictures = _read_training(options.train_ann_files, options.train_data_roots, options.distill_pictures)
    val_pictures = read_label_files(options.val_ann_files, options.val_data_roots, "val")
    click.echo(run(recorded, record, options, train_pictures, val_pictures, force))


@click.command()
@click.argument("runs", nargs=-1, required=True, type=FILE)
@click.option("--output", type=FILE, required=True, help="The .svg to write.")
def plot(runs: tuple[Path, ...], output: Path) -> None:
    """Draw the course of trainings: folders of checkpoints, or their log.jsonl."""
    from facekit.pages.curves import plot_runs

    plot_runs(runs, output)
    click.echo(f"{output}: {len(runs)} run(s)")
