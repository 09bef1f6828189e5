"""`facekit detect` on many pictures, a hundredth of them broken, killed in the middle and gone on with.

    python tools/verify_detect.py PICTURES SCRATCH --count 10000

Fills SCRATCH with hard links to the pictures, under names of their own, each hundredth cut off. One run goes through;
one is killed by SIGKILL half way and resumed. Prints whether both wrote the same bytes, whether all broken pictures are
listed and all others done, and how much memory was held at each tenth of the way.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from facekit.results.json_files import read_jsonl

BROKEN_EVERY = 100


def fill(scratch: Path, pictures: list[Path], count: int) -> Path:
    """A list of `count` pictures."""
    folder = scratch / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for number in range(count):
        target = folder / f"{number:06}.jpg"
        if not target.exists():
            source = pictures[number % len(pictures)]
            if number % BROKEN_EVERY == BROKEN_EVERY - 1:
                target.write_bytes(source.read_bytes()[:2000])
            else:
                os.link(source, target) if source.stat().st_dev == scratch.stat().st_dev else target.symlink_to(source)
        names.append(str(target))
    list_file = scratch / "list.txt"
    list_file.write_text("\n".join(names) + "\n")
    return list_file


def held_mib(process: int) -> float:
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


def run(command: list[str], journal: Path, count: int, kill_at: int | None = None) -> tuple[int, list[float]]:
    """The exit code, and the memory at each tenth; at `kill_at` rows it is killed."""
    held: list[float] = []
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            time.sleep(0.2)
            done = journal.read_bytes().count(b"\n") - 1 if journal.exists() else 0
            if done >= (len(held) + 1) * count / 10:
                held.append(held_mib(process.pid))
            if kill_at is not None and done >= kill_at:
                process.send_signal(signal.SIGKILL)
        process.communicate()
    return process.returncode, held


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("pictures", type=Path)
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--longest-side", default="320")
    args = parser.parse_args()
    pictures = sorted(path for path in args.pictures.rglob("*") if path.suffix in (".jpg", ".webp"))
    list_file = fill(args.scratch, pictures, args.count)
    common = [sys.executable, "-m", "facekit", "detect", "--from-file", str(list_file), "--threads", "1",
              "--longest-side", args.longest_side]  # fmt: skip
    whole, parts = args.scratch / "whole.jsonl", args.scratch / "parts.jsonl"
    started = time.monotonic()
    code, held = run([*common, "--jsonl", str(whole)], args.scratch / "whole.jsonl.unfinished", args.count)
    print(f"{args.count} pictures in {time.monotonic() - started:.0f} s, exit code {code}")
    print("memory at each tenth, MiB: " + " ".join(f"{value:.0f}" for value in held))
    journal = args.scratch / "parts.jsonl.unfinished"
    killed, _ = run([*common, "--jsonl", str(parts)], journal, args.count, args.count // 2)
    kept = journal.read_bytes().count(b"\n") - 1
    code, _ = run([*common, "--jsonl", str(parts), "--resume"], journal, args.count)
    is_same = filecmp.cmp(whole, parts, shallow=False)
    print(f"killed ({killed}), {kept} rows kept; resumed (exit code {code}): {'identical' if is_same else 'DIFFERENT'}")
    rows = list(read_jsonl(parts))
    broken = [row for row in rows if row.error is not None]
    right = len(rows) == args.count and len(broken) == args.count // BROKEN_EVERY
    print(f"{len(rows)} rows, {len(broken)} of them broken, {sum(len(row.faces) for row in rows)} faces")
    return 0 if is_same and right and code == 3 else 1


if __name__ == "__main__":
    sys.exit(main())
