"""The pictures that exported files are compared with PyTorch on: a portrait, drawn faces, noise."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from facekit.base.installation import demo_dir
from facekit.errors import FacekitError
from facekit.pictures.read import read_picture

PORTRAIT = "astronaut.jpg"  # NASA's, in the public domain
DRAWN_HW, NOISE_HW = (192, 352), (160, 131)  # unlike each other, and no multiples of strides
MOST_OWN = 100  # pictures


def check_pictures(own: Sequence[Path] = ()) -> dict[str, NDArray[np.uint8]]:
    """Name -> (H, W, 3) BGR. `own`: files beside the portrait, the drawn faces and the noise.

    Raises FacekitError for one that can't be read, and for too many.
    """
    if len(own) > MOST_OWN:
        raise FacekitError(f"`check_pictures`: expected at most {MOST_OWN} pictures, got {len(own)}.")
    pictures = {"portrait": read_picture(portrait()), "drawn faces": drawn_faces(), "noise": noise()}
    return pictures | {str(path): read_picture(path) for path in own}


def portrait() -> Path:
    """The file that comes with facekit."""
    return demo_dir() / PORTRAIT


def noise() -> NDArray[np.uint8]:
    """The same at every call; the three channels are unlike, so that swapped ones can't pass."""
    return np.random.default_rng(0).integers(0, 256, (*NOISE_HW, 3), dtype=np.uint8)


def drawn_faces() -> NDArray[np.uint8]:
    """Four plain faces of different sizes on a gradient."""
    height, width = DRAWN_HW
    corners = np.array([[[200, 90, 60], [60, 160, 90]], [[40, 60, 150], [220, 210, 160]]], dtype=np.uint8)
    canvas = np.asarray(cv2.resize(corners, (width, height)), dtype=np.uint8)
    for x, y, tall in ((60, 84, 96), (160, 120, 60), (230, 60, 36), (296, 104, 120)):
        _oval(canvas, x, y - tall // 8, 0.44 * tall, 0.48 * tall, (30, 45, 70))
        _oval(canvas, x, y, 0.38 * tall, 0.5 * tall, (150, 180, 230))
        for side in (-1, 1):
            _oval(canvas, x + side * 0.17 * tall, y - 0.1 * tall, 0.075 * tall, 0.045 * tall, (245, 245, 245))
            _oval(canvas, x + side * 0.17 * tall, y - 0.1 * tall, 0.035 * tall, 0.04 * tall, (35, 30, 25))
        _oval(canvas, x, y + 0.08 * tall, 0.045 * tall, 0.07 * tall, (95, 112, 143))
        _oval(canvas, x, y + 0.26 * tall, 0.14 * tall, 0.05 * tall, (70, 60, 170))
    return canvas


def _oval(canvas: NDArray[np.uint8], x: float, y: float, half_w: float, half_h: float, bgr: tuple[int, ...]) -> None:
    axes = (max(1, round(half_w)), max(1, round(half_h)))
    cv2.ellipse(canvas, (round(x), round(y)), axes, 0, 0, 360, bgr, cv2.FILLED, cv2.LINE_AA)
