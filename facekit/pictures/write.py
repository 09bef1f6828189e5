"""Pictures into files."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from facekit.errors import FacekitError
from facekit.files import replacing
from facekit.pictures.read import PICTURE_SUFFIXES


def write_picture(path: Path, image_bgr: NDArray[np.uint8]) -> None:
    """Encodes by the suffix and writes whole or not at all. Raises FacekitError where that fails."""
    if path.suffix.lower() not in PICTURE_SUFFIXES:
        raise FacekitError(f"{path}: unknown kind of picture; expected one of {', '.join(PICTURE_SUFFIXES)}.")
    done, data = cv2.imencode(path.suffix, image_bgr)
    if not done:
        raise FacekitError(f"{path}: the picture can't be encoded as {path.suffix}. Choose .png or .jpg.")
    with replacing(path) as beside:
        beside.write_bytes(data.tobytes())
