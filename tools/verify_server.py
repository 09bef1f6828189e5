"""Malformed requests and schemathesis against `facekit serve`: python tools/verify_server.py

It must answer or refuse each, go on serving, and hold no more memory in the end than it did after the first hundred.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import socket
import struct
import subprocess
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

from served import Served, served

PORTRAIT = Path(__file__).resolve().parent.parent / "data" / "demo" / "astronaut.jpg"
POST = b"POST /detect HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
REQUESTS, AT_A_TIME = 200, 8
GROWTH_MIB = 30.0  # of memory that may come between the halves: allocators keep what they like
# OpenAPI can't say that one parameter needs another: `method` without output=anonymized is refused, with 400.
HOOKS = """
import schemathesis

@schemathesis.hook
def filter_case(context, case):
    return "method" not in (case.query or {}) or case.query.get("output") == "anonymized"
"""
Parts = list[bytes]


def whole(body: bytes, head: bytes = b"") -> Parts:
    """A request with an honest length."""
    return [POST + head + b"Content-Length: %d\r\n\r\n" % len(body) + body]


def truncated(dice: random.Random) -> Parts:
    data = PORTRAIT.read_bytes()
    return whole(data[: dice.randrange(1, len(data) - 2)])


def damaged(dice: random.Random) -> Parts:
    data = bytearray(PORTRAIT.read_bytes())
    for _ in range(50):
        data[dice.randrange(len(data))] = dice.randrange(256)
    return whole(bytes(data))


def bomb(dice: random.Random) -> Parts:
    """A PNG that says it has 30,000 x 30,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(90_001) * 200)
    return whole(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))


def no_picture(dice: random.Random) -> Parts:
    bodies = [b"", b"hello", b'{"path": "/etc/passwd"}', b"http://127.0.0.1/", bytes(1000), dice.randbytes(5000)]
    return whole(dice.choice(bodies), dice.choice([b"", b"Content-Type: application/json\r\n"]))


def broken_form(dice: random.Random) -> Parts:
    kinds = [b"multipart/form-data", b"multipart/form-data; boundary=b"]
    head = b"Content-Type: " + dice.choice(kinds) + b"\r\n"
    part = b'--b\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n' + dice.randbytes(100) + b"\r\n"
    return whole(part * dice.randrange(5) + dice.choice([b"", b"--b--"]), head)


def slow_body(dice: random.Random) -> Parts:
    return [POST + b"Content-Length: 100000\r\n\r\n", *[b"x"] * 40]


def claim(dice: random.Random) -> Parts:
    """A length of a gigabyte."""
    return [POST + b"Content-Length: 1073741824\r\n\r\n" + bytes(1 << 16)]


def long_head(dice: random.Random) -> Parts:
    return [b"GET /healthz HTTP/1.1\r\n", *[b"X: " + b"a" * (1 << 20)] * 8]


def endless_chunks(dice: random.Random) -> Parts:
    return [POST + b"Transfer-Encoding: chunked\r\n\r\n", *[b"40000\r\n" + bytes(0x40000) + b"\r\n"] * 200]


KINDS: list[Callable[[random.Random], Parts]] = [
    truncated, damaged, bomb, no_picture, broken_form, slow_body, claim, long_head, endless_chunks,
]  # fmt: skip


def send(server: Served, parts: Parts) -> str:
    """The status that came back; "closed" where the server ended the connection."""
    answer = b""
    with socket.create_connection((server.host, server.port), timeout=30) as connection:
        with contextlib.suppress(OSError):
            for part in parts:
                connection.sendall(part)
                if len(part) == 1:
                    time.sleep(0.1)
        with contextlib.suppress(OSError):
            while chunk := connection.recv(1 << 16):
                answer += chunk
    return answer.split()[1].decode() if answer.startswith(b"HTTP/1.1 ") else "closed"


def run_schemathesis(server: Served) -> bool:
    """Whether every answer is what the description promises; prints what is not."""
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{server.address}/openapi.json", "--no-color"]
    with TemporaryDirectory() as folder:  # where it keeps notes of its own
        (Path(folder) / "hooks.py").write_text(HOOKS, encoding="utf-8")
        variables = os.environ | {"SCHEMATHESIS_HOOKS": "hooks"}
        done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)
    print("\n".join(line for line in done.stdout.splitlines() if "passed" in line or "generated" in line))
    if done.returncode:
        print(done.stdout, done.stderr)
    return done.returncode == 0


def main() -> None:
    argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0]).parse_args()
    dice = random.Random(0)
    failures = []
    with served(["--threads", "1", "--timeout", "2"]) as server:
        good = whole(PORTRAIT.read_bytes())
        tried: Counter[tuple[str, str]] = Counter()
        memory = []
        for half in range(2):
            kinds = [KINDS[index % len(KINDS)] for index in range(REQUESTS // 2)]
            requests = [(kind.__name__, kind(dice)) for kind in kinds]
            with ThreadPoolExecutor(AT_A_TIME) as clients:
                statuses = clients.map(lambda request: send(server, request[1]), requests)
                tried.update((name, status) for (name, _), status in zip(requests, statuses, strict=True))
            if (status := send(server, good)) != "200":
                failures.append(f"after half {half + 1} a good picture was answered {status}")
            memory.append(server.resident_mib())
        for (name, status), count in sorted(tried.items()):
            print(f"{name:<16} {status:<7} {count}")
        print(f"memory after {REQUESTS // 2}: {memory[0]:.0f} MiB, after {REQUESTS}: {memory[1]:.0f} MiB")
        if memory[1] > memory[0] + GROWTH_MIB:
            failures.append("memory grows")
        failures += [f"{name} was answered {status}" for name, status in tried if status.startswith("5")]
        failures += [f"{name} was answered 200" for name, status in tried if status == "200" and name != "damaged"]
        if not run_schemathesis(server):
            failures.append("schemathesis found something")
    sys.exit("\n".join(failures) or 0)


if __name__ == "__main__":
    main()
