"""Pictures a second of Detector's throughput mode beside OpenVINO's benchmark_app, on the same network and cores.

In turns, both with OpenVINO's hint THROUGHPUT in f32. benchmark_app runs the network alone; Detector goes from pictures
to faces: resizing, thresholds and suppression are in its rate.
Usage: python tools/benchmark_throughput.py [--load-weights model.xml] [--threads 1] [--size 640x480]
"""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import cv2
import numpy as np

from facekit import Detector
from facekit.cli import run_command
from facekit.commands.compare import parse_size
from facekit.detector import BUNDLED_WEIGHTS
from facekit.errors import FacekitError
from facekit.feed import prepare
from facekit.pictures.read import read_picture

PORTRAIT = Path(__file__).resolve().parent.parent / "data" / "demo" / "astronaut.jpg"
PICTURES = 64  # handed to detect_batch() together


def app_rate(weights: Path, fed_hw: tuple[int, int], threads: int, seconds: float) -> float:
    """Pictures a second of benchmark_app. Raises FacekitError where it gives none."""
    shape = f"[1,3,{fed_hw[0]},{fed_hw[1]}]"
    with tempfile.NamedTemporaryFile("w", suffix=".json") as config:  # its own flags go with no hint
        json.dump({"CPU": {"INFERENCE_NUM_THREADS": str(threads), "INFERENCE_PRECISION_HINT": "f32"}}, config)
        config.flush()
        command = [
            str(Path(sys.executable).with_name("benchmark_app")), "-m", str(weights), "-d", "CPU", "-hint",
            "throughput", "-load_config", config.name, "-t", str(max(1, round(seconds))), "-shape", shape,
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"Throughput:\s*([\d.]+) FPS", done.stdout)
    if found is None:
        raise FacekitError(f"{command[0]}: gives no rate: {(done.stdout + done.stderr).strip().splitlines()[-1]}")
    return float(found[1])


def detector_rate(detector: Detector, pictures: list[np.ndarray], seconds: float) -> float:
    """Pictures a second, from pixels to faces."""
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        count += len(detector.detect_batch(pictures))
    return count / (time.perf_counter() - started)


@click.command()
@click.option("--load-weights", type=click.Path(path_type=Path), default=BUNDLED_WEIGHTS)
@click.option("--threads", default=1, show_default=True)
@click.option("--size", default="640x480", show_default=True, help="Of the pictures.")
@click.option("--seconds", default=4.0, show_default=True, help="Of each turn.")
@click.option("--rounds", default=3, show_default=True)
def main(load_weights: Path, threads: int, size: str, seconds: float, rounds: int) -> None:
    """Print both rates and their ratio."""
    cv2.setNumThreads(1)
    image_bgr = np.asarray(cv2.resize(read_picture(PORTRAIT), parse_size(size)), dtype=np.uint8)
    modes = {
        mode: Detector.open(load_weights, threads=threads, backend="openvino", mode=mode)
        for mode in ("latency", "throughput")
    }
    fed, _ = prepare(image_bgr, modes["latency"].template)
    rates: dict[str, list[float]] = {"benchmark_app": [], **{mode: [] for mode in modes}}
    for detector in modes.values():
        detector.detect_batch([image_bgr] * 4)  # warm
    for _ in range(rounds):
        rates["benchmark_app"].append(app_rate(load_weights, fed.shape[:2], threads, seconds))
        for mode, detector in modes.items():
            rates[mode].append(detector_rate(detector, [image_bgr] * PICTURES, seconds))
    medians = {name: statistics.median(found) for name, found in rates.items()}
    click.echo(f"{load_weights.name}, pictures of {size} fed at {fed.shape[1]}x{fed.shape[0]}, {threads} thread(s)")
    for name, rate in medians.items():
        ratio = statistics.median(own / app for own, app in zip(rates[name], rates["benchmark_app"], strict=True))
        click.echo(f"{name:<14} {rate:7.1f} pictures/s  {ratio:.3f} of benchmark_app")


if __name__ == "__main__":
    run_command(main)
