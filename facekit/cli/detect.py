"""facekit detect."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from facekit.cli.options import finish, options_of
from facekit.commands import detect as detect_command


@click.command()
@options_of(detect_command.DetectOptions)
def detect(**flags: Any) -> None:
    """Find faces in INPUTS (files, folders, globs, addresses): as JSON, CSV, COCO, YOLO, Parquet, drawings, crops.

    Without an output a line of JSON a picture is printed. Pictures that can't be read have a row with the reason, and
    are listed at the end, with exit code 3.
    """
    found = detect_command.detect(**flags)
    parts = found.printed()
    if parts is None:
        found.run()
    else:
        _print(parts)
    if text := found.text():
        click.echo(f"Done: {text}", err=parts is not None)
    finish(found.losses)


def _print(parts: Any) -> None:
    try:
        for part in parts:
            sys.stdout.write(part)
            sys.stdout.flush()
    except BrokenPipeError:  # such as `| head`: who reads has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
