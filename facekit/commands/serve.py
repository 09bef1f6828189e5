"""The serve command: a detector behind an HTTP address."""

from __future__ import annotations

import functools
import os
import socket
from pathlib import Path
from typing import Literal

from facekit.base.extras import optional_packages
from facekit.base.options import BACKEND, LAYOUT, THREADS, Runtime, command_options, option, takes
from facekit.base.reading import read_input
from facekit.commands.detect import MODEL
from facekit.commands.inputs import choose_model, passes_of
from facekit.errors import ArgumentError, FacekitError

TOKEN = "FACEKIT_TOKEN"
LEAST_TOKEN, MOST_TOKEN = 16, 4096  # characters


@command_options
class ServeOptions:
    """Options of serving."""

    model: str | None = option(MODEL, default=None)
    host: str = option("Address to listen on; 0.0.0.0 for all of this machine's.", default="127.0.0.1")
    port: int = option("Port; 0 for any that is free.", default=8000, least=0, most=65535)
    workers: int = option("Processes, each with the detector.", default=1, least=1, most=256)
    threshold: float | None = option(
        "Least score, where a request names none [0.5; 0.3 for covered faces].", default=None, least=0, most=1
    )
    longest_side: int | None = option(
        "Look at larger pictures scaled down to this longest side, in pixels.", default=None, least=32, most=1 << 15
    )
    batch_size: int = option(
        "Pictures of one size that go through the network together, where they wait.", default=1, least=1, most=64
    )
    queue: int = option(
        "Requests that a worker has in work or waiting; more are answered 503.", default=64, least=1, most=4096
    )
    max_bytes: int = option("Largest body, in bytes.", default=16 << 20, least=1024, most=1 << 30)
    max_pixels: int = option("Largest picture, in pixels, by its header.", default=50_000_000, least=1, most=1 << 30)
    timeout: float = option(
        "Seconds for a body to arrive, and again from there to the answer.", default=30.0, over=0, most=3600
    )
    token_file: Path | None = option(
        f"File with the token that requests must bear [the variable {TOKEN}, else none].", default=None, reads=True
    )
    page: bool = option(
        "A page at / that runs the detector, an .onnx, in the visitor's browser; fetches onnxruntime-web once (33 MB).",
        default=False,
    )
    log: Literal["text", "json"] = option("How requests are logged, on standard error.", default="text")
    threads: int | None = option(THREADS, default=None, least=1, most=1024)
    backend: Runtime | None = option(BACKEND, default=None)
    layout: str | None = option(LAYOUT, default=None, metavar="NAME")


@takes(ServeOptions)
def serve(options: ServeOptions) -> None:
    """Serves until SIGTERM or Ctrl-C, and raises Interrupted then, all that was begun being answered.

    Raises FacekitError for weights, a token or an address that can't be used.
    """
    token = read_token(options.token_file)
    if options.page and token is not None:
        raise ArgumentError("`page`: browsers send no token, so it would give the weights to anybody. Leave it out.")
    threads = options.threads
    if threads is None and options.workers > 1:
        from facekit.machine.cores import usable_cores

        threads = max(1, usable_cores() // options.workers)
    chosen = choose_model(options.model, threads, options.backend, options.layout)
    model = _page_model(chosen.weights)
    if options.page and model is None:
        raise ArgumentError("`page`: browsers run .onnx files of facekit's alone. Export one, and serve it.")
    with optional_packages():
        from facekit.serving.run import listen, serve_forever
        from facekit.serving.settings import Settings
    open_detector = functools.partial(chosen.open, passes_of(longest_side=options.longest_side))
    settings = Settings(
        threshold=options.threshold, max_bytes=options.max_bytes, max_pixels=options.max_pixels,
        timeout_s=options.timeout, queue=options.queue, batch_size=options.batch_size, token=token,
        page=options.page, model=model,
    )  # fmt: skip
    listener: socket.socket = listen(options.host, options.port)
    with listener:
        serve_forever(open_detector, settings, listener, options.workers, options.log)


def _page_model(weights: Path | None) -> Path | None:
    """The .onnx file that browsers are given; None: there is none."""
    from facekit.detector import BUNDLED_WEIGHTS

    found = BUNDLED_WEIGHTS if weights is None else weights
    return found if found.suffix.lower() == ".onnx" else None


def read_token(path: Path | None) -> str | None:
    """Of the file, or of the environment; None: there is neither. It is never shown.

    Raises FacekitError for one that is too short to keep anybody out, or that no header can bear.
    """
    if path is not None:
        try:
            token, source = read_input(path, MOST_TOKEN).decode("ascii").strip(), str(path)
        except UnicodeDecodeError:
            raise FacekitError(f"{path}: expected a token of ASCII letters, digits and signs.") from None
    elif TOKEN in os.environ:
        token, source = os.environ[TOKEN].strip(), TOKEN
    else:
        return None
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise ArgumentError(f"{source}: expected a token of ASCII letters, digits and signs, without spaces.")
    if not LEAST_TOKEN <= len(token) <= MOST_TOKEN:
        raise ArgumentError(
            f"{source}: a token of {len(token)} characters; expected {LEAST_TOKEN} to {MOST_TOKEN}. "
            f"Make one: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
        )
    return token
