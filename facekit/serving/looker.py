"""The thread that owns the detector: pictures come over a queue, those that wait go through the network together."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facekit.detector import Detector
from facekit.errors import FacekitError
from facekit.structures import Detections

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Job:
    image_bgr: NDArray[np.uint8]
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[Detections]
    given_up: asyncio.Event  # nobody waits any more


class Looker:
    """One detector, one thread: runtimes use the cores themselves, and not all may be called from several threads."""

    def __init__(self, detector: Detector, batch_size: int, note_batch: Callable[[int], None]) -> None:
        """note_batch: called with the number of pictures of each pass."""
        self.detector = detector
        self.batch_size = batch_size
        self.note_batch = note_batch
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="facekit-looker", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    async def look(self, image_bgr: NDArray[np.uint8], given_up: asyncio.Event) -> Detections:
        """The picture's faces, as Detector.detect finds them. Raises what that raises, and CancelledError for what is
        given up before it is looked at."""
        loop = asyncio.get_running_loop()
        job = _Job(image_bgr, loop, loop.create_future(), given_up)
        self._jobs.put(job)
        return await job.done

    def stop(self) -> None:
        """Ends the thread once what waits is done."""
        self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        ends = False
        while not ends:
            batch: list[_Job] = []
            while len(batch) < self.batch_size and not ends:
                try:
                    job = self._jobs.get(block=not batch)
                except queue.Empty:
                    break
                if job is None:
                    ends = True
                elif job.given_up.is_set():
                    _tell(job, None)
                else:
                    batch.append(job)
            if batch:
                self._look_at(batch)
            del batch

    def _look_at(self, batch: list[_Job]) -> None:
        self.note_batch(len(batch))
        try:
            found = self.detector.detect_batch([job.image_bgr for job in batch])
        except Exception as error:
            if len(batch) > 1:  # one of them may be the cause: the others are not to suffer
                for job in batch:
                    self._look_at([job])
                return
            shape = batch[0].image_bgr.shape
            if isinstance(error, FacekitError):
                log.warning("A picture of %s could not be looked at: %s", shape, error)
            else:
                log.exception("A picture of %s could not be looked at", shape)
            _tell(batch[0], error)
            return
        for job, faces in zip(batch, found, strict=True):
            _tell(job, faces)


def _tell(job: _Job, outcome: Detections | Exception | None) -> None:
    """outcome: None cancels."""

    def tell() -> None:
        if job.done.done():
            return
        if outcome is None:
            job.done.cancel()
        elif isinstance(outcome, Exception):
            job.done.set_exception(outcome)
        else:
            job.done.set_result(outcome)

    with contextlib.suppress(RuntimeError):  # the server has gone
        job.loop.call_soon_threadsafe(tell)
