"""A `facekit serve` in a process of its own, for the tools that measure and try it."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

STARTS_S = 120.0


@dataclass(frozen=True)
class Served:
    """A server that answers."""

    process: int
    host: str
    port: int

    @property
    def address(self) -> str:
        return f"http://{self.host}:{self.port}"

    def resident_mib(self) -> float:
        """Memory that the process holds now."""
        return int(Path(f"/proc/{self.process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / (1 << 20)


@contextlib.contextmanager
def served(flags: Sequence[str], cores: Sequence[int] = ()) -> Iterator[Served]:
    """Starts the server on any free port, pinned to the cores if any are named; ends it."""
    pin = ["taskset", "-c", ",".join(map(str, cores))] if cores else []
    command = [*pin, sys.executable, "-m", "facekit", "serve", "--port", "0", *flags]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        found = None
        while found is None:
            line = process.stderr.readline()
            if not line:
                raise SystemExit("the server has not come up; its message stands above")
            found = re.search(r"Listening on http://([^:\s]+):(\d+)", line)
        threading.Thread(target=process.stderr.read, daemon=True).start()  # or a full pipe would stop it
        server = Served(process.pid, found[1], int(found[2]))
        _wait_for(server)
        yield server
    finally:
        process.terminate()
        process.wait()


def _wait_for(server: Served) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    end = time.monotonic() + STARTS_S
    while time.monotonic() < end:
        with contextlib.suppress(OSError), opener.open(f"{server.address}/healthz", timeout=5):
            return
        time.sleep(0.05)
    raise SystemExit("the server does not answer /healthz")
