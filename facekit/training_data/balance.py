"""How often each picture is learnt from: data sets gather some kinds of pictures by the hundred, and others hardly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from facekit.labels.picture_labels import PictureLabels


def folder_of(picture: PictureLabels) -> str:
    """What the picture's data set sorted it under: WIDER FACE's event, say; without a name, the folder it lies in."""
    if picture.name is None:
        return picture.path.parent.name
    return PurePosixPath(picture.name).parent.as_posix()


def folder_shares(pictures: Sequence[PictureLabels], balance: float) -> NDArray[np.float64]:
    """(N,) each picture's share of what is learnt from, 1 in all: (pictures of its folder) ** -balance, scaled.

    balance 0: all pictures alike; 1: all folders alike; 0.5: a folder with four times as many pictures comes twice as
    often. Folders of one name under several data roots are one.
    """
    folders = [folder_of(picture) for picture in pictures]
    counts = Counter(folders)
    shares = np.array([counts[folder] ** -balance for folder in folders], dtype=np.float64)
    scaled: NDArray[np.float64] = shares / shares.sum()
    return scaled


def systematic_draws(shares: NDArray[np.float64], count: int, start: float) -> NDArray[np.int64]:
    """(count,) indices of pictures, each as often as its share of count, rounded up or down; start: a number drawn from
    0..1 that decides which way (systematic sampling: Madow, Annals of Mathematical Statistics, 1949).

    The k-th time that picture i comes its index is i + k * N, for the draws of each time to differ.
    """
    ends = np.floor(np.cumsum(shares) / shares.sum() * count + start).astype(np.int64)
    ends[-1] = count  # whatever rounding did
    times = np.diff(ends, prepend=0)
    first = np.repeat(ends - times, times)
    draws: NDArray[np.int64] = np.repeat(np.arange(len(shares)), times) + (np.arange(count) - first) * len(shares)
    return draws
