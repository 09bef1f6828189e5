"""What a server allows connections, before the application is asked: their number, a head's bytes and seconds."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from http import HTTPStatus
from typing import Any

import h11
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from facekit.serving.refusal import Refusal, busy
from facekit.serving.settings import IDLE_S, MAX_CONNECTIONS, MAX_HEAD_BYTES

log = logging.getLogger(__name__)
Headers = list[tuple[bytes, bytes]]


class PatientProtocol(H11Protocol):
    """uvicorn's own, over h11: it bounds a head's bytes, which httptools doesn't; though not of one that comes in one
    piece. What uvicorn lacks is a bound on the seconds of a head: a client that sends a byte now and then would hold
    its connection for ever. And its own refusals are no JSON."""

    _watch: asyncio.TimerHandle | None = None

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.conn = h11.Connection(h11.SERVER, MAX_HEAD_BYTES)
        self._served, self.app = self.app, self._answer

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The application's, or a refusal."""
        refusal = None
        if len(self.connections) > MAX_CONNECTIONS:
            refusal = busy(f"There are over {MAX_CONNECTIONS} connections. Try again.")
        elif scope["http_version"] not in ("1.0", "1.1"):  # h11 takes HTTP/2's first line for a request
            refusal = _no_http()
        elif _head_bytes(scope) > MAX_HEAD_BYTES:
            refusal = _too_long()
        if refusal is None:
            await self._served(scope, receive, send)
            return
        log.warning("%s", refusal.reason)
        headers, body = _written(refusal)
        await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def send_400_response(self, msg: str) -> None:
        """Ends a connection with what is no HTTP, or too long; uvicorn calls this where h11 has raised an error."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):  # an answer is on its way
            self.transport.close()
            return
        is_long = getattr(sys.exception(), "error_status_hint", 0) == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        refusal = _too_long() if is_long else _no_http()
        headers, body = _written(refusal)
        head = h11.Response(status_code=refusal.status, headers=headers, reason=refusal.status.phrase.encode())
        for event in (head, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

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


def _head_bytes(scope: Scope) -> int:
    return len(scope["raw_path"]) + len(scope["query_string"]) + sum(len(n) + len(v) + 4 for n, v in scope["headers"])


def _no_http() -> Refusal:
    return Refusal(HTTPStatus.BAD_REQUEST, "Not a request of HTTP/1.1.")


def _too_long() -> Refusal:
    return Refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"The head is over the limit of {MAX_HEAD_BYTES} bytes.")


def _written(refusal: Refusal) -> tuple[Headers, bytes]:
    """Headers and body as the application's own, of an answer that ends its connection."""
    refusal.ends_connection = True
    body = json.dumps({"error": refusal.reason}).encode()
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **refusal.headers}
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()], body
