"""The eval-predictions command: WIDER result files of anybody's detector in, the official APs out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from facekit.options import command_options, option, takes


@command_options
class EvalPredictionsOptions:
    """Options of scoring result files."""

    predictions: Path = option("A folder of EVENT/NAME.txt, or an .npz.", positional=True, kw_only=False, reads=True)
    wider_gt: Path = option("Folder with the four official .mat files.", reads=True)


@dataclass(frozen=True)
class Scored:
    """The official figures."""

    figures: dict[str, float]  # easy, medium, hard: 0..1
    pictures: int

    def protocol(self) -> str:
        """To stand beside the figures."""
        return f"official WIDER FACE, IoU 0.5, {self.pictures} pictures; scores as predicted"


@takes(EvalPredictionsOptions)
def eval_predictions(options: EvalPredictionsOptions) -> Scored:
    """Scores result files by the official WIDER FACE protocol. Raises FacekitError for files that are none."""
    from facekit.metrics.wider import read_wider_ground_truth, wider_ap
    from facekit.results.wider import read_predictions

    ground_truth = read_wider_ground_truth(options.wider_gt)
    return Scored(wider_ap(read_predictions(options.predictions), ground_truth), len(ground_truth.names))
