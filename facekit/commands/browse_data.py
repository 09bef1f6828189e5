"""The data browse command: labels in, a page of their pictures out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from facekit.base.options import DATA_ROOT, command_options, option, takes
from facekit.commands.inputs import read_template
from facekit.errors import Loss


@command_options
class BrowseOptions:
    """Options of a page of pictures."""

    labels: Path = option("Labels of any format.", positional=True, kw_only=False, reads=True)
    data_root: Path | None = option(DATA_ROOT, default=None, reads=True)
    output: Path = option("The page to write.", writes=True)
    augment: str | None = option(
        "Show what training this template makes of the pictures.", default=None, metavar="TEMPLATE", template=True
    )
    limit: int = option("Pictures on the page.", default=200, least=1)
    seed: int = option("Of the augmentation, as train's.", default=0, least=0)


@dataclass(frozen=True)
class Browsed:
    """The page, which this is the path of, and what is not on it."""

    page: Path
    losses: list[Loss]

    def __fspath__(self) -> str:
        return str(self.page)


@takes(BrowseOptions)
def browse_data(options: BrowseOptions) -> Browsed:
    """Makes a page of pictures with boxes and landmarks, counts, and augmentation.

    Raises FacekitError for labels or pictures that can't be read, and a place that can't be written.
    """
    template = read_template(options.augment) if options.augment is not None else None

    from facekit.base.files import write_text
    from facekit.labels.formats import read_labels
    from facekit.pages.browse import Augmentation, browse_page
    from facekit.results.existing import check_replaceable_report

    check_replaceable_report("page", options.output)
    augmentation = Augmentation(template, options.seed) if template is not None else None
    pictures = read_labels(options.labels, options.data_root, as_written=True)
    losses: list[Loss] = []
    write_text(options.output, browse_page(options.labels.name, pictures, options.limit, augmentation, losses))
    return Browsed(options.output, losses)
