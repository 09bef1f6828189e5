"""Pictures a second of Detector's throughput mode beside OpenVINO's benchmark_app, on the same network and cores.

In turns, both with OpenVINO's hint THROUGHPUT in f32. benchmark_app runs the network alone; Detector goes from pictures
to faces: resizing, thresholds and suppression are in its rate. Beside the rates stands the processor's time a picture,
the least of the rounds, which what else the machine does touches less.
Usage: python tools/benchmark_throughput.py [--load-weights model.xml] [--threads 1] [--size 640x480]
"""

from __future__ import annotations

import json
import re
import resource
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
COUNTED = 100  # pictures, whose processor's time is counted


def run_app(weights: Path, fed_hw: tuple[int, int], threads: int, *until: str) -> tuple[float, float]:
    """Pictures a second of benchmark_app, and the processor's seconds that it took in all. Raises FacekitError where it
    gives no rate."""
    shape = f"[1,3,{fed_hw[0]},{fed_hw[1]}]"
    before_s = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.NamedTemporaryFile("w", suffix=".json") as config:  # its own flags go with no hint
        json.dump({"CPU": {"INFERENCE_NUM_THREADS": str(threads), "INFERENCE_PRECISION_HINT": "f32"}}, config)
        config.flush()
        command = [
            str(Path(sys.executable).with_name("benchmark_app")), "-m", str(weights), "-d", "CPU", "-hint",
            "throughput", "-load_config", config.name, "-shape", shape, *until,
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"Throughput:\s*([\d.]+) FPS", done.stdout)
    if found is None:
        raise FacekitError(f"{command[0]}: gives no rate: {(done.stdout + done.stderr).strip().splitlines()[-1]}")
    after_s = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent_s = after_s.ru_utime + after_s.ru_stime - before_s.ru_utime - before_s.ru_stime
    return float(found[1]), spent_s


def app_cost_ms(weights: Path, fed_hw: tuple[int, int], threads: int) -> float:
    """The processor's milliseconds of a picture in benchmark_app, its start left out."""
    few, many = (run_app(weights, fed_hw, threads, "-niter", str(count))[1] for count in (COUNTED, 3 * COUNTED))
    return 1e3 * (many - few) / (2 * COUNTED)


def detector_cost_ms(detector: Detector, pictures: list[np.ndarray]) -> float:
    """The processor's milliseconds of a picture, from pixels to faces."""
    started_s = time.process_time()
    detector.detect_batch(pictures)
    return 1e3 * (time.process_time() - started_s) / len(pictures)


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
    costs_ms: dict[str, list[float]] = {name: [] for name in rates}
    fed_hw = (fed.shape[0], fed.shape[1])
    for detector in modes.values():
        detector.detect_batch([image_bgr] * 4)  # warm
    for _ in range(rounds):
        rates["benchmark_app"].append(run_app(load_weights, fed_hw, threads, "-t", str(max(1, round(seconds))))[0])
        costs_ms["benchmark_app"].append(app_cost_ms(load_weights, fed_hw, threads))
        for mode, detector in modes.items():
            rates[mode].append(detector_rate(detector, [image_bgr] * PICTURES, seconds))
            costs_ms[mode].append(detector_cost_ms(detector, [image_bgr] * PICTURES))
    click.echo(f"{load_weights.name}, pictures of {size} fed at {fed_hw[1]}x{fed_hw[0]}, {threads} thread(s)")
    app = "benchmark_app"
    for name, found in rates.items():
        ratio = statistics.median(own / other for own, other in zip(found, rates[app], strict=True))
        cost_ms = min(costs_ms[name])
        click.echo(
            f"{name:<14} {statistics.median(found):7.1f} pictures/s, {ratio:.3f} of {app}; "
            f"{cost_ms:6.2f} ms of the processor a picture, {min(costs_ms[app]) / cost_ms:.3f}"
        )


if __name__ == "__main__":
    run_command(main)
