"""facekit templates, doctor."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Any

import click

from facekit.cli.options import EXIT_ERROR, options_of
from facekit.commands import doctor as doctor_command
from facekit.commands import templates as templates_command


@click.command()
@options_of(templates_command.TemplatesOptions)
def templates(**flags: Any) -> None:
    """List the templates, or those of WORDS: AP as measured, parameters, operations, size, speed."""
    table = templates_command.templates(**flags)
    rows = [dataclasses.asdict(row) for row in table.rows]
    click.echo(json.dumps(rows, indent=1) if flags["json"] else table.text())


@click.command()
@options_of(doctor_command.DoctorOptions)
def doctor(**flags: Any) -> None:
    """Say what facekit finds on this machine: processor, GPU, packages, cache; what is missing and what brings it.

    Ends with 1 where the bundled detector does not run.
    """
    found = doctor_command.doctor(**flags)
    click.echo(json.dumps(found.to_dict(), indent=1) if flags["json"] else found.text())
    if not found.is_well:
        sys.exit(EXIT_ERROR)
