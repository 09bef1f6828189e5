"""HEIC pictures, as iPhones take them: by pillow-heif, where it is installed."""

from __future__ import annotations

import importlib
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facekit.errors import FacekitError


def decode_heif(path: Path | str, data: bytes) -> NDArray[np.uint8] | None:
    """(H, W, 3) BGR uint8, turned as the file says; None for a damaged file.

    Raises FacekitError, which names path and remedies, without pillow-heif.
    """
    try:
        heif = importlib.import_module("pillow_heif")
    except ImportError as error:
        raise FacekitError(
            f"{path}: a HEIC picture, which needs pillow-heif: pip install pillow-heif, or make a JPEG of it."
        ) from error
    try:
        pixels = np.asarray(heif.open_heif(BytesIO(data), convert_hdr_to_8bit=True).to_pillow().convert("RGB"))
    except (ValueError, OSError, RuntimeError, EOFError, SyntaxError):  # what it raises for files that are damaged
        return None
    return np.ascontiguousarray(pixels[:, :, ::-1])
