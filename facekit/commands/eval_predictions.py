"""The eval-predictions command: WIDER result files of anybody's detector in, the official APs out."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from pathlib import Path

from facekit.base.options import command_options, option, takes
from facekit.errors import Loss

log = logging.getLogger(__name__)


@command_options
class EvalPredictionsOptions:
    """Options of scoring result files."""

    predictions: Path = option("A folder of EVENT/NAME.txt, or an .npz.", positional=True, kw_only=False, reads=True)
    wider_gt: Path = option("Folder with the four official .mat files.", reads=True)


@dataclass(frozen=True)
class Scored:
    """The official figures."""

    figures_percent: dict[str, float]  # easy, medium, hard; NaN of those in which no face counts
    pictures: int
    losses: list[Loss]  # these
    likely_layout: str | None = None  # what the numbers seem to be, if not x, y, w, h in pixels

    def protocol(self) -> str:
        """To stand beside the figures."""
        return f"official WIDER FACE, IoU 0.5, {self.pictures} pictures; scores as predicted"

    def text(self) -> str:
        """The figures, with their unit and their protocol."""
        rows = [
            f"{name:<7} n/a" if math.isnan(value) else f"{name:<7} {value:.6f} %"
            for name, value in self.figures_percent.items()
        ]
        return "\n".join([*rows, f"protocol: {self.protocol()}"])


@takes(EvalPredictionsOptions)
def eval_predictions(options: EvalPredictionsOptions) -> Scored:
    """Scores result files by the official WIDER FACE protocol, as x, y, w, h in pixels; warns where they seem to be
    something else. Raises FacekitError for files that are none."""
    from facekit.metrics.layouts import doubtful_scores, likely_layout
    from facekit.metrics.wider import read_wider_ground_truth, wider_ap
    from facekit.results.wider import read_predictions

    ground_truth = read_wider_ground_truth(options.wider_gt)
    predictions = read_predictions(options.predictions)
    figures_percent = {name: 100 * ap for name, ap in wider_ap(predictions, ground_truth).items()}
    layout = likely_layout(predictions, ground_truth)
    if layout is not None:
        log.warning(
            "%s: scored as x, y, w, h in pixels, which WIDER FACE's result files hold, but they seem to be %s. Write "
            "them again, or the figures mean nothing.", options.predictions, layout,
        )  # fmt: skip
    elif (reason := doubtful_scores(predictions, ground_truth, max(figures_percent.values()) / 100)) is not None:
        log.warning("%s: %s. Write scores that are higher the surer a face is.", options.predictions, reason)
    known = set(ground_truth.names)
    others = [len(rows) for name, rows in predictions.items() if name not in known]
    if others:
        log.warning(
            "%s: %d boxes of %d pictures that the ground truth doesn't have count in one thing alone: the range that "
            "scores are stretched to. Leave them out, or give the whole ground truth.",
            options.predictions, sum(others), len(others),
        )  # fmt: skip
    return Scored(figures_percent, len(ground_truth.names), ground_truth.losses(), layout)
