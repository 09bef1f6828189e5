"""What `--engine ray` promises, on this machine: the plain run's rows, speed, deaths, failing stores, memory.

python tools/verify_cluster.py FOLDER [CHECK]...    in FOLDER, which may grow by as much as the pictures take, with the
pictures of FACEKIT_SHARED repeated under other names, one in a hundred of them broken. Checks, all by default:

rows      the rows of two workers are those of the plain run; its memory, sampled twice a second
speed     two workers beside two plain processes, in turns: pictures a second, for a machine that does nothing else
cost      the same in seconds of cores a picture, which others' work on the machine hardly changes
overhead  shards of 16, 64 and 256 pictures
deaths    five workers killed, then the driver; then resumed
nodes     two raylets, one of which is killed midway
store     s3:// in and out; one request in ten fails, one answer in twenty breaks off
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from faulty_s3 import FaultyS3

from facekit.cluster.pool import Workers, over_workers, ray_of
from facekit.cluster.trials import Trial
from facekit.results.json_files import read_jsonl
from facekit.results.row import Row

BROKEN_EVERY = 100
TOLERANCE_PX = 1e-4
DETECT = [sys.executable, "-m", "facekit", "detect", "--threads", "1"]  # and the longest side, of main()
RAY = ["--engine", "ray", "--num-workers", "2"]
LOSSES = 3  # the exit code of a run that passed broken pictures over


def make_pictures(folder: Path, count: int) -> Path:
    """Pictures under `count` names, hard links to a few; some broken in three ways. Returns the list of them."""
    listed = folder / f"list-{count}.txt"
    if listed.exists():
        return listed
    shared = Path(os.environ.get("FACEKIT_SHARED", "../shared")) / "data/widerface/WIDER_train/images"
    originals = sorted(shared.rglob("*.jpg"))[::5]
    whole = folder / "originals"
    whole.mkdir(parents=True, exist_ok=True)
    copies = []
    for number, path in enumerate(originals):
        copies.append(whole / f"{number:04d}.jpg")
        copies[-1].write_bytes(path.read_bytes())
    broken = [b"", b"no picture at all", copies[0].read_bytes()[:5000]]
    for number, data in enumerate(broken):
        (whole / f"broken-{number}.jpg").write_bytes(data)
    names = []
    for number in range(count):
        target = folder / "pictures" / f"{number // 1000:03d}" / f"{number:06d}.jpg"
        is_broken = number % BROKEN_EVERY == BROKEN_EVERY - 1
        source = whole / f"broken-{number // BROKEN_EVERY % 3}.jpg" if is_broken else copies[number % len(copies)]
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            os.link(source, target)
        names.append(str(target))
    listed.write_text("\n".join(names) + "\n")
    return listed


def rows_in(path: Path) -> Iterator[Row]:
    """Of a file, or of a folder of parts."""
    for part in sorted(path.glob("part-*")) if path.is_dir() else [path]:
        yield from read_jsonl(part)


def differences(plain: Iterable[Row], others: Iterable[Row]) -> list[str]:
    """Empty where both hold the same rows, whatever their order: each source once, boxes within TOLERANCE_PX."""
    found = []
    expected = {Path(row.source).name: row for row in plain}
    seen = Counter[str]()
    for row in others:
        name = Path(row.source).name
        seen[name] += 1
        other = expected.get(name)
        if other is None or (other.size_wh, other.error is None) != (row.size_wh, row.error is None):
            found.append(f"{row.source}: {row.size_wh}, {row.error}")
        elif len(other.faces) != len(row.faces) or (
            np.abs(other.faces.boxes_xyxy - row.faces.boxes_xyxy).max(initial=0) > TOLERANCE_PX
        ):
            found.append(f"{row.source}: other faces")
    found += [f"{name}: {count} times" for name, count in seen.items() if count > 1]
    return found + [f"{name}: missing" for name in expected if not seen[name]]


def started(arguments: list[str], log: Path, **environment: str) -> subprocess.Popen[bytes]:
    with log.open("wb") as stream:
        return subprocess.Popen(
            [*DETECT, *arguments], stdout=stream, stderr=subprocess.STDOUT, env={**os.environ, **environment}
        )


def finished(process: subprocess.Popen[bytes], log: Path, expected: tuple[int, ...] = (0, LOSSES)) -> None:
    if process.wait() not in expected:
        raise SystemExit(f"exit code {process.returncode}:\n" + log.read_text(errors="replace")[-3000:])


class Watch(threading.Thread):
    """Samples the memory of a process and of Ray's workers, while they live."""

    def __init__(self, driver: int) -> None:
        super().__init__(daemon=True)
        self.driver = driver
        self.mib: dict[str, list[int]] = {"driver": [], "worker": []}
        self.is_over = threading.Event()

    def run(self) -> None:
        while not self.is_over.wait(0.5):
            for kind, numbers in (("driver", [self.driver]), ("worker", workers_alive())):
                sizes = [size for number in numbers if (size := resident_mib(number))]
                if sizes:
                    self.mib[kind].append(max(sizes))

    def text(self) -> str:
        self.is_over.set()
        parts = []
        for kind, sizes in self.mib.items():
            third = -(-len(sizes) // 3)
            thirds = [max(sizes[start : start + third]) for start in range(0, len(sizes), third)]
            parts.append(f"{kind} at most {max(sizes)} MiB (by thirds of the time {thirds})")
        return "; ".join(parts)


class CoreSeconds(threading.Thread):
    """Of a process and all beneath it, the last that was seen of each."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        super().__init__(daemon=True)
        self.process = process
        self.seen: dict[int, float] = {}
        self.is_over = threading.Event()

    def run(self) -> None:
        while not self.is_over.wait(0.2):
            parents, seconds = {}, {}
            for process in Path("/proc").iterdir():
                try:
                    fields = (process / "stat").read_text().rpartition(")")[2].split()
                except OSError:
                    continue
                number = int(process.name) if process.name.isdigit() else 0
                parents[number] = int(fields[1])
                seconds[number] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
            beneath = {self.process.pid} & set(parents)
            while more := {number for number, parent in parents.items() if parent in beneath} - beneath:
                beneath |= more
            self.seen |= {number: seconds[number] for number in beneath}

    def total(self) -> float:
        self.is_over.set()
        return sum(self.seen.values())


def workers_alive() -> list[int]:
    """Process numbers of Ray's workers that hold a detector."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit() and b"MapWorker" in (process / "cmdline").read_bytes():
                found.append(int(process.name))
        except OSError:
            continue
    return found


def resident_mib(process: int) -> int:
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * 4096 >> 20
    except (OSError, IndexError):
        return 0


def parts_done(out: Path) -> int:
    return sum(1 for _ in out.glob("part-*"))


def wait_for_parts(out: Path, count: int, process: subprocess.Popen[bytes]) -> None:
    while parts_done(out) < count and process.poll() is None:
        time.sleep(0.2)


def _do_nothing() -> Callable[[Any, Trial], Any]:
    return lambda item, _: item


class Checks:
    def __init__(self, folder: Path, count: int, turns: int) -> None:
        self.folder, self.count, self.turns = folder, count, turns
        self.list = make_pictures(folder, count)
        self.plain = folder / f"plain-{count}.jsonl"
        self._run = f"{os.getpid()}"

    def out(self, name: str) -> Path:
        return self.folder / f"{name}-{self._run}"

    def plain_rows(self) -> Path:
        """Of the plain run, made once."""
        if not self.plain.exists():
            log = self.folder / "plain.log"
            begun = time.monotonic()
            finished(started(["--from-file", str(self.list), "--jsonl", str(self.plain)], log), log)
            print(f"plain: {self.count} pictures in {time.monotonic() - begun:.0f} s", flush=True)
        return self.plain

    def verdict(self, name: str, out: Path, plain: Path) -> None:
        found = differences(rows_in(plain), rows_in(out))
        rows = sum(1 for _ in rows_in(out))
        print(f"{name}: {rows} rows, {len(found)} differ from the plain run's {found[:3] or ''}", flush=True)

    def rows(self) -> None:
        plain, out, log = self.plain_rows(), self.out("rows"), self.folder / "rows.log"
        process = started(["--from-file", str(self.list), "--jsonl", str(out), *RAY], log)
        watch = Watch(process.pid)
        watch.start()
        finished(process, log)
        self.verdict("rows", out, plain)
        print(f"memory: {watch.text()}", flush=True)

    def speed(self) -> None:
        """Each way so many times, in turns: two plain processes with half the list each, and two workers."""
        names = self.list.read_text().splitlines()
        shares = []
        for number in (0, 1):
            shares.append(self.folder / f"share-{number}.txt")
            shares[-1].write_text("\n".join(names[number::2]) + "\n")
        whole = self.folder / "share.txt"
        whole.write_text("\n".join(names) + "\n")
        rates: dict[str, list[float]] = {"plain": [], "ray": [], "ray, workers warm": []}
        for turn in range(self.turns):
            begun = time.monotonic()
            logs = [self.folder / f"speed-{number}.log" for number in (0, 1)]
            running = [
                started(["--from-file", str(share), "--jsonl", str(self.out(f"speed-{turn}-{number}.jsonl"))], log)
                for number, (share, log) in enumerate(zip(shares, logs, strict=True))
            ]
            for process, log in zip(running, logs, strict=True):
                finished(process, log)
            rates["plain"].append(len(names) / (time.monotonic() - begun))
            whole_s, warm = self._timed(whole, len(names), f"speed-{turn}", 64)
            rates["ray"].append(len(names) / whole_s)
            rates["ray, workers warm"].append(warm)
        for name, each in rates.items():
            ratio = np.mean(each) / np.mean(rates["plain"])
            print(
                f"speed, {name}: {', '.join(f'{rate:.1f}' for rate in each)} pictures/s, {ratio:.2f} of plain",
                flush=True,
            )

    def _timed(self, listed: Path, count: int, name: str, shard_size: int) -> tuple[float, float]:
        """Seconds of the whole, and pictures a second between the first part and the last."""
        out, log = self.out(name), self.folder / f"{name}.log"
        begun = time.monotonic()
        arguments = ["--from-file", str(listed), "--jsonl", str(out), "--shard-size", str(shard_size)]
        finished(started([*arguments, *RAY], log), log)
        whole_s = time.monotonic() - begun
        times = sorted(part.stat().st_mtime for part in out.glob("part-*"))
        return whole_s, (count - 2 * shard_size) / (times[-1] - times[1])

    def cost(self) -> None:
        """Plain: what a larger run takes more than a small one. Ray: what workers take a picture, and its own processes
        a second, while all work."""
        names = self.list.read_text().splitlines()
        few, many = 300, min(1500, self.count)
        plain_s = []
        for count in (few, many):
            watch, _, log = self._begun("cost-plain", names[:count], [])
            finished(watch.process, log)
            plain_s.append(watch.total())
        plain_ms = 1000 * (plain_s[1] - plain_s[0]) / (many - few)

        shards = min(2500, self.count) // 64
        watch, out, log = self._begun("cost-ray", names[: 64 * shards], RAY)
        marks = []
        for parts in (3, shards - 3):
            wait_for_parts(out, parts, watch.process)
            marks.append((time.monotonic(), parts_done(out), dict(watch.seen), set(workers_alive())))
        finished(watch.process, log)
        watch.is_over.set()
        (begun_s, before, at_first, workers), (ended_s, after, at_last, _) = marks
        spent = {number: seconds - at_first.get(number, 0.0) for number, seconds in at_last.items()}
        of_workers = sum(seconds for number, seconds in spent.items() if number in workers)
        worker_ms = 1000 * of_workers / (64 * (after - before))
        own = (sum(spent.values()) - of_workers) / (ended_s - begun_s)
        rate = (2 - own) / 2 * plain_ms / worker_ms
        print(
            f"cost: plain {plain_ms:.2f} ms of a core a picture, a worker {worker_ms:.2f}; Ray's own processes and the "
            f"driver {own:.2f} of a core: on two cores {rate:.2f} of two plain processes", flush=True,
        )  # fmt: skip

    def _begun(self, name: str, names: list[str], more: list[str]) -> tuple[CoreSeconds, Path, Path]:
        """A run, watched; where it writes to, and its log."""
        listed, out, log = self.folder / f"{name}.txt", self.out(f"{name}-{len(names)}"), self.folder / f"{name}.log"
        listed.write_text("\n".join(names) + "\n")
        watch = CoreSeconds(started(["--from-file", str(listed), "--jsonl", str(out), *more], log))
        watch.start()
        return watch, out, log

    def overhead(self) -> None:
        """Shards that do nothing, and the same pictures in shards of other sizes, in turns."""
        self._empty_shards()
        names = self.list.read_text().splitlines()[:4096]
        listed = self.folder / "overhead.txt"
        listed.write_text("\n".join(names) + "\n")
        rates: dict[int, list[float]] = {16: [], 64: [], 256: []}
        for turn in range(2):
            for size, each in rates.items():
                each.append(self._timed(listed, len(names), f"overhead-{size}-{turn}", size)[1])
        best = max(np.mean(each) for each in rates.values())
        for size, each in rates.items():
            print(
                f"overhead, shards of {size}: {np.mean(each):.1f} pictures/s, {np.mean(each) / best:.3f} of the best",
                flush=True,
            )

    def _empty_shards(self, count: int = 2000) -> None:
        workers = Workers(number=2)
        with ray_of(workers) as number:
            done = over_workers(_do_nothing, range(count), workers, number)
            next(done)
            begun, begun_cpu = time.monotonic(), time.process_time()
            for _ in done:
                pass
            wall_ms, cpu_ms = (
                1000 * (after - before) / (count - 1)
                for before, after in ((begun, time.monotonic()), (begun_cpu, time.process_time()))
            )
        print(
            f"overhead, shards that do nothing: {wall_ms:.2f} ms each, {cpu_ms:.2f} ms of the driver's core", flush=True
        )

    def deaths(self) -> None:
        plain, out, log = self.plain_rows(), self.out("deaths"), self.folder / "deaths.log"
        arguments = ["--from-file", str(self.list), "--jsonl", str(out), "--shard-size", "64", *RAY]
        shards = -(-self.count // 64)
        process = started(arguments, log)
        killed = 0
        for step in range(1, 6):
            wait_for_parts(out, step * shards // 12, process)
            if alive := workers_alive():
                os.kill(random.choice(alive), signal.SIGKILL)
                killed += 1
        wait_for_parts(out, shards // 2, process)
        process.kill()
        process.wait()
        print(f"deaths: {killed} workers killed, the driver after {parts_done(out)} of {shards} parts", flush=True)
        time.sleep(5)  # what it had started ends with it
        finished(started([*arguments, "--resume"], log), log)
        self.verdict("deaths", out, plain)

    def nodes(self) -> None:
        from ray.cluster_utils import Cluster

        plain, out, log = self.plain_rows(), self.out("nodes"), self.folder / "nodes.log"
        node = {"num_cpus": 1, "object_store_memory": 100 << 20, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=node)
        try:
            other = cluster.add_node(num_cpus=1, object_store_memory=100 << 20)
            arguments = ["--from-file", str(self.list), "--jsonl", str(out), "--address", cluster.address]
            process = started([*arguments, *RAY], log)
            wait_for_parts(out, -(-self.count // 64) // 3, process)
            cluster.remove_node(other, allow_graceful=False)
            print(f"nodes: one of two raylets killed after {parts_done(out)} parts", flush=True)
            finished(process, log)
        finally:
            cluster.shutdown()  # type: ignore[no-untyped-call]
        self.verdict("nodes", out, plain)

    def store(self) -> None:
        import boto3

        plain = [row for row, _ in zip(rows_in(self.plain_rows()), range(2000), strict=False)]
        with ExitStack() as stack:
            server = stack.enter_context(FaultyS3())
            os.environ.update(server.environment())
            client: Any = boto3.client("s3")
            client.create_bucket(Bucket="faces")
            for row in plain:
                client.put_object(Bucket="faces", Key=f"in/{Path(row.source).name}", Body=Path(row.source).read_bytes())
            for name, fail, truncate in (("sound", 0.0, 0.0), ("faulty", 0.1, 0.05)):
                server.fail, server.truncate = fail, truncate
                server.requests = server.refused = server.truncated = 0
                log, target = self.folder / f"store-{name}.log", f"s3://faces/out-{name}"
                begun = time.monotonic()
                finished(started(["s3://faces/in", "--jsonl", target, *RAY], log), log)
                seconds = time.monotonic() - begun
                counts = f"{server.requests} requests, {server.refused} refused, {server.truncated} cut"
                server.fail = server.truncate = 0.0
                out = self.out(f"store-{name}")
                out.mkdir()
                for page in client.get_paginator("list_objects_v2").paginate(
                    Bucket="faces", Prefix=f"out-{name}/part-"
                ):
                    for item in page["Contents"]:
                        client.download_file("faces", item["Key"], str(out / Path(item["Key"]).name))
                found = differences(plain, rows_in(out))
                print(
                    f"store, {name}: {sum(1 for _ in rows_in(out))} rows, {len(found)} differ {found[:3] or ''}; "
                    f"{counts}; {seconds:.0f} s", flush=True,
                )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    checks = ("rows", "speed", "cost", "overhead", "deaths", "nodes", "store")
    parser.add_argument("folder", type=Path)
    parser.add_argument("checks", nargs="*", choices=[*checks, []], metavar="CHECK", help=", ".join(checks))
    parser.add_argument("--pictures", type=int, default=20_000)
    parser.add_argument("--longest-side", type=int, default=256, help="0: the pictures' own size")
    parser.add_argument("--turns", type=int, default=2, help="of speed")
    flags = parser.parse_args()
    os.environ.setdefault("RAY_AUTH_MODE", "token")  # of all that is started here
    subprocess.run([Path(sys.executable).with_name("ray"), "get-auth-token", "--generate"], stdout=subprocess.DEVNULL)
    if flags.longest_side:
        DETECT.extend(["--longest-side", str(flags.longest_side)])
    asked = Checks(flags.folder.resolve() / f"side-{flags.longest_side}", flags.pictures, flags.turns)
    for name in flags.checks or checks:
        getattr(asked, name)()


if __name__ == "__main__":
    main()
