"""facekit train, reproduce, plot, compress, priors, flops."""

from __future__ import annotations

from typing import Any

import click

from facekit.cli.options import finish, options_of
from facekit.commands import compress as compress_command
from facekit.commands import flops as flops_command
from facekit.commands import plot as plot_command
from facekit.commands import priors as priors_command
from facekit.commands import quantize as quantize_command
from facekit.commands import reproduce as reproduce_command
from facekit.commands import train as train_command
from facekit.engine.compress.options import CompressOptions
from facekit.engine.training.options import TrainOptions


@click.command()
@options_of(TrainOptions)
def train(**flags: Any) -> None:
    """Train or fine-tune a detector."""
    latest = train_command.train(**flags)
    if latest is not None:
        click.echo(f"Done: {latest}")


@click.command()
@options_of(reproduce_command.ReproduceOptions)
def reproduce(**flags: Any) -> None:
    """Run a training again by its run.json, and compare the weights; flags say where data lie that have moved."""
    click.echo(reproduce_command.reproduce(**flags))


@click.command()
@options_of(plot_command.PlotOptions)
def plot(**flags: Any) -> None:
    """Draw the course of trainings: folders of checkpoints, or their log.jsonl."""
    output = plot_command.plot(**flags)
    click.echo(f"{output}: {len(flags['runs'])} run(s)")


@click.command()
@options_of(CompressOptions)
def compress(**flags: Any) -> None:
    """Compress to INT8, sparse, or both; prints size and AP before and after."""
    done = compress_command.compress(**flags)
    click.echo(done.table)
    click.echo(f"Done: {done.checkpoint}, {done.checkpoint.with_name('model.xml')}, "
               f"{done.checkpoint.with_name('model.bin')}")  # fmt: skip


@click.command()
@options_of(quantize_command.QuantizeOptions)
def quantize(**flags: Any) -> None:
    """Round an exported .onnx, .xml or .tflite to INT8 without training; prints size, speed and AP of both."""
    done = quantize_command.quantize(**flags)
    click.echo(done.table)
    click.echo(f"Done: {', '.join(map(str, done.files))}")
    finish(done.losses)


@click.command()
@options_of(priors_command.PriorsOptions)
def priors(**flags: Any) -> None:
    """Choose prior sizes for a data set by clustering its faces; prints recall before and after."""
    click.echo(priors_command.priors(**flags).text())
    if flags["output"] is not None:
        click.echo(f"\nDone: {flags['output']}, without snapshot and metrics: weights of the old priors don't fit it.")


@click.command()
@options_of(flops_command.FlopsOptions)
def flops(**flags: Any) -> None:
    """Count parameters and FLOPs of a template's network: a name, template.yaml or work dir."""
    click.echo(flops_command.flops(**flags).table)
