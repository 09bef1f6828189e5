"""facekit serve."""

from __future__ import annotations

from typing import Any

import click

from facekit.cli.options import options_of
from facekit.commands import serve as serve_command


@click.command()
@options_of(serve_command.ServeOptions)
def serve(**flags: Any) -> None:
    """Answer pictures with their faces over HTTP: POST /detect; /docs tells how.

    Listens on this machine alone unless --host says otherwise. SIGTERM and Ctrl-C end it once all that was begun is
    answered.
    """
    serve_command.serve(**flags)
