"""Measures size and speed of the exported templates: python tools/measure_speed.py [--record]

For each template whose published weights lie in FACEKIT_SHARED or ../shared: model.onnx is exported, and the portrait
of data/demo, stretched to 640x480, goes from picture to faces on one thread of ONNX Runtime. Counted is the least
processor's time of all rounds, which on an idle machine is the clock's. --record puts the figures into speed.yaml
beside the templates, from where tools/zoo_table.py takes them.
"""

from __future__ import annotations

import os
import tempfile
import time
from importlib import metadata
from pathlib import Path

import click
import cv2
import torch
import yaml

from facekit import Detector
from facekit.base.files import write_text
from facekit.cli import run_command
from facekit.machine.environment import environment
from facekit.pictures.read import as_uint8, read_picture
from facekit.targets.writing.export import ExportSettings, export_weights
from facekit.template import find_template, load_template

PROJECT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("FACEKIT_SHARED", PROJECT.parent / "shared")) / "weights"
FOLDER = PROJECT / "model_templates" / "face-detection"
SIZE_WH = (640, 480)
WARM_UP, REPEATS = 5, 50


@click.command()
@click.option("--record", is_flag=True, help="Write speed.yaml of model_templates.")
@click.option("--templates", help="Only these, comma-separated [those with measured AP].")
def main(record: bool, templates: str | None) -> None:
    """Print KB and milliseconds of each template."""
    measured = yaml.safe_load((FOLDER / "measured.yaml").read_text(encoding="utf-8"))
    image_bgr = as_uint8(cv2.resize(read_picture(PROJECT / "data" / "demo" / "astronaut.jpg"), SIZE_WH))
    rows: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="facekit-speed-") as scratch:
        detectors = {}
        for name in templates.split(",") if templates else measured:
            template = load_template(find_template(name))
            weights = SHARED / measured[name][0]["weights"]
            (path,) = export_weights(weights, template, Path(scratch) / name, ExportSettings(("onnx",))).files
            rows[name] = {"onnx_bytes": path.stat().st_size}
            detectors[name] = Detector.open(path, template, threads=1)
        times_s: dict[str, list[float]] = {name: [] for name in detectors}
        for round_number in range(WARM_UP + REPEATS):  # in turns, so that what else the machine does meets all alike
            for name, detector in detectors.items():
                started_s = time.process_time()
                detector.detect(image_bgr)
                if round_number >= WARM_UP:
                    times_s[name].append(time.process_time() - started_s)
    for name, row in rows.items():
        row["ms"] = round(1e3 * min(times_s[name]), 2)
        click.echo(f"{name:<32} {row['onnx_bytes'] / 1000:8.0f} KB {row['ms']:8.2f} ms")
    if record:
        content = {
            "command": "python tools/measure_speed.py",
            "picture": f"{SIZE_WH[0]}x{SIZE_WH[1]}",
            "runtime": f"ONNX Runtime {metadata.version('onnxruntime')}",
            "machine": environment(torch.device("cpu")).cpu,
            "repeats": REPEATS,
            "templates": rows,
        }
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
        write_text(FOLDER / "speed.yaml", f"# Written by tools/measure_speed.py --record\n{text}")


if __name__ == "__main__":
    run_command(main)
