"""Pictures read while the network works on the ones before."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facekit.errors import FacekitError
from facekit.pictures.headers import MAX_PIXELS
from facekit.pictures.read import picture_size, read_picture

PICTURES_AHEAD = 8
BYTES_AHEAD = 64 << 20  # of decoded pictures that wait; a larger one waits alone

Size = tuple[int, int] | None


def read_each(
    paths: Sequence[Path], sizes_wh: Sequence[Size] | None = None, workers: int = 2, max_pixels: int = MAX_PIXELS
) -> Generator[NDArray[np.uint8] | FacekitError, None, None]:
    """The pictures in their order, (H, W, 3) BGR uint8, decoded in `workers` threads: OpenCV decodes without Python's
    lock, and a thread, other than a process, needs no second copy of PyTorch (700 MB) and hands its picture over as it
    is. In the place of a picture that can't be read, or has another size than sizes_wh says, comes the reason."""
    jobs = iter(zip(paths, sizes_wh or [None] * len(paths), strict=True))
    following = next(jobs, None)
    waiting: deque[tuple[Future[NDArray[np.uint8]], int]] = deque()
    held = 0
    with ThreadPoolExecutor(max_workers=workers) as readers:
        try:
            while waiting or following:
                while following and len(waiting) < PICTURES_AHEAD:
                    size = _decoded_bytes(*following)
                    if waiting and held + size > BYTES_AHEAD:
                        break
                    path, size_wh = following
                    waiting.append((readers.submit(read_picture, path, size_wh, max_pixels=max_pixels), size))
                    held += size
                    following = next(jobs, None)
                future, size = waiting.popleft()
                held -= size
                try:
                    result: NDArray[np.uint8] | FacekitError = future.result()
                except FacekitError as error:
                    result = error
                del future  # holds the picture
                yield result
                del result
        finally:
            for future, _ in waiting:
                future.cancel()


def _decoded_bytes(path: Path, size_wh: Size) -> int:
    try:
        width, height = size_wh or picture_size(path)
    except FacekitError:  # reading it will say so, in its turn
        return 0
    return 3 * width * height
