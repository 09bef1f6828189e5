"""The C++ header in all its kinds: both compilers, each kind of vector, without a warning; the faces are Detector's;
and 10,000 pictures under sanitizers, in which no memory is lost.

Usage: python tools/verify_header.py NAME=WEIGHTS ..., such as yunet-n=yunet_n.pth [--pictures FOLDER]
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import click
import cv2
import numpy as np
from numpy.typing import NDArray

from facekit.detector import Detector
from facekit.pictures.read import read_picture
from facekit.targets.cpp import HeaderBackend
from facekit.targets.writing.check_pictures import drawn_faces, noise, portrait
from facekit.targets.writing.export import ExportSettings, export_weights
from facekit.targets.writing.verify import Differences, Tolerance, compare_faces
from facekit.template import Template, find_template, load_template

STRICT = ("-Wall", "-Wextra", "-Werror")
KINDS = {
    "native": ("-O3", "-march=native"),
    "native, threads": ("-O3", "-march=native", "-fopenmp"),
    "AVX2": ("-O3", "-mavx2", "-mfma"),
    "SSE2": ("-O3",),
    "plain C++": ("-O3", "-DFACEKIT_PLAIN"),
}
SANITIZERS = ("-O1", "-march=native", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
CHECK = Path(__file__).resolve().parent / "header_check.cpp"
ALLOWED = Tolerance(1e-3, 0.5)


def compare(header: HeaderBackend, detector: Detector, pictures: list[NDArray[np.uint8]]) -> tuple[int, Differences]:
    """How many faces there are, and how far they are apart at most."""
    faces, worst = 0, Differences()
    for image_bgr in pictures:
        expected = detector.detect(image_bgr)
        faces += len(expected)
        worst = worst.joined(
            compare_faces(expected, header.detect(image_bgr), 0.02 + detector.template.evaluation.score_threshold)
        )
    return faces, worst


def verify(
    template: Template, weights: Path, compilers: list[str], pictures: list[NDArray[np.uint8]], calls: int
) -> bool:
    """Prints a line a kind; whether all is well."""
    fine = True
    detector = Detector.open(weights, template, "cpu", threads=1)
    with tempfile.TemporaryDirectory() as folder:
        header = export_weights(weights, template, Path(folder), ExportSettings(("cpp",))).files[0]
        for compiler in compilers:
            for kind, flags in KINDS.items():
                opened = HeaderBackend(header, template, 2 if "threads" in kind else 1, (compiler, *flags, *STRICT))
                faces, worst = compare(opened, detector, pictures)
                fine &= worst.within(ALLOWED)
                click.echo(f"{template.name:<20} {compiler:<8} {kind:<16} {opened.vectors:<9} {faces} faces, {worst}")
            program = Path(folder) / f"check-{compiler}"
            subprocess.run([compiler, "-std=c++17", *SANITIZERS, *STRICT, f'-DHEADER="{header}"', CHECK, "-o", program],
                           check=True)  # fmt: skip
            done = subprocess.run([program, str(calls)], capture_output=True, text=True, check=False)
            fine &= done.returncode == 0
            click.echo(f"{template.name:<20} {compiler:<8} sanitizers: {done.stdout.strip()} {done.stderr[-2000:]}")
    return fine


@click.command()
@click.argument("detectors", nargs=-1, required=True)
@click.option("--pictures", "folder", type=click.Path(exists=True, path_type=Path), help="Own pictures to compare on.")
@click.option("--calls", default=10_000, show_default=True, help="Pictures under sanitizers.")
def main(detectors: tuple[str, ...], folder: Path | None, calls: int) -> None:
    """Print a line a header and kind; exit with 1 where one differs."""
    photo = read_picture(portrait())
    sizes = ((333, 251), (640, 480), (100, 300), (1, 1))
    pictures = [photo, noise(), drawn_faces(), *(np.asarray(cv2.resize(photo, size), dtype=np.uint8) for size in sizes)]
    pictures += [read_picture(path) for path in sorted(folder.rglob("*.jpg"))] if folder else []
    compilers = [name for name in ("g++", "clang++") if shutil.which(name)]
    results = []
    for text in detectors:
        name, _, weights = text.partition("=")
        results.append(verify(load_template(find_template(name)), Path(weights), compilers, pictures, calls))
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
