"""Pictures read while the network works on the ones before."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from facekit.errors import FacekitError
from facekit.pictures.headers import MAX_PIXELS
from facekit.pictures.read import picture_size, read_picture

PICTURES_AHEAD = 8
BYTES_AHEAD = 64 << 20  # of decoded pictures that wait; a larger one waits alone

Size = tuple[int, int] | None
T = TypeVar("T")
R = TypeVar("R")


def read_each(
    paths: Sequence[Path], sizes_wh: Sequence[Size] | None = None, workers: int = 2, max_pixels: int = MAX_PIXELS
) -> Generator[NDArray[np.uint8] | FacekitError, None, None]:
    """The pictures in their order, (H, W, 3) BGR uint8, decoded in `workers` threads: OpenCV decodes without Python's
    lock, and a thread, other than a process, needs no second copy of PyTorch (700 MB) and hands its picture over as it
    is. In the place of a picture that can't be read, or has another size than sizes_wh says, comes the reason."""
    jobs = zip(paths, sizes_wh or [None] * len(paths), strict=True)
    found = ahead(
        jobs, lambda job: read_picture(*job, max_pixels=max_pixels), lambda job: _decoded_bytes(*job), workers
    )
    with closing(found):
        for _, result in found:
            yield result


def ahead(
    jobs: Iterable[T], do: Callable[[T], R], cost: Callable[[T], int], workers: int = 2
) -> Generator[tuple[T, R | FacekitError], None, None]:
    """Each job with its result, in their order, done in `workers` threads a few jobs before it is asked for; in the
    place of a result a FacekitError that it raised. `cost`: bytes of the result, which BYTES_AHEAD bounds. Jobs are
    taken one by one, so there may be millions of them."""
    jobs = iter(jobs)
    following = next(jobs, None)
    waiting: deque[tuple[T, Future[R], int]] = deque()
    held = 0
    with ThreadPoolExecutor(max_workers=workers) as readers:
        try:
            while waiting or following is not None:
                while following is not None and len(waiting) < PICTURES_AHEAD:
                    size = cost(following)
                    if waiting and held + size > BYTES_AHEAD:
                        break
                    waiting.append((following, readers.submit(do, following), size))
                    held += size
                    following = next(jobs, None)
                job, future, size = waiting.popleft()
                held -= size
                try:
                    result: R | FacekitError = future.result()
                except FacekitError as error:
                    result = error
                del future  # holds the picture
                yield job, result
                del result
        finally:
            for _, future, _ in waiting:
                future.cancel()


def _decoded_bytes(path: Path, size_wh: Size) -> int:
    try:
        width, height = size_wh or picture_size(path)
    except FacekitError:  # reading it will say so, in its turn
        return 0
    return 3 * width * height
