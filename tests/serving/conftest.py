"""A server in a thread of this process, and a plain socket to misbehave with."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from facekit.detector import Detector
from facekit.serving.app import create_app
from facekit.serving.connections import PatientProtocol
from facekit.serving.run import listen
from facekit.serving.service import Service
from facekit.serving.settings import Settings


@dataclass
class Running:
    """A server that listens."""

    port: int
    client: httpx.Client
    service: Service

    def raw(self, *parts: bytes, pause_s: float = 0.0, timeout_s: float = 30.0) -> bytes:
        """Sends the parts as they are, then reads until the server closes or is silent."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout_s) as connection:
            with contextlib.suppress(OSError):
                for part in parts:
                    connection.sendall(part)
                    time.sleep(pause_s)
            answer = b""
            with contextlib.suppress(OSError):
                while chunk := connection.recv(1 << 16):
                    answer += chunk
            return answer


@pytest.fixture(scope="session")
def detector() -> Detector:
    return Detector.bundled(threads=1)


@pytest.fixture(scope="session")
def start(detector: Detector) -> Iterator[Callable[..., Running]]:
    with contextlib.ExitStack() as stack:

        def begin(wrapped: Any = None, **settings: Any) -> Running:
            app = create_app(wrapped or detector, Settings(**settings))
            listener = listen("127.0.0.1", 0)
            config = uvicorn.Config(
                app, http=PatientProtocol, ws="none", lifespan="on", log_config=None, access_log=False
            )  # fmt: skip
            server = uvicorn.Server(config)
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
            thread.start()
            while not server.started:
                time.sleep(0.01)
            port = listener.getsockname()[1]
            client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False)

            def stop() -> None:
                client.close()
                server.should_exit = True
                thread.join()

            stack.callback(stop)
            return Running(port, client, app.state.service)

        yield begin


@pytest.fixture(scope="session")
def running(start: Callable[..., Running]) -> Running:
    return start(max_bytes=1 << 20, max_pixels=2_000_000)


@pytest.fixture(scope="session")
def portrait(project_dir: Path) -> bytes:
    return (project_dir / "data" / "demo" / "astronaut.jpg").read_bytes()
