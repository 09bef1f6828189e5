"""The command itself: a process, its address, its workers, its end."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from facekit.cli import main
from facekit.serving.run import listen

SECRET = "correct-horse-battery"


@contextlib.contextmanager
def served(*flags: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str, list[str]]]:
    """The process, its address, and the lines that it logs."""
    command = [sys.executable, "-m", "facekit", "serve", "--port", "0", "--threads", "1", *flags]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | environment)
    lines: list[str] = []

    def read() -> None:
        assert process.stderr is not None
        lines.extend(iter(process.stderr.readline, ""))

    reader = threading.Thread(target=read)
    try:
        assert process.stderr is not None
        address = ""
        while not address:
            line = process.stderr.readline()
            assert line, lines
            lines.append(line)
            found = re.search(r"Listening on (http://[^\s\",]+)", line)
            address = found[1] if found else ""
        reader.start()
        yield process, address, lines
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        reader.join()


def wait_for(address: str) -> httpx.Client:
    client = httpx.Client(base_url=address, timeout=30, trust_env=False)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with contextlib.suppress(httpx.HTTPError):
            client.get("/healthz")
            return client
        time.sleep(0.05)
    raise TimeoutError(address)


def test_workers_figures_logs_and_the_end(portrait: bytes) -> None:
    with served("--workers", "2", "--log", "json", FACEKIT_TOKEN=SECRET) as (process, address, lines):
        assert address.startswith("http://127.0.0.1:")
        client = wait_for(address)
        headers = {"Authorization": f"Bearer {SECRET}"}
        for _ in range(6):
            answer = client.post("/detect?threshold=0.5", content=portrait, headers={**headers, "Connection": "close"})
            assert len(answer.json()["faces"]) == 1
        end = time.monotonic() + 30  # the journal tells of an answer once it is sent
        while sum('"/detect"' in line for line in lines) < 6 and time.monotonic() < end:
            time.sleep(0.05)
        # One that dies is replaced, and forgotten only where what it said was of the living.
        workers = workers_of(process)
        assert len(workers) == 2
        os.kill(workers[0], signal.SIGKILL)
        # Whichever worker is asked tells of both.
        for _ in range(3):
            text = client.get("/metrics", headers={**headers, "Connection": "close"}).text
            assert "facekit_faces_total 6.0" in text
        end = time.monotonic() + 60
        while not any("another takes its place" in line for line in lines) and time.monotonic() < end:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 143
        assert any("ended with exit code -9; another takes its place" in line for line in lines)
    rows = [json.loads(line) for line in lines if line.startswith("{")]
    detected = [row for row in rows if row.get("path") == "/detect"]
    assert len(detected) == 6 and all(row["faces"] == 1 and row["status"] == 200 for row in detected)
    assert {"time", "level", "process", "message", "ms", "client", "bytes", "width", "height"} <= set(detected[0])
    assert SECRET not in "".join(lines) and "threshold=" not in "".join(lines)
    assert lines[-1] == "Stopped; all that was begun is answered.\n"


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def test_workers_end_with_who_started_them() -> None:
    with served("--workers", "2") as (process, address, _):
        wait_for(address).close()
        workers = workers_of(process)
        assert len(workers) == 2
        process.kill()
        end = time.monotonic() + 30
        while any(Path(f"/proc/{pid}").exists() for pid in workers) and time.monotonic() < end:
            time.sleep(0.05)
        assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]


def test_what_was_begun_is_answered(portrait: bytes) -> None:
    with served() as (process, address, _):
        host, port = address.removeprefix("http://").split(":")
        wait_for(address).close()
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            head = f"POST /detect HTTP/1.1\r\nHost: x\r\nContent-Length: {len(portrait)}\r\n\r\n".encode()
            connection.sendall(head + portrait[:1000])
            time.sleep(0.3)
            process.send_signal(signal.SIGINT)
            time.sleep(0.3)
            connection.sendall(portrait[1000:])
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200")
        assert process.wait(30) == 130


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--model", "nowhere.onnx"), "nowhere.onnx: there is no such"),
        (("--port", "70000"), "70000"),
        (("--host", "no.such.host.invalid"), "there is no such address"),
        (("--host", "192.0.2.1"), "not an address of this machine. Give one"),
        (("--token-file", "token"), "a token of 5 characters"),
        (("--token-file", "good", "--page"), "--page: browsers send no token"),
        (("--model", "a.xml", "--page"), "--page: browsers run .onnx files"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    flags: tuple[str, ...],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("token").write_text("short")
    Path("good").write_text(SECRET)
    Path("a.xml").touch()
    with pytest.raises(SystemExit) as end:
        main(["serve", *flags], prog_name="facekit")
    assert end.value.code in (1, 2)
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_a_port_that_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    with listen("127.0.0.1", 0) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SystemExit) as end:
            main(["serve", "--port", str(port)], prog_name="facekit")
    assert end.value.code == 1
    assert (
        f"can't serve on port {port} there (Address already in use). Choose another --port" in capsys.readouterr().err
    )
