"""How long WIDER FACE evaluation takes: python tools/benchmark_evaluator.py [--predictions A.npz --predictions B.npz]

Scores complete prediction sets against the official ground truth; reading the files is timed apart. Seconds are those
of the CPU, all threads together.
"""

import os
import time
from pathlib import Path

import click

from facekit.cli import run_command
from facekit.metrics.wider import read_wider_ground_truth, wider_ap
from facekit.metrics.wider_groups import wider_groups
from facekit.results.wider import read_predictions

SHARED = Path(os.environ.get("FACEKIT_SHARED", Path(__file__).resolve().parents[2] / "shared"))
WIDER = SHARED / "data" / "widerface"
PREDICTIONS = tuple(WIDER / "predictions" / f"{name}.npz" for name in ("yolov7-face", "retinaface-jit"))
FILE = click.Path(exists=True, path_type=Path)


@click.command()
@click.option("--predictions", multiple=True, type=FILE, default=PREDICTIONS, help="An .npz or a folder of results.")
@click.option("--wider-gt", type=FILE, default=WIDER / "ground_truth", help="Folder with the four official .mat files.")
@click.option("--repeats", default=5, show_default=True, help="The fastest is printed.")
def main(predictions: tuple[Path, ...], wider_gt: Path, repeats: int) -> None:
    """Print seconds of CPU and the figures for each of the prediction sets."""
    start = time.process_time()
    ground_truth = read_wider_ground_truth(wider_gt)
    faces = sum(len(boxes_xywh) for boxes_xywh in ground_truth.boxes_xywh)
    click.echo(f"ground truth: {len(ground_truth.names)} pictures, {faces} faces, {since(start)} to read")
    for path in predictions:
        start = time.process_time()
        found = read_predictions(path)
        read = since(start)
        seconds_ap, seconds_groups = [], []
        for _ in range(repeats):
            start = time.process_time()
            figures = wider_ap(found, ground_truth)
            middle = time.process_time()
            wider_groups(found, ground_truth)
            seconds_ap.append(middle - start)
            seconds_groups.append(time.process_time() - middle)
        values = ", ".join(f"{subset} {value:.6f}" for subset, value in figures.items())
        click.echo(
            f"{path.name}: {sum(map(len, found.values()))} boxes; {values}; {min(seconds_ap):.2f} s once loaded, "
            f"{min(seconds_groups):.2f} s for events and attributes, {read} to read"
        )
    click.echo(f"protocol: official WIDER FACE, IoU 0.5; CPU seconds, best of {repeats}")


def since(start: float) -> str:
    """Seconds of CPU."""
    return f"{time.process_time() - start:.2f} s"


if __name__ == "__main__":
    run_command(main)
