"""Pictures in memory, as Python callers hand them over."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from facekit.base.urls import is_address
from facekit.errors import ArgumentError
from facekit.pictures.read import read_picture

Picture = NDArray[Any] | str | os.PathLike[str]
NARROW = 1 << 12  # what sensors of 12 bits reach, in 16 bits; a sixteenth of the range
EXPECTED = "expected a path, or an array (height, width, 3) of uint8, BGR, 0..255, as cv2.imread gives"


def as_bgr(picture: Picture) -> NDArray[np.uint8]:
    """(H, W, 3) BGR uint8 of a path, or of an array whose meaning is sure: grey (H, W) or (H, W, 1), BGRA (H, W, 4),
    whose alpha is dropped, and uint16, whose range is 0..65535.

    Raises TypeError for what is no picture or has another type, ValueError for another shape, and FacekitError for a
    file that can't be read.
    """
    if isinstance(picture, str | os.PathLike):
        if is_address(picture):
            raise ArgumentError(
                f"{picture}: addresses are not read here, but by facekit.detect(). Or save it to a file first."
            )
        return read_picture(Path(picture))
    if not isinstance(picture, np.ndarray):
        hint = " cv2.imread gives None for a file that it can't read." if picture is None else ""
        raise TypeError(f"{EXPECTED}; got {type(picture).__name__}.{hint}")
    shape, channels = picture.shape, picture.shape[2] if picture.ndim == 3 else 1
    if picture.ndim not in (2, 3) or channels not in (1, 3, 4) or 0 in shape:
        hint = " Channels come last: transpose it." if picture.ndim == 3 and shape[0] in (1, 3) else ""
        raise ValueError(f"{EXPECTED}; got {picture.dtype} of shape {shape}.{hint}")
    if picture.dtype.newbyteorder("=") == np.uint16:
        if 0 < (highest := int(picture.max())) < NARROW:
            warnings.warn(
                f"a uint16 picture whose highest value is {highest}: its range is taken for 0..65535, so it is all but "
                f"black. Of a camera of 10 or 12 bits shift it to 16 first.",
                stacklevel=3,
            )
        picture = (picture >> 8).astype(np.uint8)
    elif picture.dtype != np.uint8:
        low, high = (picture.min(), picture.max()) if picture.dtype.kind in "fiu" else ("?", "?")
        raise TypeError(
            f"{EXPECTED}; got {picture.dtype} from {low} to {high}. Bring it to 0..255 and cast it: of 0..1, "
            f"(255 * picture).astype(numpy.uint8)."
        )
    if channels == 1:
        picture = cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR)
    elif channels == 4:
        picture = cv2.cvtColor(picture, cv2.COLOR_BGRA2BGR)
    return np.asarray(picture, dtype=np.uint8)
