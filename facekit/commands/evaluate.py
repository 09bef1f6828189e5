"""The eval command: weights in; metrics on the screen, in metrics.yaml, as a page, and pictures with boxes out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from facekit.base.options import takes
from facekit.commands.inputs import check_roots, find_measured, read_label_files
from facekit.engine.evaluation.options import EvaluateOptions
from facekit.errors import ArgumentError

if TYPE_CHECKING:
    from facekit.engine.evaluation.measure import Measurement


@takes(EvaluateOptions)
def evaluate(options: EvaluateOptions) -> Measurement | None:
    """Measures weights and writes what is asked for. Of several processes that were started together the first one has
    the figures, the others return None.

    Raises FacekitError for weights, pictures or ground truth that are missing or don't fit.
    """
    if not options.test_ann_files and options.wider_dir is None:
        raise ArgumentError(
            "Nothing to measure on: give `test_ann_files` (with `test_data_roots`), `wider_dir`, or both."
        )
    check_roots(options.test_ann_files, options.test_data_roots, "test_ann_files", "test_data_roots")
    template, weights = find_measured(options.load_weights, options.template, options.layout)

    from facekit.base.files import write_text
    from facekit.engine.evaluation.measure import measure

    pictures = read_label_files(options.test_ann_files, options.test_data_roots, "test")
    measurement = measure(template, weights, pictures, options)
    if measurement is not None and options.report is not None:
        from facekit.pages.evaluation import evaluation_page

        write_text(options.report, evaluation_page(measurement.record))
    return measurement
