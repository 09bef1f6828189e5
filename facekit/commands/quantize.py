"""The quantize command: an exported float file in, its INT8 version out, measured before and after."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from facekit.base.files import check_outputs, check_writable_folder
from facekit.base.options import ANN_FILES, DATA_ROOTS, TEMPLATE_OR_NAMED, command_options, option, takes
from facekit.base.progress import signs_of_life, working
from facekit.commands.inputs import check_roots, read_label_files
from facekit.errors import ArgumentError, Loss

if TYPE_CHECKING:
    from facekit.engine.compress.post_training import FileFigures

log = logging.getLogger(__name__)

KINDS = (".onnx", ".xml", ".tflite")


@command_options
class QuantizeOptions:
    """Options of rounding to INT8 after training."""

    load_weights: Path = option("The float file: .onnx, .xml beside its .bin, or .tflite.", reads=True, kw_only=False)
    template: str | None = option(TEMPLATE_OR_NAMED, default=None, template=True)
    calibration_data: tuple[str, ...] = option("Pictures to read ranges off: files, folders or globs.")
    calibration_pictures: int = option("How many of them, evenly spread.", default=300, least=1, most=10_000)
    val_ann_files: tuple[Path, ...] = option(ANN_FILES, default=(), reads=True)
    val_data_roots: tuple[Path, ...] = option(DATA_ROOTS, default=(), reads=True)
    max_drop: float = option(
        "Points of AP at IoU 0.5 on the val pictures that may be lost: layers stay in float until no more are.",
        default=0.5, over=0, most=100,
    )  # fmt: skip
    output: Path | None = option("The INT8 file [NAME_int8 beside the float one].", default=None)

    def target(self) -> Path:
        """Raises ArgumentError for kinds of files that aren't rounded, or another kind of output."""
        kind = self.load_weights.suffix.lower()
        if kind not in KINDS:
            raise ArgumentError(f"`load_weights={self.load_weights}`: expected an exported {', '.join(KINDS)} file.")
        if self.output is None:
            return self.load_weights.with_name(f"{self.load_weights.stem}_int8{kind}")
        if self.output.suffix.lower() != kind:
            raise ArgumentError(f"`output={self.output}`: expected a {kind} file, as the float one is.")
        return self.output


@dataclass(frozen=True)
class Quantized:
    """What was written, and what it gave."""

    files: list[Path]
    figures: list[FileFigures]  # before and after
    table: str  # of these, with their protocol
    losses: list[Loss]  # pictures that could not be used


@takes(QuantizeOptions)
def quantize(options: QuantizeOptions) -> Quantized:
    """Rounds an exported file to INT8, with as many layers left in float as `max_drop` asks for.

    Raises FacekitError for files that can't be run or rounded, labels or pictures that can't be read, and where the
    loss stays over `max_drop` (nothing is kept then).
    """
    from facekit.results.existing import check_replaceable_model
    from facekit.targets.table import files_of

    target = options.target()
    check_outputs([options.load_weights], files_of(target))
    check_writable_folder(target.parent)
    for path in files_of(target):
        check_replaceable_model(path)
    check_roots(options.val_ann_files, options.val_data_roots, "val_ann_files", "val_data_roots")
    if not options.load_weights.is_file():
        from facekit.weights.missing import missing_weights

        raise missing_weights(options.load_weights)
    from facekit.pictures.listing import list_pictures

    listing = list_pictures(options.calibration_data, flag="`calibration_data`")
    labelled = read_label_files(options.val_ann_files, options.val_data_roots, "val")
    if not labelled:
        log.info(
            "Without `val_ann_files` nothing is measured: all layers but the heads' own become INT8, whatever that "
            "costs."
        )
    with working("loading what is needed"):
        from facekit.engine.compress.post_training import format_figures, quantize_file
    from facekit.detector import Detector
    from facekit.template import find_template, load_template

    template = None if options.template is None else load_template(find_template(options.template))
    wanted = min(options.calibration_pictures, len(listing.pictures))
    chosen = [listing.pictures[index * len(listing.pictures) // wanted] for index in range(wanted)]
    with signs_of_life():
        files, figures, unread = quantize_file(
            options.load_weights, target, template, chosen, labelled, options.max_drop
        )  # fmt: skip
    protocol = Detector.open(files[0], template).protocol()
    return Quantized(files, figures, format_figures(figures, protocol), [*listing.losses, *unread])
