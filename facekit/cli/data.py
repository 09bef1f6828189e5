"""facekit data ...: download, check, browse, convert, merge, mark."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facekit.cli.options import Group, finish, options_of
from facekit.commands.browse_data import BrowseOptions, browse_data
from facekit.commands.check_data import CheckOptions, check_data
from facekit.commands.convert_data import ConvertDataOptions, convert_data
from facekit.commands.download_data import DownloadOptions, download_data
from facekit.commands.mark import MarkOptions
from facekit.commands.mark import mark as mark_data

if TYPE_CHECKING:
    from facekit.datasets.convert import Summary


@click.group(cls=Group)
def data() -> None:
    """Data sets and labels: download, browse, check, convert, merge, mark."""


@data.command("download")
@options_of(DownloadOptions)
def download(**flags: Any) -> None:
    """Bring a published data set: pictures and labels, checked, unpacked, ready for train and eval."""
    click.echo(download_data(**flags))


@data.command("check")
@options_of(CheckOptions)
def check(**flags: Any) -> None:
    """Look for defects in labels and pictures; exits with 1 where there are errors."""
    found = check_data(**flags)
    click.echo(found.report)
    if found.cleaned is not None:
        click.echo(
            "\n".join(["", *found.cleaned.lines(), f"Done: {flags['fix']}, for the data root {found.cleaned_root}"])
        )
    if not found.is_fine:
        sys.exit(1)


@data.command("browse")
@options_of(BrowseOptions)
def browse(**flags: Any) -> None:
    """Make a page of LABELS, of any format: pictures with boxes and landmarks, counts, augmentation."""
    made = browse_data(**flags)
    click.echo(f"Done: {made.page}, {made.page.stat().st_size / 1e6:.1f} MB")
    finish(made.losses)


@data.command("convert")
@options_of(ConvertDataOptions)
def convert(labels: tuple[Path, ...], **flags: Any) -> None:
    """Write LABELS, of any format, in another one."""
    if len(labels) > 1:
        raise click.UsageError("Give one set of labels here; facekit data merge takes several.")
    _say(convert_data(labels, **flags))


@data.command("merge")
@options_of(ConvertDataOptions)
def merge(**flags: Any) -> None:
    """Write several LABELS, of any formats, as one set; pictures are named from the folder above all of them."""
    _say(convert_data(**flags))


def _say(written: Summary) -> None:
    click.echo(written.table())
    finish(written.losses)


@data.command("mark")
@options_of(MarkOptions)
def mark(**flags: Any) -> None:
    """Complete labels by a detector, as COCO json: landmarks for the faces of SOURCE that have none, or, with
    --unlabelled, the faces themselves; each with the detector's score.

    Pictures that can't be read are listed at the end, with exit code 3.
    """
    done = mark_data(**flags)
    click.echo(f"Done: {done.text()}")
    finish(done.losses)
