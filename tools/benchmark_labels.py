"""How long each label format takes to read: python tools/benchmark_labels.py [--faces 400000] [--pictures 13000]

Writes random faces for links to one small picture, in every format, and reads them back in this process.
"""

import shutil
import tempfile
import time
from pathlib import Path

import click
import cv2
import numpy as np

from facekit.cli import run_command
from facekit.labels.formats import FORMATS, WRITTEN, read_labels
from facekit.labels.layout import Named
from facekit.labels.picture_labels import PictureLabels

SIDE = 1000


@click.command()
@click.option("--faces", default=400_000, show_default=True)
@click.option("--pictures", default=13_000, show_default=True)
@click.option("--formats", default=",".join((*WRITTEN, "retinaface", "fddb")), show_default=True)
@click.option("--folder", type=click.Path(path_type=Path), help="Where to write [a temporary folder].")
def main(faces: int, pictures: int, formats: str, folder: Path | None) -> None:
    """Print seconds a format."""
    place = Path(tempfile.mkdtemp(dir=folder))
    try:
        named = draw_labels(place / "images", faces, pictures)
        for name in formats.split(","):
            source = write(name, place / f"as_{name}", named)
            start = time.process_time(), time.perf_counter()
            found = read_labels(source, place / "images" if source.is_file() else None)
            cpu_s, wall_s = time.process_time() - start[0], time.perf_counter() - start[1]
            count = sum(len(labels.boxes_xywh) for labels in found)
            click.echo(f"{name:<12} {count} faces of {len(found)} pictures: {cpu_s:5.1f} s CPU, {wall_s:5.1f} s")
    finally:
        shutil.rmtree(place)


def draw_labels(images: Path, faces: int, pictures: int) -> list[Named]:
    """Faces inside their pictures, all with landmarks and attributes."""
    rng = np.random.default_rng(0)
    images.mkdir(parents=True)
    first = images / "0.jpg"
    cv2.imwrite(str(first), np.zeros((SIDE, SIDE, 3), np.uint8))
    named = []
    for index, rows in enumerate(np.array_split(rng.uniform(1, SIDE / 2, (faces, 14)).round(3), pictures)):
        path = images / f"{index}.jpg"
        if index:
            path.hardlink_to(first)
        attributes = np.zeros((len(rows), 6), np.int8)
        crowds = np.zeros(len(rows), bool)
        points = rows[:, 4:].reshape(-1, 5, 2)
        labels = PictureLabels(path, (SIDE, SIDE), rows[:, :4], points, crowds, attributes, path.name)
        named.append((path.name, labels))
    return named


def write(name: str, target: Path, named: list[Named]) -> Path:
    """The set in a format; those that facekit doesn't write are written here."""
    if name in ("retinaface", "fddb"):
        target.write_text("".join(retinaface(*pair) if name == "retinaface" else fddb(*pair) for pair in named))
        return target
    row = FORMATS[name]
    if row.write_file is not None:
        row.write_file(target, named)
    elif row.write_folder is not None:
        row.write_folder(target, {"train": named}, "link")
    return target


def retinaface(name: str, labels: PictureLabels) -> str:
    rows = np.concatenate([labels.boxes_xywh, labels.landmarks_xy.reshape(-1, 10)], axis=1).tolist()
    lines = [
        " ".join(map(str, [*row[:4], *(v for i in range(4, 14, 2) for v in (row[i], row[i + 1], 0.0)), 0.5]))
        for row in rows
    ]
    return "\n".join([f"# {name}", *lines]) + "\n"


def fddb(name: str, labels: PictureLabels) -> str:
    lines = [f"{w / 2} {h / 2} 0.0 {x + w / 2} {y + h / 2}  1" for x, y, w, h in labels.boxes_xywh.tolist()]
    return "\n".join([name.removesuffix(".jpg"), str(len(lines)), *lines]) + "\n"


if __name__ == "__main__":
    run_command(main)
