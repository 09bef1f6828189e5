"""The priors command: labels in, prior sizes for a template out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from facekit.base.options import DATA_ROOT, TEMPLATE, command_options, option, takes

if TYPE_CHECKING:
    from facekit.training_data.prior_choice import PriorChoice


@command_options
class PriorsOptions:
    """Options of a choice of priors."""

    labels: Path = option("Labels of any format.", positional=True, kw_only=False, reads=True)
    template: str = option(TEMPLATE, template=True)
    data_root: Path | None = option(DATA_ROOT, default=None, reads=True)
    output: Path | None = option("template.yaml to write: the template with the new priors.", default=None, writes=True)
    force: bool = option("Write over the file of --output where it is there already.", default=False)
    seed: int = option("Of crops and clusters.", default=0, least=0)


@takes(PriorsOptions)
def priors(options: PriorsOptions) -> PriorChoice:
    """Chooses prior sizes for a data set by clustering its faces, and writes a template with them if asked for.

    Raises FacekitError for a detector without prior sizes to choose, and where there is no face to train on.
    """
    from facekit.base.files import check_new
    from facekit.template import find_template, load_template

    source = find_template(options.template)
    template = load_template(source)
    if options.output is not None:
        check_new(options.output, options.force)

    from facekit.labels.formats import read_labels
    from facekit.training_data.prior_choice import choose_priors, write_template

    choice = choose_priors(template, read_labels(options.labels, options.data_root), options.seed)
    if options.output is not None:
        write_template(source, choice.sizes_wh, options.output)
    return choice
