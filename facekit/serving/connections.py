"""Connections that say nothing are closed: between requests, and in the middle of a request's head."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from facekit.serving.settings import IDLE_S


class PatientProtocol(H11Protocol):
    """uvicorn's own, over h11: it bounds a head's bytes, which httptools doesn't. What uvicorn lacks is a bound on the
    seconds of a head: a client that sends a byte now and then would hold its connection for ever."""

    _watch: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._watch = self.loop.call_later(IDLE_S, self._look, self.cycle)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._watch is not None:
            self._watch.cancel()
        super().connection_lost(exc)

    def _look(self, before: object) -> None:
        """`before`: the request at the last look. Closes where no new one has begun since, and none is being answered;
        a body's seconds are counted by who reads it."""
        is_answering = self.cycle is not None and not self.cycle.response_complete
        if not is_answering and self.cycle is before:
            self.transport.close()
            return
        self._watch = self.loop.call_later(IDLE_S, self._look, self.cycle)
