"""The import-weights command: weights of any kind in, a snapshot out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from facekit.base.options import TEMPLATE, command_options, option, takes
from facekit.commands.inputs import read_template


@command_options
class ImportOptions:
    """Options of an import."""

    source: Path = option("The weights.", positional=True, kw_only=False, reads=True)
    template: str = option(TEMPLATE, template=True)
    output: Path = option("The snapshot.pth to write.", writes=True, text=False)


@dataclass(frozen=True)
class Imported:
    """What was written."""

    path: Path
    tensors: int
    epoch: int


@takes(ImportOptions)
def import_weights(options: ImportOptions) -> Imported:
    """Turns weights into a snapshot: other systems' .pth, an Open Model Zoo IR (.xml with .bin), or a checkpoint of
    facekit's own, of which optimiser and all else that only training needs are left out.

    Raises FacekitError for weights that don't fit the template whole, or a place that can't be written.
    """
    template = read_template(options.template)

    from facekit.weights.checkpoint import check_replaceable_checkpoint, save_checkpoint, weights_alone
    from facekit.weights.load import load_weights

    check_replaceable_checkpoint(options.output)
    checkpoint = load_weights(options.source, template)
    save_checkpoint(options.output, weights_alone(checkpoint))
    return Imported(options.output, len(checkpoint.state_dict), checkpoint.epoch)
