"""facekit visualize."""

from __future__ import annotations

from typing import Any

import click

from facekit.cli.options import finish, options_of
from facekit.commands import visualize as visualize_command


@click.command()
@options_of(visualize_command.VisualizeOptions)
def visualize(**flags: Any) -> None:
    """Draw boxes, scores and landmarks on PICTURES (files, folders, globs) or a video.

    Pictures that can't be read are listed at the end, with exit code 3. Videos keep their sound, with PyAV.
    """
    done = visualize_command.visualize(**flags)
    if text := done.text():
        click.echo(text)
    finish(done.losses)
