"""Runs the real commands over files made bad, each in a process of its own, and says where the answer was no answer.

    python tools/fuzz.py --minutes 20
    python tools/fuzz.py --minutes 5 --kinds checkpoints,graphs
    python tools/fuzz.py --case checkpoints:123456  # one again, its output shown

An answer is exit code 0 to 3, without a traceback, in words of one line for an error, within ten seconds of the
processor's time, with a peak under 1.5 GiB, and nothing half-written left behind. Linux.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NNCF_CI", "1")

from tests.fuzz import samples as made  # noqa: E402
from tests.fuzz.cases import KINDS  # noqa: E402

MAX_SECONDS = 10  # of the processor
HANG_SECONDS = 90  # of the clock, on a machine that may be busy
MAX_PEAK_BYTES = 3 << 29
MAX_ADDRESSES = 64 << 30  # so that a bomb ends before the machine does
OWN_CODE = 97  # a traceback
OTHERS = "ncnn,torchscript,opencv4"  # .mnn and .pte end with a digest, see facekit/targets/reading/seal.py
LONG_MESSAGES = (
    "the weights don't fit",
    "could not be fetched",
    "has no snapshot",
    "could be read:",
    "Give a file or folder of",
)  # lists, a line an entry


@dataclass
class Result:
    """How a case ended."""

    problem: str | None
    seconds: float
    peak: int
    code: int
    output: str = field(repr=False, default="")


def main() -> None:
    """Parses, runs, prints counts by kind and the failures' cases; ends with 1 if there are any."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--kinds", default=",".join(KINDS), help=f"of {', '.join(KINDS)}")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="where the cases' numbers begin")
    parser.add_argument("--case", help="KIND:NUMBER, run alone and shown")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="facekit-fuzz-") as scratch:
        samples = Path(scratch) / "samples"
        maker = os.fork()  # cases are forked from here, where no runtime may have begun threads
        if maker == 0:
            make_samples(samples)
            os._exit(0)
        os.waitpid(maker, 0)
        preload()
        if arguments.case:
            kind, _, number = arguments.case.partition(":")
            result = run_case(kind, int(number), samples, Path(scratch), keep=Path.cwd() / "fuzz-case")
            print(result.output)
            print(f"{result}; its files are in fuzz-case/")
            sys.exit(int(result.problem is not None))
        sys.exit(int(run_all(arguments.kinds.split(","), arguments.minutes, arguments.seed, samples, Path(scratch))))


def run_all(kinds: list[str], minutes: float, seed: int, samples: Path, scratch: Path) -> bool:
    """Kinds in turn until the time is over; whether anything failed."""
    end, number = time.monotonic() + 60 * minutes, seed
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in kinds}
    slowest: dict[str, Result] = {}
    largest: dict[str, Result] = {}
    failures: dict[str, list[tuple[int, str]]] = {}
    while time.monotonic() < end:
        for kind in kinds:
            result = run_case(kind, number, samples, scratch)
            counts[kind][result.problem or f"exit {result.code}"] += 1
            slowest[kind] = max(slowest.get(kind, result), result, key=lambda each: each.seconds)
            largest[kind] = max(largest.get(kind, result), result, key=lambda each: each.peak)
            if result.problem is not None:
                failures.setdefault(f"{kind}: {result.problem}", []).append((number, result.output))
        number += 1
    for kind in kinds:
        parts = ", ".join(f"{name}: {count}" for name, count in sorted(counts[kind].items()))
        print(
            f"{kind:<12} {counts[kind].total():>6} cases; {parts}; slowest {slowest[kind].seconds:.1f} s, largest "
            f"{largest[kind].peak / 2**20:.0f} MiB"
        )
    for problem, found in sorted(failures.items(), key=lambda item: -len(item[1])):
        kind = problem.partition(":")[0]
        print(f"\n{problem} ({len(found)}): --case {kind}:{found[0][0]}")
        print("    " + "\n    ".join(found[0][1].splitlines()[-4:]))
    return bool(failures)


def preload() -> None:
    """What the commands import, once for all: cases are forked from here."""
    import facekit.cli
    import facekit.commands.import_weights
    import facekit.engine.training.train
    import facekit.targets.nncf_
    import facekit.targets.onnx
    import facekit.targets.openvino
    import facekit.targets.pytorch  # noqa: F401


def make_samples(folder: Path) -> None:
    """Good files of all kinds."""
    import numpy as np

    from facekit.cli import main as facekit

    folder.mkdir(parents=True)
    pictures = made.write_pictures(folder / "pictures")
    made.write_ground_truth(folder / "ground_truth")
    made.write_run_record(folder, pictures)
    (folder / "log.jsonl").write_text(made.journal())
    np.savez(folder / "predictions.npz", names=["e/a", "e/b"], offsets=[0, 1, 3], xywhs=np.arange(15.0).reshape(3, 5))
    facekit_args = ["export", "--template", made.TEMPLATE, "--load-weights"]
    bundled = PROJECT / "model_templates" / "face-detection" / made.TEMPLATE / "facekit.pth"
    commands = [[*facekit_args, str(bundled), "--save-model-to", str(folder / "export")]]
    for to in ("yolo", "voc"):
        commands.append(["data", "convert", str(pictures / "labels.json"), str(folder / to), "--to", to])
    others = [*facekit_args, str(bundled), "--formats", OTHERS, "--input-size", "64x96"]
    commands.append([*others, "--save-model-to", str(folder / "others")])
    for command in commands:
        with contextlib.suppress(SystemExit):
            facekit(command)
    found = [str(pictures), "--threshold", "0"]
    with contextlib.suppress(SystemExit), patch.object(Path, "unlink"):  # as if killed before the journal went
        facekit(["detect", *found, "--jsonl", str(folder / "rows.jsonl")])
    with contextlib.suppress(SystemExit):
        engine = ["--engine", "ray", "--num-workers", "1"]
        facekit(["detect", *found, "--jsonl", str(folder / "parts"), *engine, "--shard-size", "1"])
    made.write_video(folder / "video.mp4")
    made.write_archive(folder / "pictures.tar", pictures)
    made.write_table(folder / "pictures.parquet", pictures)


def run_case(kind: str, number: int, samples: Path, scratch: Path, keep: Path | None = None) -> Result:
    """One command over one bad file, in a forked process."""
    folder = scratch / "case"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "out").mkdir(parents=True)
    random = Random(f"{kind}:{number}")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    child = os.fork()
    if child == 0:
        _run(kind, random, samples, folder)
    status, usage, is_hung = _wait(child)
    seconds = usage.ru_utime + usage.ru_stime
    del before
    code = os.waitstatus_to_exitcode(status)
    output = (folder / "output.txt").read_text(errors="replace") if (folder / "output.txt").exists() else ""
    result = Result(None, seconds, usage.ru_maxrss * 1024, code, output)
    result.problem = _problem(result, is_hung, folder)
    if keep is not None:
        shutil.rmtree(keep, ignore_errors=True)
        shutil.copytree(
            folder, keep, symlinks=True, ignore=lambda at, names: [n for n in names if _is_odd(Path(at, n))]
        )
    return result


def _is_odd(path: Path) -> bool:
    return not (path.is_file() or path.is_dir())


def _wait(child: int) -> tuple[int, Any, bool]:
    end, is_hung = time.monotonic() + HANG_SECONDS, False
    while True:
        done, status, usage = os.wait4(child, os.WNOHANG)
        if done:
            return status, usage, is_hung
        if time.monotonic() > end:
            is_hung = True
            os.kill(child, signal.SIGKILL)
        time.sleep(0.01)


def _run(kind: str, random: Random, samples: Path, folder: Path) -> None:
    """In the child: never returns."""
    code = OWN_CODE
    try:
        os.setpgid(0, 0)
        output = os.open(folder / "output.txt", os.O_WRONLY | os.O_CREAT)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        resource.setrlimit(resource.RLIMIT_AS, (MAX_ADDRESSES, MAX_ADDRESSES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.chdir(folder)
        import torch

        torch.set_num_threads(1)
        arguments = KINDS[kind](random, samples, folder)
        (folder / "command.txt").write_text(" ".join(arguments), errors="replace")
        from facekit.cli import main as facekit

        try:
            facekit(arguments, prog_name="facekit")
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _problem(result: Result, is_hung: bool, folder: Path) -> str | None:
    lines = [line for line in result.output.splitlines() if line.strip()]
    if is_hung:
        return f"no answer in {HANG_SECONDS} s"
    if result.code == OWN_CODE or "Traceback (most recent call last)" in result.output:
        return f"traceback: {lines[-1][:100] if lines else ''}"
    if result.code < 0:
        return f"killed by signal {-result.code}"
    if result.code not in (0, 1, 2, 3):
        return f"exit code {result.code}"
    if result.seconds > MAX_SECONDS:
        return f"over {MAX_SECONDS} s"
    if result.peak > MAX_PEAK_BYTES:
        return f"over {MAX_PEAK_BYTES >> 20} MiB"
    errors = [number for number, line in enumerate(lines) if line.startswith("Error: ")]
    is_long = any(words in result.output for words in LONG_MESSAGES)
    if result.code == 1 and len(lines) - (errors or [len(lines)])[-1] > 1 and not is_long:
        return "an error of more than one line"
    if any(len(line) > 5000 for line in lines):
        return "a line of over 5,000 characters"
    left = [path.name for path in folder.rglob("*") if ".part" in path.name]
    return f"left behind: {', '.join(left[:3])}" if left else None


if __name__ == "__main__":
    main()
