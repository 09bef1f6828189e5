"""From a detector to a process that serves, or several."""

from __future__ import annotations

import errno
import logging
import os
import signal
import socket
import tempfile
from collections.abc import Callable

from facekit.detector import Detector
from facekit.errors import FacekitError, Interrupted
from facekit.serving.connections import PatientProtocol
from facekit.serving.journal import Format, start_journal
from facekit.serving.measures import SHARED_DIR
from facekit.serving.settings import IDLE_S, STOP_S, Settings
from facekit.serving.site import fetch_runtime_meanwhile
from facekit.serving.workers import Signals, noting_signals, run_workers

log = logging.getLogger(__name__)

OWN_ADDRESS = "Give one of this machine's, such as 127.0.0.1, or 0.0.0.0 for all of them."
BACKLOG = 1024  # connections that the system holds for us


def listen(host: str, port: int) -> socket.socket:
    """A socket that is bound and inherited by workers. Raises FacekitError where the address can't be had."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (OSError, UnicodeError) as error:
        raise FacekitError(f"`host={host}`: there is no such address ({_reason(error)}). {OWN_ADDRESS}") from error
    try:
        listener = socket.socket(found[0], socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(found[4])
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            raise FacekitError(f"`host={host}`: not an address of this machine. {OWN_ADDRESS}") from error
        raise FacekitError(
            f"`host={host}`: can't serve on port {port} there ({_reason(error)}). "
            "Choose another `port`, or end what has it."
        ) from error
    listener.set_inheritable(True)
    return listener


def _reason(error: Exception) -> object:
    return getattr(error, "strerror", None) or error


def serve_forever(
    open_detector: Callable[[], Detector],
    settings: Settings,
    listener: socket.socket,
    workers: int = 1,
    journal: Format = "text",
) -> None:
    """Serves until SIGTERM or SIGINT; then answers what it has begun, and raises Interrupted.

    open_detector: called in each worker; must be picklable where there are several. Raises FacekitError for weights
    that can't be opened, before anything is served.
    """
    start_journal(journal)
    place = _address(listener)
    with noting_signals() as signals:
        if settings.page:
            fetch_runtime_meanwhile()
        detector = open_detector()  # where there are workers, too: what is wrong with it is one line then
        if workers == 1:
            log.info("Listening on %s", place)
            _serve(detector, settings, listener, signals)
        else:
            del detector
            with tempfile.TemporaryDirectory(prefix="facekit-serve-") as folder:
                os.environ[SHARED_DIR] = folder
                log.info("Listening on %s, %d workers", place, workers)
                run_workers(workers, work, (open_detector, settings, listener, journal), signals)
    raise Interrupted("Stopped; all that was begun is answered.", signals.received or signal.SIGTERM)


def work(open_detector: Callable[[], Detector], settings: Settings, listener: socket.socket, journal: Format) -> None:
    """One of several workers."""
    start_journal(journal)
    with noting_signals() as signals:
        _serve(open_detector(), settings, listener, signals)


def _serve(detector: Detector, settings: Settings, listener: socket.socket, signals: Signals) -> None:
    import uvicorn

    from facekit.serving.app import create_app

    config = uvicorn.Config(
        create_app(detector, settings), http=PatientProtocol, ws="none", lifespan="on", log_config=None,
        access_log=False, server_header=False, proxy_headers=False,
        timeout_keep_alive=int(IDLE_S), timeout_graceful_shutdown=int(STOP_S), backlog=BACKLOG,
    )  # fmt: skip
    server = uvicorn.Server(config)

    def stop() -> None:
        server.should_exit = True

    # uvicorn takes the signals when it runs: one that came before, while the detector was opened, counts too.
    signals.on_signal = stop
    if signals.received:
        stop()
    server.run(sockets=[listener])


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
