"""Around all routes: each request is counted, timed and logged, and a fault of ours ends in one line for the client."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from facekit.serving.journal import EXTRA, REQUESTS

log = logging.getLogger(__name__)
requests_log = logging.getLogger(REQUESTS)

FAULT = json.dumps({"error": "The server failed; its log says why."}).encode()
Note = Callable[[str, int, float], None]  # path, status, seconds


class Watch:
    """ASGI middleware; FastAPI's own kind costs each request a task and a queue more."""

    def __init__(self, app: ASGIApp, paths: frozenset[str], note: Note) -> None:
        """paths: known ones; of all others no figures are kept, for clients make them up."""
        self.app = app
        self.paths = paths
        self.note = note

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0
        # What stands behind such a request may have been smuggled past a proxy (RFC 9112, 6.1).
        ends_connection = {name for name, _ in scope["headers"]} >= {b"content-length", b"transfer-encoding"}

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-content-type-options", b"nosniff")]
                if ends_connection:
                    message["headers"].append((b"connection", b"close"))
            await send(message)

        scope.setdefault("state", {})
        try:
            await self.app(scope, receive, sending)
        except Exception:
            log.exception("A request failed")
            if status:
                raise
            headers = [(b"content-type", b"application/json"), (b"content-length", str(len(FAULT)).encode())]
            code = HTTPStatus.INTERNAL_SERVER_ERROR
            await sending({"type": "http.response.start", "status": code, "headers": headers})
            await send({"type": "http.response.body", "body": FAULT})
        finally:
            seconds = time.perf_counter() - started
            self.note(scope["path"] if scope["path"] in self.paths else "other", status, seconds)
            _log(scope, status, seconds)


def _log(scope: Scope, status: int, seconds: float) -> None:
    state: dict[str, Any] = scope["state"]
    facts = {
        "method": scope["method"], "path": scope["path"][:100], "status": status, "ms": round(1e3 * seconds, 1),
        "client": scope["client"][0] if scope.get("client") else "", **state.get("facts", {}),
    }  # fmt: skip
    requests_log.info(state.get("reason", "answered"), extra={EXTRA: facts})
