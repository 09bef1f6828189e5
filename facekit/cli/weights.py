"""facekit instantiate, import-weights, export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from facekit.cli.options import finish, options_of
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


def _list_formats(context: click.Context, _: click.Parameter, is_asked: bool) -> None:
    if not is_asked or context.resilient_parsing:
        return
    rows = export_command.export_formats()
    width = max(len(row.name) for row in rows)
    for row in rows:
        state = "installed" if not row.missing else f"missing {', '.join(row.missing)}: {row.install}"
        size = "" if row.any_size else "; one size a file"
        runs = "" if row.runs else "; does not run here"
        click.echo(f"{row.name:<{width}}  {', '.join(row.files)}{size}{runs}; {state}")
    context.exit()


@click.command()
@click.option(
    "--list", is_flag=True, is_eager=True, expose_value=False, callback=_list_formats,
    help="List the formats, what is installed and the command that brings the rest.",
)  # fmt: skip
@options_of(export_command.ExportOptions)
def export(**flags: Any) -> None:
    """Export to ONNX, OpenVINO and other formats, each compared with PyTorch before it is kept."""
    done = export_command.export(**flags)
    for one in done.written:
        agrees = "not compared: it does not run here" if one.differences is None else str(one.differences)
        for path in one.files:
            click.echo(f"{path} ({sum(file_sizes(path)) / 1024:.1f} KiB)")
        click.echo(f"  {one.format}, against PyTorch: {agrees}")
    if done.readme is not None:
        click.echo(f"{done.readme}: how each is run")
    finish(done.losses)


def file_sizes(path: Path) -> list[int]:
    """Bytes of the file, or of each in the folder."""
    return [path.stat().st_size] if path.is_file() else [file.stat().st_size for file in path.rglob("*")]
