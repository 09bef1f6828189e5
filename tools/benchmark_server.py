"""How fast `facekit serve` is under many clients, beside `facekit detect` on the same pictures:
python tools/benchmark_server.py FOLDER

Both get the same cores and threads; the clients get others. Rounds alternate, so that both see the same machine.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import statistics
import subprocess
import sys
import time
from collections import Counter
from tempfile import NamedTemporaryFile

from served import Served, served

from facekit.pictures.listing import list_pictures

# `facekit detect` in a process of its own, over a list that is longer than the time; its start is not counted.
DETECT = """
import sys, time
import facekit
count, started = 0, 0.0
for row in facekit.detect(from_file=sys.argv[1], threads=1):
    row.to_json()
    started = started or time.perf_counter()
    count += 1
    if time.perf_counter() - started > float(sys.argv[2]):
        break
print((count - 1) / (time.perf_counter() - started))
"""
LIST_REPEATS = 1000


async def client(server: Served, bodies: list[bytes], first: int, end: float, found: list[tuple[int, float]]) -> None:
    """Asks without a pause until `end`, over one connection where the server lets it; notes status and seconds."""
    connection = None
    for body in itertools.islice(itertools.cycle(bodies), first, None):
        if time.perf_counter() >= end:
            break
        started = time.perf_counter()
        try:
            if connection is None:
                connection = await asyncio.open_connection(server.host, server.port)
            reader, writer = connection
            writer.write(f"POST /detect HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
            status = int(head.split()[1])
            if b"connection: close" in head:
                connection = None
        except (OSError, asyncio.IncompleteReadError):
            status, connection = 0, None
        found.append((status, time.perf_counter() - started))


async def load(
    server: Served, bodies: list[bytes], clients: int, seconds: float
) -> tuple[list[tuple[int, float]], float]:
    """What all clients noted, and the seconds that it took."""
    found: list[tuple[int, float]] = []
    started = time.perf_counter()
    step = max(1, len(bodies) // clients)
    await asyncio.gather(*(
        client(server, bodies, index * step, started + seconds, found) for index in range(clients)
    ))  # fmt: skip
    return found, time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=60, help="under load, over all rounds")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pictures", type=int, default=100, help="the first so many of the folder")
    parser.add_argument("--core", type=int, default=0, help="of the server and of detect")
    options = parser.parse_args()
    paths = list_pictures([options.folder]).pictures[: options.pictures]
    bodies = [path.read_bytes() for path in paths]
    round_s = options.seconds / options.rounds
    rates: list[tuple[float, float]] = []
    statuses: Counter[int] = Counter()
    times: list[float] = []
    with served(["--threads", "1", "--timeout", "60"], [options.core]) as server, NamedTemporaryFile("w") as names:
        names.write("\n".join(str(path.resolve()) for path in paths * LIST_REPEATS))
        names.flush()
        alone = ["taskset", "-c", str(options.core), sys.executable, "-c", DETECT, names.name, str(round_s)]
        for _ in range(options.rounds):
            done = subprocess.run(alone, capture_output=True, text=True, check=True)
            found, took = asyncio.run(load(server, bodies, options.clients, round_s))
            fine = [seconds for status, seconds in found if status == 200]
            statuses.update(status for status, _ in found)
            times += fine
            detect, serve = float(done.stdout), len(fine) / took
            rates.append((detect, serve))
            print(f"detect {detect:.1f} pictures/s, serve {serve:.1f}, ratio {serve / detect:.2f}")
        memory = server.resident_mib()
    cuts = statistics.quantiles(times, n=100)
    ratio = statistics.median(served_rate / rate for rate, served_rate in rates)
    print(f"{options.clients} clients, {options.seconds:g} s, {len(paths)} pictures of {options.folder}")
    print(f"answers by status: {dict(statuses)} (0: none); server's memory {memory:.0f} MiB")
    print(f"serve / detect, median of {options.rounds} rounds: {ratio:.2f}")
    print(f"latency p50 {1e3 * cuts[49]:.0f} ms, p99 {1e3 * cuts[98]:.0f} ms")
    if set(statuses) != {200}:
        sys.exit("some requests were not answered with 200")


if __name__ == "__main__":
    main()
