"""What /metrics tells, in Prometheus' format; over all worker processes where there are several."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

SHARED_DIR = "PROMETHEUS_MULTIPROC_DIR"  # prometheus-client's own name: where several processes keep their figures
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
BATCHES = (1, 2, 4, 8, 16, 32, 64)

__all__ = ["CONTENT_TYPE_LATEST", "SHARED_DIR", "Measures"]


class Measures:
    """Counters of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own = self.registry
        self.requests = Counter("facekit_requests", "Requests that were answered.", ["path", "status"], registry=own)
        self.seconds = Histogram(
            "facekit_request_seconds", "From head to answer of /detect.", buckets=SECONDS, registry=own
        )
        self.faces = Counter("facekit_faces", "Faces found.", registry=own)
        self.pixels = Counter("facekit_pixels", "Pixels of pictures looked at.", registry=own)
        self.batch = Histogram("facekit_batch_pictures", "Pictures a pass.", buckets=BATCHES, registry=own)
        self.in_work = Gauge(
            "facekit_requests_in_work", "Requests that are in work or wait.", multiprocess_mode="livesum", registry=own
        )

    def text(self) -> bytes:
        """As it is scraped."""
        folder = os.environ.get(SHARED_DIR)
        if folder is None:
            return generate_latest(self.registry)
        from prometheus_client.multiprocess import MultiProcessCollector

        _forget_dead(Path(folder))
        shared = CollectorRegistry()
        MultiProcessCollector(shared)  # type: ignore[no-untyped-call]
        return generate_latest(shared)


def _forget_dead(folder: Path) -> None:
    """Of workers that have ended, what was true while they lived."""
    for path in folder.glob("gauge_live*.db"):
        process = re.search(r"_(\d+)\.db$", path.name)
        if process and not Path(f"/proc/{process[1]}").exists() and Path("/proc/self").exists():
            with suppress(OSError):
                path.unlink()
