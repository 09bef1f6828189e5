"""The page in a folder, a server for it on this machine, and Chromium with a camera that plays a file."""

from __future__ import annotations

import functools
import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import pytest

from facekit.detector import BUNDLED_WEIGHTS
from facekit.errors import FacekitError
from facekit.template import find_template, load_template
from facekit.web.page import ISOLATION, MODEL, TYPES, page_files
from facekit.web.runtime import fetch_runtime
from tests.pages.conftest import Browser, find_browser


class Handler(SimpleHTTPRequestHandler):
    extensions_map = TYPES

    def end_headers(self) -> None:
        for name, value in ISOLATION.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="session")
def runtime() -> dict[str, Path]:
    try:
        return fetch_runtime()
    except FacekitError as error:
        pytest.skip(f"needs onnxruntime-web in the cache, or the npm registry: {error}")


@pytest.fixture(scope="session")
def page_dir(tmp_path_factory: pytest.TempPathFactory, runtime: dict[str, Path]) -> Path:
    """The bundled detector's page."""
    folder = tmp_path_factory.mktemp("page")
    for name, content in page_files(load_template(find_template("yunet-n")), None, "MIT").items():
        (folder / name).write_bytes(content)
    for name, path in {MODEL: BUNDLED_WEIGHTS, **runtime}.items():
        shutil.copyfile(path, folder / name)
    return folder


@pytest.fixture(scope="session")
def host() -> Iterator[Callable[[Path], str]]:
    """Serves a folder; gives its address."""
    servers: list[ThreadingHTTPServer] = []

    def serve(folder: Path) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="session")
def camera_browser(tmp_path_factory: pytest.TempPathFactory, project_dir: Path) -> Iterator[Any]:
    """Chromium whose camera shows the portrait, 640x480, again and again."""
    program = find_browser()
    film = tmp_path_factory.mktemp("camera") / "portrait.mjpeg"
    portrait = cv2.imread(str(project_dir / "data" / "demo" / "astronaut.jpg"))
    frame = cv2.copyMakeBorder(portrait[:480], 0, 0, 64, 64, cv2.BORDER_CONSTANT)
    film.write_bytes(cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes() * 10)
    flags = (
        "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-video-capture={film}",
    )  # fmt: skip
    opened = Browser(program, tmp_path_factory.mktemp("browser"), flags)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Chromium."""
    opened = Browser(find_browser(), tmp_path_factory.mktemp("browser"))
    yield opened
    opened.close()
