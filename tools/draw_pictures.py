"""Draws small pictures with cartoon faces, exact boxes and landmarks, from a seed: data that anybody may have.

python tools/draw_pictures.py FOLDER [--pictures 64] [--seed 0] [--size 320]
writes FOLDER/images/*.jpg and FOLDER/annotations.json (COCO with keypoints).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
from numpy.typing import NDArray

SKIN_BGR = ((150, 180, 230), (120, 150, 205), (95, 125, 180), (70, 95, 140), (50, 70, 105), (175, 200, 240))
HAIR_BGR = ((20, 20, 25), (30, 45, 70), (60, 110, 160), (50, 60, 150), (170, 170, 175))
DISTRACTORS = 10


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--pictures", default=64, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--size", default=320, show_default=True, help="Longest side, pixels.")
def main(folder: Path, pictures: int, seed: int, size: int) -> None:
    """Draw PICTURES pictures into FOLDER."""
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(pictures):
        height, width = (size, int(size * rng.uniform(0.6, 1.0)))[:: 1 if rng.random() < 0.5 else -1]
        canvas = draw_background(height, width, rng)
        name = f"images/{number:05d}.jpg"
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        # One picture in ten has no face.
        wanted = 0 if rng.random() < 0.1 else int(rng.integers(1, 8))
        taken: list[NDArray[np.float64]] = []
        for _ in range(wanted):
            face_height = float(np.exp(rng.uniform(np.log(14), np.log(0.6 * min(height, width)))))
            centre = rng.uniform((0.3 * face_height,) * 2, (width - 0.3 * face_height, height - 0.3 * face_height))
            if any(np.abs(other[:2] - centre).max() < 0.6 * (other[2] + face_height) for other in taken):
                continue
            taken.append(np.array([*centre, face_height]))
            box, points = draw_face(canvas, centre, face_height, rng)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": 1,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                    "keypoints": [value for x, y in points for value in (x, y, 2)],
                    "num_keypoints": 5,
                }
            )
        cv2.imwrite(str(folder / name), soften(canvas, rng), [cv2.IMWRITE_JPEG_QUALITY, 92])
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "face"}]}
    (folder / "annotations.json").write_text(json.dumps(content), encoding="utf-8")
    click.echo(f"{folder}: {pictures} pictures, {len(annotations)} faces")


def draw_background(height: int, width: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A colour gradient with shapes that are no faces: plain discs, boxes, lines, and faces' parts on their own."""
    corners = rng.integers(20, 235, size=(2, 2, 3)).astype(np.uint8)
    canvas = np.asarray(cv2.resize(corners, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
    for _ in range(int(rng.integers(2, DISTRACTORS))):
        x, y = (int(v) for v in rng.uniform((0, 0), (width, height)))
        radius = int(rng.uniform(4, 0.25 * min(height, width)))
        colour = [int(v) for v in rng.integers(0, 255, 3)]
        kind = rng.integers(5)
        if kind == 0:
            cv2.ellipse(canvas, (x, y), (int(radius * 0.75), radius), 0, 0, 360, SKIN_BGR[rng.integers(6)], cv2.FILLED)
        elif kind == 1:
            cv2.rectangle(canvas, (x, y), (x + radius, y + 2 * radius), colour, cv2.FILLED)
        elif kind == 2:
            cv2.line(canvas, (x, y), (x + 3 * radius, y - radius), colour, 1 + radius // 8, cv2.LINE_AA)
        elif kind == 3:
            cv2.circle(canvas, (x, y), radius, colour, cv2.FILLED, cv2.LINE_AA)
        else:
            for side in (-1, 1):
                cv2.circle(canvas, (x + side * radius // 3, y), max(1, radius // 8), (20, 20, 20), cv2.FILLED)
    return canvas


def draw_face(
    canvas: NDArray[np.uint8], centre: NDArray[np.float64], height: float, rng: np.random.Generator
) -> tuple[list[float], list[tuple[float, float]]]:
    """Draws in place; returns the box (x, y, w, h) clipped to the picture, and the five landmarks."""
    tilt = rng.uniform(-25, 25)
    cosine, sine = np.cos(np.radians(tilt)), np.sin(np.radians(tilt))
    turn = rng.uniform(-0.08, 0.08)  # the features' shift to one side, of the height

    def place(x: float, y: float) -> tuple[float, float]:
        """Face coordinates (of the height, from the centre) to the picture."""
        x, y = height * x, height * y
        return float(centre[0] + cosine * x - sine * y), float(centre[1] + sine * x + cosine * y)

    def blob(at: tuple[float, float], half_w: float, half_h: float, colour: tuple[int, ...], end: int = 360) -> None:
        # Coordinates in sixteenths of a pixel, or small faces would jump about.
        middle = (round(16 * at[0]), round(16 * at[1]))
        axes = (max(8, round(16 * height * half_w)), max(8, round(16 * height * half_h)))
        cv2.ellipse(canvas, middle, axes, tilt, 0, end, colour, cv2.FILLED, cv2.LINE_AA, 4)

    half_width = rng.uniform(0.36, 0.42)
    skin = SKIN_BGR[rng.integers(len(SKIN_BGR))]
    dark = tuple(int(0.62 * value) for value in skin)
    if rng.random() < 0.8:
        blob(place(0, -0.14), half_width + 0.06, 0.46, HAIR_BGR[rng.integers(len(HAIR_BGR))])
    blob(place(0, 0), half_width, 0.5, skin)
    eyes = [place(side * 0.17 + turn, -0.1) for side in (-1, 1)]
    for eye in eyes:
        blob(eye, 0.075, 0.045, (245, 245, 245))
        blob(eye, 0.035, 0.04, (35, 30, 25))
    nose = place(turn * 1.4, 0.08)
    blob(nose, 0.045, 0.07, dark)
    mouth_y, mouth_half = 0.26, rng.uniform(0.1, 0.16)
    blob(place(turn, mouth_y), mouth_half, rng.uniform(0.02, 0.07), (70, 60, 170), 180)
    mouth = [place(side * mouth_half + turn, mouth_y) for side in (-1, 1)]

    # The exact bounding box of a tilted ellipse.
    half_box_w = height * np.hypot(half_width * cosine, 0.5 * sine)
    half_box_h = height * np.hypot(half_width * sine, 0.5 * cosine)
    x1, y1 = max(0.0, centre[0] - half_box_w), max(0.0, centre[1] - half_box_h)
    x2 = min(float(canvas.shape[1]), centre[0] + half_box_w)
    y2 = min(float(canvas.shape[0]), centre[1] + half_box_h)
    box = [round(float(value), 3) for value in (x1, y1, x2 - x1, y2 - y1)]
    return box, [(round(x, 3), round(y, 3)) for x, y in (*eyes, nose, *mouth)]


def soften(canvas: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Blur, light and noise of a cheap camera."""
    blurred = cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.3, 1.0))
    noisy = blurred * rng.uniform(0.6, 1.15) + rng.normal(0, rng.uniform(1, 8), canvas.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


if __name__ == "__main__":
    main()
