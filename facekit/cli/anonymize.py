"""facekit anonymize."""

from __future__ import annotations

from typing import Any

import click

from facekit.cli.options import finish, options_of
from facekit.commands import anonymize as anonymize_command


@click.command()
@options_of(anonymize_command.AnonymizeOptions)
def anonymize(**flags: Any) -> None:
    """Cover the faces of INPUTS (pictures, folders, globs, videos): blurred, pixelated or solid; sound is kept.

    Videos are looked at twice, so that a face that is missed for some frames is covered there, too. What can't be read
    is listed at the end, with exit code 3.
    """
    done = anonymize_command.anonymize(**flags)
    click.echo(f"Done: {done.text()}")
    finish(done.losses)
