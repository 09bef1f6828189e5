"""The data convert and data merge commands: labels of any formats in, one data set of one format out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from facekit.base.options import command_options, option, takes
from facekit.commands.inputs import check_roots
from facekit.datasets.convert_options import ConvertOptions
from facekit.errors import ArgumentError

if TYPE_CHECKING:
    from facekit.datasets.convert import Summary


@command_options
class ConvertDataOptions(ConvertOptions):
    """What to convert into what, beside what is done on the way."""

    labels: tuple[Path, ...] = option("Labels of any formats.", positional=True, kw_only=False, reads=True)
    destination: Path = option("The file or folder to write.", positional=True, kw_only=False)
    to: Literal["coco", "labelv2", "wider", "voc", "voc-wider", "yolo", "yolo-face"] = option("Format to write.")
    data_roots: tuple[Path, ...] = option(
        "Folders above the pictures, one a file of labels [where the formats have them].", default=(),
        flag="--data-roots", other_flag="--data-root", reads=True,
    )  # fmt: skip


@takes(ConvertDataOptions)
def convert_data(options: ConvertDataOptions) -> Summary:
    """Writes labels, of any formats, as one set of another format; several are merged, and their pictures named from
    the folder above all of them.

    Raises FacekitError, before anything is written, for labels that can't be read, names that clash, and a destination
    that is a source or holds what isn't ours (unless `force`).
    """
    check_roots(options.labels, options.data_roots, "labels", "data_roots")
    if options.split and (len(options.split) not in (2, 3) or min(options.split) <= 0):
        given = ":".join(f"{share:g}" for share in options.split)
        raise ArgumentError(f"`split`: expected two or three shares above 0, such as 0.9:0.1, got {given}.")
    from facekit.datasets.convert import convert

    sources = list(zip(options.labels, options.data_roots or [None] * len(options.labels), strict=True))
    return convert({"train": sources}, options.to, options.destination, options)
