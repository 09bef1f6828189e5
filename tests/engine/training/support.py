"""Pictures that a network learns in no time."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from facekit.labels.picture_labels import PictureLabels


def ellipse_pictures(folder: Path, count: int) -> list[PictureLabels]:
    """96 x 96 pixels, one bright ellipse each as face; made where they are not there yet."""
    rng = np.random.default_rng(0)
    side = 96
    pictures = []
    for number in range(count):
        x, y = rng.integers(4, side - 44, 2).tolist()
        image = np.full((side, side, 3), 40, np.uint8)
        cv2.ellipse(image, (x + 18, y + 20), (18, 20), 0, 0, 360, (220, 220, 220), thickness=-1)
        path = folder / f"{number}.png"
        if not path.exists():
            cv2.imwrite(str(path), image)
        points_xy = np.add([[[10.0, 15], [26, 15], [18, 22], [11, 30], [25, 30]]], [x, y])
        box_xywh = np.array([[x, y, 36, 40]], dtype=np.float64)
        pictures.append(PictureLabels(path, (side, side), box_xywh, points_xy, np.zeros(1, bool)))
    return pictures
