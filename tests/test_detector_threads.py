"""One detector in several threads: facekit.detector.Detector over runtimes that can and that can't do that."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from facekit.detector import Detector
from facekit.structures import Decoded
from facekit.targets import Backend
from facekit.template import TEMPLATES_DIR, load_template

YUNET = load_template(TEMPLATES_DIR / "yunet-n" / "template.yaml")


class OneRequest(Backend):
    """Says a picture's first pixel as the score, out of the one request that runtimes have."""

    fixed_size_hw: tuple[int, int] | None = None
    fixed_batch: int | None = 1

    def __call__(self, images_bgr: NDArray[np.uint8]) -> Decoded:
        self.request = images_bgr
        time.sleep(0.02)  # while another thread sets its own
        return a_face(self.request[0, 0, 0, 0] / 255)


class Meeting(Backend):
    """Comes back as soon as two threads are inside it."""

    fixed_size_hw: tuple[int, int] | None = None
    fixed_batch: int | None = 1
    is_parallel = True

    def __init__(self) -> None:
        self.both = threading.Barrier(2, timeout=30)

    def __call__(self, images_bgr: NDArray[np.uint8]) -> Decoded:
        self.both.wait()
        return a_face(0.5)


def a_face(score: float) -> Decoded:
    marks = np.zeros((1, 1, 10), dtype=np.float32)
    return Decoded(np.float32([[[8, 8, 24, 24]]]), np.float32([[score]]), marks)


def scores_by_threads(backend: Backend) -> list[float]:
    detector = Detector(backend, YUNET)
    pictures = [np.full((32, 32, 3), pixel, dtype=np.uint8) for pixel in (51, 102, 153, 204)]
    with ThreadPoolExecutor(2) as threads:
        return [round(float(found.scores[0]), 3) for found in threads.map(detector.detect, pictures)]


def test_each_thread_gets_its_own_pictures_faces() -> None:
    assert scores_by_threads(OneRequest()) == [0.2, 0.4, 0.6, 0.8]


def test_runtimes_that_can_run_several_pictures_at_the_same_time() -> None:
    assert scores_by_threads(Meeting()) == [0.5] * 4
    assert Detector.bundled(threads=1).backend.is_parallel
    assert not Detector.bundled(threads=1, backend="opencv").backend.is_parallel
