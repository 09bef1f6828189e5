"""How long a picture takes to become faces, beside the bare network and cv2.FaceDetectorYN, on the same ONNX file.

One thread, all in one process, in turn, so that the machine's mood reaches all alike; medians of CPU-bound wall time.
Usage: python tools/benchmark_detector.py [--load-weights yunet.onnx] [--picture FILE] [--rounds 60]
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import importlib.util
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import click
import cv2
import numpy as np
import onnxruntime

from facekit import Detector
from facekit.detector import BUNDLED_WEIGHTS
from facekit.ops.nms import suppress
from facekit.pictures.read import read_picture
from facekit.targets.reading.outputs import planes

SIZES_WH = ((320, 320), (640, 640), (1280, 960))
PICTURE = Path(__file__).resolve().parent.parent / "data" / "demo" / "astronaut.jpg"


def in_turn(jobs: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median milliseconds of each job; the jobs take turns, and their order turns round, too."""
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for turn in range(rounds + 3):
        for name in sorted(jobs, reverse=bool(turn % 2)):
            started = time.perf_counter()
            jobs[name]()
            if turn >= 3:  # warm by then
                times[name].append(1e3 * (time.perf_counter() - started))
    return {name: statistics.median(found) for name, found in times.items()}


def jobs_at(weights: Path, picture: Path, size_wh: tuple[int, int]) -> dict[str, Callable[[], object]]:
    image_bgr = np.asarray(cv2.resize(read_picture(picture), size_wh), dtype=np.uint8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(weights), options, providers=["CPUExecutionProvider"])
    name, blob = session.get_inputs()[0].name, planes(image_bgr[None])
    detector = Detector.open(weights, "yunet-n", threads=1)
    opencv = cv2.FaceDetectorYN.create(str(weights), "", size_wh, 0.15, 0.45, 5000)  # its score is the root of ours
    jobs: dict[str, Callable[[], object]] = {
        "bare ONNX Runtime": lambda: session.run(None, {name: blob}),
        "Detector": lambda: detector.detect(image_bgr),
        "cv2.FaceDetectorYN": lambda: opencv.detect(image_bgr),
    }
    if importlib.util.find_spec("openvino") is not None:
        fast = Detector.open(weights, "yunet-n", threads=1, backend="auto")
        jobs["Detector, backend auto (OpenVINO)"] = lambda: fast.detect(image_bgr)
    return jobs


def nms_times(rounds: int) -> list[str]:
    rng = np.random.default_rng(0)
    rows = []
    for faces in (20, 60, 300):
        which = rng.integers(0, faces, 20_000)
        sides = np.exp(rng.uniform(np.log(12), np.log(200), faces))[which, None] * np.exp(
            rng.normal(0, 0.1, (20_000, 2))
        )
        centres = (rng.uniform(0, 1, (faces, 2)) * (1280, 960))[which] + rng.normal(0, 0.08, (20_000, 2)) * sides
        boxes_xyxy = np.concatenate([centres - sides / 2, centres + sides / 2], axis=1).astype(np.float32)
        found = in_turn({"nms": lambda boxes=boxes_xyxy: suppress(boxes, 0.45)}, max(5, rounds // 6))  # type: ignore[misc]
        rows.append(f"NMS of 20,000 candidates about {faces:>3} faces: {found['nms']:.2f} ms")
    return rows


@click.command()
@click.option("--load-weights", type=click.Path(path_type=Path), default=BUNDLED_WEIGHTS, help="A yunet-n as ONNX.")
@click.option("--picture", type=click.Path(path_type=Path), default=PICTURE)
@click.option("--rounds", default=60, show_default=True)
def main(load_weights: Path, picture: Path, rounds: int) -> None:
    """Print milliseconds and ratios."""
    cv2.setNumThreads(1)
    click.echo(f"{load_weights}, {picture.name} resized, one thread, medians of {rounds} rounds in turn")
    for size_wh in SIZES_WH:
        found = in_turn(jobs_at(load_weights, picture, size_wh), rounds)
        bare, opencv = found["bare ONNX Runtime"], found["cv2.FaceDetectorYN"]
        for name, milliseconds in found.items():
            ratios = f"{milliseconds / bare:5.2f} x bare, FaceDetectorYN takes {opencv / milliseconds:4.2f} x this"
            click.echo(f"{size_wh[0]:>5}x{size_wh[1]:<4} {name:<34} {milliseconds:8.2f} ms  {ratios}")
    for row in nms_times(rounds):
        click.echo(row)


if __name__ == "__main__":
    main()
