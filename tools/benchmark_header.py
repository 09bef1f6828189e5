"""How long the C++ header takes for a picture, beside ONNX Runtime's bare network, and libfacedetection by its ratio to
ONNX Runtime.

One thread, in turn, so that the machine's mood reaches all alike; the least CPU time of the rounds. The header's time
is from bytes to faces, ONNX Runtime's that of the network alone.
Usage: python tools/benchmark_header.py [--rounds 100] [NAME=WEIGHTS ...], such as yunet-s=yunet_s.pth
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
import cv2
import numpy as np
import onnxruntime

from facekit.detector import BUNDLED_WEIGHTS
from facekit.feed import prepare
from facekit.pictures.read import read_picture
from facekit.targets.cpp import HeaderBackend
from facekit.targets.reading.outputs import planes
from facekit.targets.writing.export import ExportSettings, export_weights
from facekit.template import Template, find_template, load_template

SIZES_WH = ((320, 240), (640, 480))
PICTURE = Path(__file__).resolve().parent.parent / "data" / "demo" / "astronaut.jpg"
# Its best build (commit acf7b25, Highway, native) and ONNX Runtime with yunet-s in one run on another machine with
# AVX-512, milliseconds: what libfacedetection takes here is ONNX Runtime's time here times their ratio.
LIBFACEDETECTION_MS = {(320, 240): (3.7, 1.75), (640, 480): (15.4, 6.7)}


def least_ms(jobs: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Of each job; the jobs take turns, and their order turns round, too."""
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for turn in range(rounds):
        for name in sorted(jobs, reverse=bool(turn % 2)):
            started = time.process_time()
            jobs[name]()
            times[name].append(1e3 * (time.process_time() - started))
    return {name: min(found) for name, found in times.items()}


def jobs_at(folder: Path, template: Template, size_wh: tuple[int, int]) -> dict[str, Callable[[], object]]:
    image_bgr = np.asarray(cv2.resize(read_picture(PICTURE), size_wh), dtype=np.uint8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
    blob = planes(prepare(image_bgr, template)[0][None])
    header = HeaderBackend(next((folder / "cpp").glob("*.hpp")), template, threads=1)
    return {"onnxruntime": lambda: session.run(None, {"image": blob}), "header": lambda: header.detect(image_bgr)}


@click.command()
@click.argument("detectors", nargs=-1)
@click.option("--rounds", default=100, show_default=True)
def main(detectors: tuple[str, ...], rounds: int) -> None:
    """Print a table: milliseconds and ratios."""
    click.echo(
        "| detector | picture | header, ms | ONNX Runtime, ms | header / ONNX Runtime | libfacedetection, by ratio |"
    )
    click.echo("| --- | --- | --- | --- | --- | --- |")
    for text in detectors or (f"yunet-n={BUNDLED_WEIGHTS.with_suffix('.pth')}",):
        name, _, weights = text.partition("=")
        template = load_template(find_template(name))
        with tempfile.TemporaryDirectory() as folder:
            export_weights(Path(weights), template, Path(folder), ExportSettings(("onnx", "cpp")))
            sizes = (template.input.size_hw[::-1],) if template.evaluation.feeds_one_size else SIZES_WH
            for size_wh in sizes:
                found = least_ms(jobs_at(Path(folder), template, size_wh), rounds)
                other = ""
                if name == "yunet-s":
                    theirs, runtimes = LIBFACEDETECTION_MS[size_wh]
                    ms = found["onnxruntime"] * theirs / runtimes
                    other = f"{ms:.1f} ms: {ms / found['header']:.1f} times the header's"
                ours, runtimes_ms = found["header"], found["onnxruntime"]
                size = f"{size_wh[0]}x{size_wh[1]}"
                click.echo(f"| {name} | {size} | {ours:.2f} | {runtimes_ms:.2f} | {ours / runtimes_ms:.2f} | {other} |")


if __name__ == "__main__":
    main()
