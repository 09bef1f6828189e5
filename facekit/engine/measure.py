"""The eval command: weights in; metrics on the screen, in metrics.yaml, and pictures with boxes out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facekit.datasets.labels import PictureLabels
from facekit.detector import Detector
from facekit.engine.evaluate import OnPicture, evaluate_labelled, evaluate_wider, model_metrics
from facekit.engine.record import Metric
from facekit.engine.report import format_table, read_metrics, write_metrics
from facekit.files import check_writable_folder
from facekit.metrics.wider_files import write_predictions
from facekit.structures import Detections
from facekit.template import Template
from facekit.visualize import draw_faces, write_picture


@dataclass(frozen=True)
class EvalOptions:
    """Flags of eval.py."""

    load_weights: Path
    wider_dir: Path | None
    wider_gt: Path | None
    save_metrics_to: Path | None
    save_output_to: Path | None
    threshold: float


def measure(template: Template, pictures: list[PictureLabels], options: EvalOptions) -> str:
    """Runs the evaluations asked for, writes what is asked for, and returns the table.

    Raises FacekitError for weights, pictures or ground truth that are missing or don't fit.
    """
    for folder in (options.save_metrics_to and options.save_metrics_to.parent, options.save_output_to):
        if folder is not None:
            check_writable_folder(folder)
    if options.save_metrics_to is not None:
        read_metrics(options.save_metrics_to)  # refused now rather than after an hour of measuring
    detector = Detector.open(options.load_weights, template)
    metrics: list[Metric] = []
    counts = []
    if pictures:
        metrics += evaluate_labelled(detector, pictures, _drawer(options, "labelled"))
        counts.append(f"{len(pictures)} labelled pictures")
    if options.wider_dir is not None:
        figures, predictions = evaluate_wider(detector, options.wider_dir, options.wider_gt, _drawer(options, "wider"))
        metrics += figures
        counts.append(f"{len(predictions)} WIDER pictures")
        if options.save_output_to is not None:
            write_predictions(options.save_output_to / "wider_predictions", predictions)
    metrics += model_metrics(template)
    protocol = f"{template.protocol()}; {', '.join(counts)}; {options.load_weights.suffix.lstrip('.')}"
    if options.save_metrics_to is not None:
        write_metrics(options.save_metrics_to, options.load_weights, metrics, protocol)
    return format_table(metrics, template, protocol)


def _drawer(options: EvalOptions, kind: str) -> OnPicture | None:
    if options.save_output_to is None:
        return None
    folder = options.save_output_to / kind

    def draw(path: Path, image_bgr: NDArray[np.uint8], faces: Detections) -> None:
        write_picture(folder / path.parent.name / path.name, draw_faces(image_bgr, faces.above(options.threshold)))

    return draw
