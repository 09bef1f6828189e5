"""Torch tensors and NumPy arrays through the same lines."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from facekit.structures import Array


def array_namespace(array: Array) -> Any:
    """The functions of the array API standard (2024.12) for an array of that kind.

    NumPy 2 is such a namespace itself; PyTorch needs array-api-compat, which is not imported before a tensor comes by
    (for NumPy it would take a quarter of a second, since it imports all of it).
    """
    if isinstance(array, np.ndarray):
        return np
    import array_api_compat

    return array_api_compat.array_namespace(array)


def as_numpy(array: Array) -> NDArray[Any]:
    """A tensor of any device, or an array, as a NumPy array."""
    return array if isinstance(array, np.ndarray) else array.detach().cpu().numpy()
