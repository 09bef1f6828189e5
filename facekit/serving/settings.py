"""What a server allows."""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from pathlib import Path

from facekit.base.options import COVERED_SCORE, FOUND_SCORE

MAX_HELD_BYTES = 256 << 20  # of bodies that have been received and not yet answered
MAX_DECODED_BYTES = 96 << 20  # of decoded pictures at a time; a larger one goes alone
MAX_CONNECTIONS = 512
MAX_HEAD_BYTES = 64 << 10  # of a request: its path, its query and its headers
IDLE_S = 15.0  # that a connection may be silent between requests, or within a request's head
STOP_S = 30.0  # that answers may take once the server is asked to stop
RETRY_AFTER_S = 1


@dataclass(frozen=True)
class Settings:
    """Limits and defaults; what must stay secret is not in its text."""

    threshold: float | None = None  # least score, where a request names none; None: 0.5, and 0.3 to cover faces
    max_bytes: int = 16 << 20  # of a request's body
    max_pixels: int = 50_000_000  # of a picture, by its header
    timeout_s: float = 30.0  # for a body to arrive; and again from there to the answer
    queue: int = 64  # requests that are worked on or wait
    batch_size: int = 1  # pictures that go through the network together
    token: str | None = field(default=None, repr=False)
    page: bool = False  # whether / runs the detector in the browser of whoever visits
    model: Path | None = None  # the file that the page takes

    def least_score(self, is_covering: bool) -> float:
        """Where a request names none."""
        if self.threshold is not None:
            return self.threshold
        return COVERED_SCORE if is_covering else FOUND_SCORE

    def allows(self, authorization: str | None) -> bool:
        """Whether the header `Authorization: Bearer TOKEN` is the right one; compared in constant time."""
        if self.token is None:
            return True
        scheme, _, given = (authorization or "").partition(" ")
        is_same = hmac.compare_digest(given.strip().encode(), self.token.encode())
        return is_same and scheme.lower() == "bearer"
