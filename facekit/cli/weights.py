"""facekit instantiate, import-weights, export."""

from __future__ import annotations

from typing import Any

import click

from facekit.cli.options import options_of
from facekit.commands import export as export_command
from facekit.commands import import_weights as import_command
from facekit.commands import instantiate as instantiate_command


@click.command()
@options_of(instantiate_command.InstantiateOptions)
def instantiate(**flags: Any) -> None:
    """Make a work dir of a template: its scripts and its snapshot."""
    snapshot = instantiate_command.instantiate(**flags)
    scripts = ", ".join(f"{name}.py" for name in instantiate_command.SCRIPTS)
    click.echo(f"{flags['work_dir']} is ready: {scripts}" + ("" if snapshot is None else ", snapshot.pth"))


@click.command("import-weights")
@options_of(import_command.ImportOptions)
def import_weights(**flags: Any) -> None:
    """Turn weights of any kind into a snapshot.

    They may be other systems' .pth, an Open Model Zoo IR (.xml with .bin), or a checkpoint of facekit's own, of which
    optimiser and all else that only training needs are left out.
    """
    done = import_command.import_weights(**flags)
    click.echo(f"{done.path}: {done.tensors} tensors of {flags['source']}, epoch {done.epoch}")


@click.command()
@options_of(export_command.ExportOptions)
def export(**flags: Any) -> None:
    """Export to ONNX and OpenVINO, each compared with PyTorch before it is kept."""
    for path in export_command.export(**flags):
        click.echo(f"{path} ({path.stat().st_size / 1024:.1f} KiB)")
