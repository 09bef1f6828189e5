"""What several commands take: options, and reading what they name."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facekit.errors import Loss

if TYPE_CHECKING:
    from facekit.labels.picture_labels import PictureLabels
    from facekit.template import Template

FILE = click.Path(path_type=Path)
F = Callable[..., Any]


def template_option(function: F) -> F:
    return click.option("--template", required=True, help="Template name, template.yaml or work dir.")(function)


def data_options(*names: str, required: bool = False) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        for name in reversed(names):
            files = name.endswith("files")
            what = "labels of any format" if files else "folders above their pictures [where the formats have them]"
            option = click.option(f"--{name}", required=required and files, help=f"Comma-separated {what}.")
            function = option(function)
        return function

    return decorate


def multi_scale_option(function: F) -> F:
    return click.option(
        "--multi-scale", is_flag=False, flag_value="0.5,1,2", metavar="[FACTORS]",
        help="Look at each picture at these multiples of the size it is fed at, and merge; alone: 0.5,1,2.",
    )(function)  # fmt: skip


def max_pixels_option(function: F) -> F:
    return click.option(
        "--max-pixels", type=click.IntRange(1, 1 << 30), default=178_956_970, show_default=True, metavar="N",
        help="Refuse larger pictures, by their header, before they fill the memory.",
    )(function)  # fmt: skip


def read_factors(multi_scale: str | None) -> tuple[float, ...]:
    """Of --multi-scale; 1 where it was not given."""
    try:
        return tuple(float(factor) for factor in ("1" if multi_scale is None else multi_scale).split(","))
    except ValueError as error:
        raise click.UsageError(f"--multi-scale: expected factors like 0.5,1,2, got {multi_scale!r}.") from error


def read_template(name: str) -> Template:
    from facekit.template import find_template, load_template

    return load_template(find_template(name))


def read_label_files(ann_files: str | None, data_roots: str | None, what: str) -> list[PictureLabels]:
    """Pictures of all the comma-separated files, each with its own root."""
    if not ann_files:
        return []
    from facekit.labels.formats import read_labels

    files = ann_files.split(",")
    roots: list[Path | None] = [Path(root) for root in data_roots.split(",")] if data_roots else [None] * len(files)
    if len(files) != len(roots):
        raise click.UsageError(
            f"--{what}-ann-files names {len(files)} files, --{what}-data-roots {len(roots)} folders: one a file."
        )
    return [picture for file, root in zip(files, roots, strict=True) for picture in read_labels(Path(file), root)]


EXIT_DONE, EXIT_ERROR, EXIT_USAGE, EXIT_LOSSES = 0, 1, 2, 3
LOSSES_SHOWN = 20


def finish(losses: Sequence[Loss]) -> None:
    """The end of a command over many: says last what was left out, and ends with exit code 3 if anything was."""
    if not losses:
        return
    for loss in losses[:LOSSES_SHOWN]:
        click.echo(f"Left out: {loss}", err=True)
    if len(losses) > LOSSES_SHOWN:
        click.echo(f"Left out: {len(losses) - LOSSES_SHOWN} more", err=True)
    click.echo(f"Done with {len(losses)} left out; the reasons stand above.", err=True)
    sys.exit(EXIT_LOSSES)
