"""Fixtures that several test files use."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

# Workers of pytest-xdist share the cores: one thread each, said before anything imports torch.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

from facekit.base import download
from facekit.detector import BUNDLED_WEIGHTS

PROJECT = Path(__file__).resolve().parent.parent

# What a shell starts in the background ignores Ctrl-C, and so does all that it starts: some tests press it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Files of a minute and more: with these at the end one core would stand idle.
LONGEST_FIRST = (
    "tests/docs/test_walkthrough.py", "tests/cluster/test_run.py", "tests/test_wheel.py", "tests/targets/test_cpp.py",
    "tests/engine/compress/test_post_training.py", "tests/tools/test_verify_gpu.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rank = {name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: rank.get(item.path.relative_to(PROJECT).as_posix(), len(rank)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What tests have measured (`record_property("figure", ...)`) is printed at the end, passed or not."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, ())]
    figures = [text for report in reports for name, text in report.user_properties if name == "figure"]
    if figures:
        terminalreporter.section("figures")
        for text in figures:
            terminalreporter.write_line(text)


@pytest.fixture(scope="session")
def project_dir() -> Path:
    return PROJECT


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Real pictures, weights and reference figures; tests that need them are skipped without."""
    folder = Path(os.environ.get("FACEKIT_SHARED", PROJECT.parent / "shared"))
    if not (folder / "weights").is_dir():
        pytest.skip(f"needs the shared pictures and weights ({folder} is absent; set FACEKIT_SHARED)")
    return folder


@pytest.fixture(scope="session")
def drawn_weights() -> Path:
    """A yunet-n that finds the faces that tools/draw_pictures.py draws."""
    return PROJECT / "data" / "demo" / "yunet-n-drawn.pth"


@pytest.fixture
def bundled_is_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exports of the bundled detector for any size begin with the graph that comes with facekit: tracing takes
    seconds."""
    import onnx

    monkeypatch.setattr("facekit.targets.onnx._traced", lambda *_, **__: onnx.load(BUNDLED_WEIGHTS))


@pytest.fixture(scope="session")
def drawn_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve drawn pictures: images/*.jpg and annotations.json."""
    folder = tmp_path_factory.mktemp("drawn")
    command = [sys.executable, PROJECT / "tools" / "draw_pictures.py", folder, "--pictures", "12", "--seed", "5"]
    subprocess.run(command, check=True, capture_output=True)
    return folder


class Server(ThreadingHTTPServer):
    """Serves `files`; notes every request as (path, Range header)."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.resumes = True
        self.cut_after: int | None = None  # bytes of a body, then the connection breaks
        self.range_shift = 0  # of what Content-Range says against what was asked for
        self.says_length = True
        self.content_type = "application/zip"
        self.requests: list[tuple[str, str | None]] = []
        self.authorizations: list[str | None] = []
        self.moved: dict[str, str] = {}  # name -> the address that it is said to be at

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        name, wanted = self.path.lstrip("/"), self.headers["Range"]
        self.server.requests.append((name, wanted))
        self.server.authorizations.append(self.headers["Authorization"])
        if name in self.server.moved:
            self.send_response(302)
            self.send_header("Location", self.server.moved[name])
            self.end_headers()
            return
        if name not in self.server.files:
            self.send_error(404)
            return
        body = self.server.files[name]
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.server.resumes else 0
        self.send_response(206 if wanted and self.server.resumes else 200)
        if start:
            shown = start + self.server.range_shift
            self.send_header("Content-Range", f"bytes {shown}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Type", self.server.content_type)
        if self.server.says_length:
            self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        self.wfile.write(body[start:][: self.server.cut_after])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download, "TIMEOUT_S", 5)
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()
