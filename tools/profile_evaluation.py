"""Where the wall time of an evaluation goes, and how much memory it takes.

python tools/profile_evaluation.py --load-weights WEIGHTS --wider-dir DIR [--wider-gt DIR] [--template yunet-n]
"""

from __future__ import annotations

import resource
import time
from pathlib import Path
from typing import Any

import click
import torch

from facekit.cli import run_command
from facekit.detector import Detector
from facekit.engine.evaluation.details import Details, wider_rows
from facekit.engine.evaluation.evaluate import detect_pictures, wider_pictures, wider_predictions
from facekit.machine.environment import describe, environment
from facekit.metrics.wider import find_wider_ground_truth, read_wider_ground_truth, wider_curves
from facekit.protocol import at_scale
from facekit.targets import Backend
from facekit.template import find_template, load_template

FILE = click.Path(path_type=Path)


class Timed(Backend):
    """A backend that keeps the seconds spent in it."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.template = backend.template
        self.fixed_size_hw, self.fixed_batch = backend.fixed_size_hw, backend.fixed_batch
        self.most_pixels = backend.most_pixels
        self.least_side, self.most_side = backend.least_side, backend.most_side
        self.seconds = 0.0

    def __call__(self, images_bgr: Any) -> Any:
        started = time.perf_counter()
        decoded = self.backend(images_bgr)
        self.seconds += time.perf_counter() - started
        return decoded


@click.command()
@click.option("--template", default="yunet-n", show_default=True)
@click.option("--load-weights", type=FILE, required=True)
@click.option("--wider-dir", type=FILE, required=True)
@click.option("--wider-gt", type=FILE)
@click.option("--scale", default="origin", show_default=True)
def main(template: str, load_weights: Path, wider_dir: Path, wider_gt: Path | None, scale: str) -> None:
    """Evaluate, and print the profile."""
    detector = Detector.open(load_weights, at_scale(load_template(find_template(template)), scale))
    backend = detector.backend = Timed(detector.backend)
    ground_truth = read_wider_ground_truth(find_wider_ground_truth(wider_gt or wider_dir))
    pictures = wider_pictures(wider_dir, ground_truth)
    started = time.perf_counter()
    measured = detect_pictures(detector, pictures, description="WIDER FACE")
    detected = time.perf_counter()
    predictions = wider_predictions(measured)
    figures = wider_curves(predictions, ground_truth)
    Details(measured).metrics()
    wider_rows(predictions, ground_truth)
    ended = time.perf_counter()

    whole = ended - started
    inside = sum(measured.seconds)
    rows = {
        "network, pixels to boxes": backend.seconds,
        "preparing, thresholds, NMS": inside - backend.seconds,
        "waiting for pictures": detected - started - inside,
        "metrics": ended - detected,
        "all": whole,
    }
    for name, seconds in rows.items():
        click.echo(f"{name:<28}{seconds:8.2f} s {100 * seconds / whole:6.1f} %")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    click.echo(f"peak memory {peak:.0f} MiB; {describe(environment(torch.device('cpu')))}")
    easy, medium, hard = (100 * figures[name].ap for name in ("easy", "medium", "hard"))
    click.echo(f"WIDER easy / medium / hard {easy:.2f} / {medium:.2f} / {hard:.2f}")
    click.echo(f"protocol: scale {scale}: {detector.protocol()}; {len(pictures)} WIDER pictures")


if __name__ == "__main__":
    run_command(main)
