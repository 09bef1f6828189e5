"""How the weights of now do on the validation pictures, while training goes on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from facekit.detector import Detector
from facekit.engine.evaluation.evaluate import BrokenOff, evaluate_labelled
from facekit.labels.picture_labels import PictureLabels
from facekit.machine.processes import rank
from facekit.records.evaluation import Metric
from facekit.records.run import digest_data
from facekit.template import Template

log = logging.getLogger(__name__)


def key_of(pictures: Sequence[PictureLabels], template: Template) -> str:
    """Says what an AP is of: two that have the same key can be compared. Empty without pictures."""
    return f"{digest_data(pictures, ()).labels_sha256[:16]}, {template.protocol()}"[:1000] if pictures else ""


def measure(
    detector: Detector, pictures: Sequence[PictureLabels], moment: str, is_stopped: Callable[[], bool]
) -> list[Metric] | None:
    """The metrics, on the first process, which logs them under the name of the `moment`; on the others none. None
    where is_stopped said so in between."""

    def break_off(*_: object) -> None:
        if is_stopped():
            raise BrokenOff

    try:
        metrics = evaluate_labelled(detector, list(pictures), break_off)
    except BrokenOff:
        return None
    if rank() != 0:
        return metrics
    figures = ", ".join(f"{metric.display_name} {metric.text(2)} {metric.unit}" for metric in metrics)
    log.info("%s: %s (%d pictures; %s)", moment, figures, len(pictures), detector.template.protocol())
    return metrics
