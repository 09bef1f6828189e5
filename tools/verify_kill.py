"""Ends commands with SIGKILL at random moments, over outputs of an earlier run, and looks at what they leave.

python tools/verify_kill.py [--kills 20] [--seed 0] [--only export,report] prints a table: after how many kills the
outputs were all those of before, all those of the new run, some of each (each file being whole), or BROKEN: a file that
is neither. Exits with 1 where anything is broken, or where a run behind the kills leaves half-written files lying.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
import cv2
import numpy as np

from facekit.base.files import is_half_written
from facekit.template import TEMPLATES_DIR

PROJECT = Path(__file__).resolve().parent.parent
WEIGHTS = (TEMPLATES_DIR / "yunet-n" / "facekit.pth", PROJECT / "data" / "demo" / "yunet-n-drawn.pth")
Arguments = Callable[[int, Path], list[object]]  # of the old (0) or the new (1) run, into a folder


@dataclass(frozen=True)
class Case:
    """A command, its arguments, and whether there are outputs of an earlier run."""

    name: str
    arguments: Arguments
    is_over_old: bool = True


def detector(run: int) -> list[object]:
    return ["--template", "yunet-n", "--load-weights", WEIGHTS[run]]


def cases(data: Path) -> list[Case]:
    """All read what make_data() made."""
    sets, labels = [data / "old", data / "new"], "annotations.json"
    reports = [data / "old.html", data / "new.html"]
    return [
        Case("export", lambda run, out: ["export", *detector(run), "--save-model-to", out]),
        Case("compress", lambda run, out: [
            "compress", *detector(run), "--train-ann-files", sets[run] / labels, "--save-checkpoints-to", out,
            "--nncf-quantization", "--passes", 0, "--workers", 0, "--batch-size", 2,
        ]),
        Case("data convert, a file", lambda run, out: [
            "data", "convert", sets[run] / labels, out / "labels.json", "--to", "coco", "--force"]),
        Case("data convert, a new folder", lambda run, out: [
            "data", "convert", sets[run] / labels, out / "set", "--to", "yolo-face", "--pictures", "copy"], False),
        Case("data mark", lambda run, out: [
            "data", "mark", sets[run], out / "found.json", "--unlabelled", *detector(run)]),
        Case("instantiate", lambda run, out: [
            "instantiate", data / f"template-{run}.yaml", out, "--snapshot", WEIGHTS[run], "--force"]),
        Case("report", lambda run, out: ["report", reports[run], data / "third.html", "--output", out / "page.html"]),
        Case("visualize, pictures", lambda run, out: [
            "visualize", "--images", sets[run], "--output", out, *detector(run)]),
        Case("visualize, a video", lambda run, out: [
            "visualize", "--video", data / f"{run}.avi", "--output", out / "drawn.mp4", *detector(run)]),
    ]  # fmt: skip


def make_data(data: Path) -> None:
    """Pictures with labels, reports, videos and templates, an old and a new one of each."""
    for seed, name in enumerate(("old", "new")):
        draw = [
            sys.executable,
            PROJECT / "tools" / "draw_pictures.py",
            data / name,
            "--pictures",
            8,
            "--seed",
            seed + 1,
        ]
        subprocess.run([str(part) for part in draw], check=True, capture_output=True)
        template = (TEMPLATES_DIR / "yunet-n" / "template.yaml").read_text(encoding="utf-8")
        (data / f"template-{seed}.yaml").write_text(f"# {name}\n{template}", encoding="utf-8")
        writer = cv2.VideoWriter(str(data / f"{seed}.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (320, 240))
        for path in sorted((data / name / "images").iterdir()) * 3:
            picture = cv2.imread(str(path))
            assert picture is not None
            writer.write(np.asarray(cv2.resize(picture, (320, 240))))
        writer.release()
    for name, run, kind in (("old", 0, "old"), ("new", 1, "new"), ("third", 1, "old")):
        measure: list[object] = [
            "eval", *detector(run), "--test-ann-files", data / kind / "annotations.json", "--report",
            data / f"{name}.html",
        ]  # fmt: skip
        assert finish(start(measure)) == 0, measure


def start(arguments: list[object]) -> int:
    """A process of its own, all imports done, so that a kill hits work and not imports."""
    child = os.fork()
    if child == 0:
        code = 70
        try:
            os.setsid()
            nothing = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1, 2):
                os.dup2(nothing, stream)
            from facekit.cli import main as command_line

            command_line([str(argument) for argument in arguments], prog_name="facekit")
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 71
        finally:
            os._exit(code)
    return child


def finish(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_after(child: int, seconds: float) -> None:
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)  # not reaped yet, so the number is still its own
    with contextlib.suppress(ProcessLookupError):  # killed before it made a group
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)


def contents(folder: Path) -> dict[str, str]:
    """Name -> digest of each file but half-written ones, and what lies in half-made folders."""
    found = {}
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        hidden = any(is_half_written(folder / part) or part.startswith(".write-test") for part in inside.parts)
        if path.is_file() and not hidden:
            found[inside.as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def is_whole(path: Path) -> bool:
    """For outputs that differ from run to run: whether the file is complete, by its kind."""
    data = path.read_bytes()
    if path.suffix == ".html":
        return data.rstrip().endswith(b"</html>")
    if path.suffix == ".json":
        json.loads(data)
        return True
    if path.suffix == ".xml":
        return data.rstrip().endswith(b"</net>")
    if path.suffix == ".pth":
        from facekit.weights.torch_file import read_torch_file

        read_torch_file(path)
        return True
    return False


def verdict(out: Path, old: dict[str, str], new: dict[str, str], varies: set[str]) -> str:
    """old, new, mixed, or BROKEN with the file's name."""
    now, kinds = contents(out), set()
    for name in old.keys() | new.keys():
        digest = now.get(name)
        if digest == old.get(name) and digest == new.get(name):
            continue
        if digest == old.get(name):
            kinds.add("old")
        elif digest == new.get(name) or (name in varies and digest is not None and is_whole(out / name)):
            kinds.add("new")
        else:
            return f"BROKEN {name}"
    strange = now.keys() - old.keys() - new.keys()
    if strange:
        return f"BROKEN {min(strange)}"
    return "mixed" if len(kinds) > 1 else kinds.pop() if kinds else "old"


def measure(case: Case, folder: Path, kills: int, rng: random.Random) -> tuple[Counter[str], float, bool]:
    """Verdicts, seconds that the command takes, and whether the next run left nothing half-written."""
    out, kept = folder / "out", folder / "kept"
    out.mkdir(parents=True)
    if case.is_over_old:
        assert finish(start(case.arguments(0, out))) == 0, case.name
    old = contents(out)
    shutil.copytree(out, kept)
    states, seconds = [], 0.0
    for _ in range(2):
        restore(kept, out)
        started = time.monotonic()
        assert finish(start(case.arguments(1, out))) == 0, case.name
        seconds = time.monotonic() - started
        states.append(contents(out))
    varies = {name for name in states[0] if states[0][name] != states[1].get(name)}
    verdicts: Counter[str] = Counter()
    for _ in range(kills):
        restore(kept, out)
        kill_after(start(case.arguments(1, out)), rng.uniform(0, 1.05 * seconds))
        verdicts[verdict(out, old, states[0], varies)] += 1
    if not case.is_over_old:
        restore(kept, out)
    assert finish(start(case.arguments(1, out))) == 0, case.name
    return verdicts, seconds, not [path for path in out.rglob("*") if is_half_written(path)]


def restore(kept: Path, out: Path) -> None:
    """The outputs of the old run; what a killed process left half-written stays, for the next one to clear away."""
    for path in out.iterdir():
        if path.is_dir() and not is_half_written(path):
            shutil.rmtree(path)
        elif path.is_file() and not is_half_written(path):
            path.unlink()
    shutil.copytree(kept, out, dirs_exist_ok=True)


@click.command()
@click.option("--kills", default=20, show_default=True, help="Of each command.")
@click.option("--seed", default=0, show_default=True, help="Of the moments.")
@click.option("--only", default="", help="Comma-separated parts of commands' names.")
def main(kills: int, seed: int, only: str) -> None:
    """Kill commands at random moments, and look at what they leave."""
    import facekit.cli
    import facekit.commands.compress
    import facekit.detector
    import facekit.engine.compress.run
    import facekit.targets.writing.export  # noqa: F401

    rng, failed = random.Random(seed), False
    click.echo(f"{'':<28}{'seconds':>8}{'old':>6}{'new':>6}{'mixed':>7}{'BROKEN':>8}  cleared by the next run")
    with tempfile.TemporaryDirectory(prefix="facekit-kill-") as scratch:
        data = Path(scratch) / "data"
        data.mkdir()
        make_data(data)
        wanted = [part for part in only.split(",") if part]
        for case in cases(data):
            if wanted and not any(part in case.name for part in wanted):
                continue
            folder = Path(scratch) / "".join(sign if sign.isalnum() else "-" for sign in case.name)
            verdicts, seconds, is_cleared = measure(case, folder, kills, rng)
            broken = {name: count for name, count in verdicts.items() if name.startswith("BROKEN")}
            failed |= bool(broken) or not is_cleared
            click.echo(
                f"{case.name:<28}{seconds:8.1f}{verdicts['old']:6}{verdicts['new']:6}{verdicts['mixed']:7}"
                f"{sum(broken.values()):8}  {'yes' if is_cleared else 'NO'} {broken or ''}"
            )
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
