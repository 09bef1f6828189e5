"""libfacedetection.train's tools/compare_inference.py, by facekit's parts: what a model file finds, how fast, and its
AP on WIDER FACE's validation set.

    python tools/compare_inference.py yunet_n.onnx --template yunet-n --mode AUTO --eval --score_thresh 0.02
        --nms_thresh 0.45
    python tools/compare_inference.py yunet_n.onnx --image photo.jpg --mode 640x480

`facekit compare` compares several files at once, and measures more.
"""

from __future__ import annotations

import re
import time
from pathlib import Path

import click
import cv2

from facekit.cli import run_command
from facekit.commands.evaluate import evaluate
from facekit.commands.inputs import find_detector
from facekit.detector import Detector
from facekit.errors import ArgumentError
from facekit.pictures.read import read_picture
from facekit.protocol import at_scale, with_thresholds
from facekit.targets.writing.check_pictures import portrait

# What the modes are called where facekit's own commands take --scale.
SCALES = {"AUTO": "template", "VGA": "vga", "ORIGIN": "origin"}
REPEATS = 20


def scale_of(mode: str) -> str:
    """facekit's word for a mode. Raises ArgumentError for what is none."""
    if mode.upper() in SCALES:
        return SCALES[mode.upper()]
    if (match := re.fullmatch(r"([1-9][0-9]{1,4})[x,]([1-9][0-9]{1,4})", mode.lower())) is None:
        raise ArgumentError(f"`mode`: expected AUTO, VGA, ORIGIN or WIDTHxHEIGHT, got {mode[:80]!r}.")
    return f"{match[1]}x{match[2]}"


def look(detector: Detector, image: Path, output: Path | None) -> None:
    """Prints the faces of a picture, and how long it takes."""
    image_bgr = read_picture(image)
    faces, times = detector.detect(image_bgr), []
    for _ in range(REPEATS):
        started = time.perf_counter()
        detector.detect(image_bgr)
        times.append(time.perf_counter() - started)
    for face in faces:
        click.echo(" ".join(f"{number:.1f}" for number in face.box_xyxy) + f" {face.score:.3f}")
    height, width = image_bgr.shape[:2]
    says = f"{len(faces)} faces in {1e3 * min(times):.2f} ms, the least of {REPEATS}"
    click.echo(f"{image.name}, {width}x{height}: {says}; {detector.protocol()}")
    if output is not None:
        from facekit.pictures.draw import draw_faces
        from facekit.pictures.write import write_picture

        write_picture(output, draw_faces(image_bgr, faces))


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--template", help="The detector's [the one that the file names].")
@click.option("--mode", default="AUTO", show_default=True, help="AUTO: the template's own; VGA, ORIGIN, or WxH.")
@click.option("--eval", "measures", is_flag=True, help="Measure AP on WIDER FACE's validation set.")
@click.option("--wider", type=click.Path(path_type=Path), default=Path("data/widerface"), show_default=True,
              help="Folder with WIDER_val/images and ground_truth.")  # fmt: skip
@click.option("--wider_gt", type=click.Path(path_type=Path), help="Folder with the four .mat files, if elsewhere.")
@click.option("--image", type=click.Path(path_type=Path), help="A picture to look at [the portrait].")
@click.option("--out", type=click.Path(path_type=Path), help="Where to write the picture with its faces.")
@click.option("--score_thresh", type=click.FloatRange(0, 1), help="Least score [the template's].")
@click.option("--nms_thresh", type=click.FloatRange(0, 1), help="IoU over which a box falls [the template's].")
@click.option("--threads", type=click.IntRange(1, 1024), default=1, show_default=True)
def main(
    model: Path, template: str | None, mode: str, measures: bool, wider: Path, wider_gt: Path | None,
    image: Path | None, out: Path | None, score_thresh: float | None, nms_thresh: float | None, threads: int,
) -> None:  # fmt: skip
    """Run a model file on a picture, or on WIDER FACE."""
    scale = scale_of(mode)
    cv2.setNumThreads(threads)
    if measures:
        measured = evaluate(
            template, model, scale=scale, score_threshold=score_thresh, nms_threshold=nms_thresh, wider_dir=wider,
            wider_gt=wider_gt, threads=threads,
        )  # fmt: skip
        assert measured is not None, "one process has all the figures"
        click.echo(measured.table)
    if image is not None or not measures:
        found, weights = find_detector(model, template)
        rule = with_thresholds(at_scale(found, scale), score_thresh, nms_thresh, None)
        look(Detector.open(weights, rule, threads=threads), image or portrait(), out)


if __name__ == "__main__":
    run_command(main)
