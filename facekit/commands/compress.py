"""The compress command: float weights in; a compressed checkpoint and its IR, measured before and after, out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from facekit.base.files import check_outputs
from facekit.base.options import takes
from facekit.base.progress import working
from facekit.commands.inputs import check_roots, find_detector, read_label_files
from facekit.engine.compress.options import CompressOptions

if TYPE_CHECKING:
    from facekit.engine.compress.run import Footprint


@dataclass(frozen=True)
class Compressed:
    """What was written, and what it gave."""

    checkpoint: Path  # compressed.pth; model.xml and model.bin lie beside it
    footprints: list[Footprint]  # before and after
    table: str  # of these, with the protocol of their AP


@takes(CompressOptions)
def compress(options: CompressOptions) -> Compressed:
    """Compresses to INT8, sparse, or both.

    Raises FacekitError for weights that don't fit, labels that can't be read, or a folder that can't be written.
    """
    check_roots(options.train_ann_files, options.train_data_roots, "train_ann_files", "train_data_roots")
    check_roots(options.val_ann_files, options.val_data_roots, "val_ann_files", "val_data_roots")
    template, weights = find_detector(options.load_weights, options.template)

    with working("loading PyTorch, NNCF and OpenVINO"):
        from facekit.engine.compress.run import compress as run
        from facekit.engine.compress.run import format_footprints

    written = ("compressed.pth", "model.xml", "model.bin")
    check_outputs([weights], [options.save_checkpoints_to / name for name in written])
    train_pictures = read_label_files(options.train_ann_files, options.train_data_roots, "train")
    val_pictures = read_label_files(options.val_ann_files, options.val_data_roots, "val")
    path, rows = run(template, weights, train_pictures, val_pictures, options)
    return Compressed(path, rows, format_footprints(rows, f"{len(val_pictures)} pictures; {template.protocol()}"))
