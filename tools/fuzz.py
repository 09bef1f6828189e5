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
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NNCF_CI", "1")

MAX_SECONDS = 10  # of the processor
HANG_SECONDS = 90  # of the clock, on a machine that may be busy
MAX_PEAK_BYTES = 3 << 29
MAX_ADDRESSES = 64 << 30  # so that a bomb ends before the machine does
OWN_CODE = 97  # a traceback
LONG_MESSAGES = ("the weights don't fit", "could not be fetched", "has no snapshot")  # lists, a line an entry

Case = Callable[[Random, Path, Path], list[str]]  # random numbers, samples, the case's folder -> arguments


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
        samples = make_samples(Path(scratch) / "samples")
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


def make_samples(folder: Path) -> Path:
    """Good files of all kinds."""
    import numpy as np

    from facekit.cli import main as facekit
    from tests.fuzz import samples

    folder.mkdir(parents=True)
    pictures = samples.write_pictures(folder / "pictures")
    samples.write_ground_truth(folder / "ground_truth")
    samples.write_run_record(folder, pictures)
    (folder / "log.jsonl").write_text(samples.journal())
    np.savez(folder / "predictions.npz", names=["e/a", "e/b"], offsets=[0, 1, 3], xywhs=np.arange(15.0).reshape(3, 5))
    facekit_args = ["export", "--template", samples.TEMPLATE, "--load-weights"]
    bundled = PROJECT / "model_templates" / "face-detection" / samples.TEMPLATE / "facekit.pth"
    commands = [[*facekit_args, str(bundled), "--save-model-to", str(folder / "export")]]
    for to in ("yolo", "voc"):
        commands.append(["data", "convert", str(pictures / "labels.json"), str(folder / to), "--to", to])
    for command in commands:
        with contextlib.suppress(SystemExit):
            facekit(command)
    return folder


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


def checkpoints(random: Random, samples: Path, folder: Path) -> list[str]:
    """Ours and others', by bytes and by content."""
    from tests.fuzz.mutations import mutated_bytes, mutated_content, torch_bytes
    from tests.fuzz.samples import TEMPLATE, checkpoint_content

    content: Any = checkpoint_content()
    content = random.choice([content, content, content["state_dict"], {"model": content["state_dict"], "epoch": 3}])
    path = folder / "a.pth"
    if random.random() < 0.75:
        path.write_bytes(torch_bytes(mutated_content(random, content)))
    else:
        path.write_bytes(mutated_bytes(random, torch_bytes(content)))
    given = ["--template", TEMPLATE]
    return random.choice([
        ["import-weights", str(path), *given, "--output", "out/b.pth"],
        ["instantiate", TEMPLATE, "out/work", "--snapshot", str(path)],
        ["visualize", *given, "--load-weights", str(path), "--images", str(samples / "pictures"), "--output", "out"],
        ["train", *given, "--train-ann-files", str(samples / "pictures" / "labels.json"), "--resume-from", str(path),
         "--epochs", "4", "--max-iterations", "1", "--batch-size", "1", "--workers", "0", "--gpu-num", "0",
         "--save-checkpoints-to", "out"],
    ])  # fmt: skip


def graphs(random: Random, samples: Path, folder: Path) -> list[str]:
    """ONNX and IR."""
    from tests.fuzz.mutations import mutated_bytes, mutated_text

    kind = random.choice(["onnx", "onnx bytes", "xml", "bin"])
    for suffix in ("onnx", "xml", "bin"):
        shutil.copyfile(samples / "export" / f"model.{suffix}", folder / f"a.{suffix}")
    if kind == "onnx":
        (folder / "a.onnx").write_bytes(_mutated_onnx(random, (folder / "a.onnx").read_bytes()))
    elif kind == "onnx bytes":
        (folder / "a.onnx").write_bytes(mutated_bytes(random, (folder / "a.onnx").read_bytes()))
    elif kind == "xml":
        values = ["-1", "0", "3", "9" * 30, "1000000000", "x", "f16", "i64", "Broadcast", "Tile"]
        text = mutated_text(random, (folder / "a.xml").read_text(), values)
        (folder / "a.xml").write_text(text, errors="replace")
    else:
        (folder / "a.bin").write_bytes(mutated_bytes(random, (folder / "a.bin").read_bytes()))
    name = "a.onnx" if "onnx" in kind else "a.xml"
    template = ["--template", "yunet-n"] if random.random() < 0.7 else []
    images = ["--images", str(samples / "pictures"), "--output", "out"]
    return ["visualize", *template, "--load-weights", name, *images]


def _mutated_onnx(random: Random, data: bytes) -> bytes:
    import onnx

    from tests.fuzz.mutations import NUMBERS

    model = onnx.load_from_string(data)
    graph = model.graph
    for _ in range(random.choice([1, 1, 2, 4])):
        action = random.randrange(7)
        node = random.choice(graph.node)
        if action == 0:
            tensor = random.choice(graph.initializer)
            tensor.dims[:] = random.choice([[1 << 40], [-1], [0], [3], [1 << 20, 1 << 20], list(tensor.dims)[::-1]])
        elif action == 1:
            random.choice(graph.initializer).data_type = random.randrange(1, 20)
        elif action == 2:
            shape = random.choice([*graph.input, *graph.output]).type.tensor_type
            shape.elem_type = random.choice([1, 1, 7, 9, 10, 11, shape.elem_type])
            for side in shape.shape.dim:
                if random.random() < 0.5:
                    side.dim_value = random.choice([-1, 0, 1, 3, 100_000, 1 << 40])
        elif action == 3:
            node.op_type = random.choice(
                ["Relu", "Exp", "Tile", "Expand", "Loop", "Nothing", "Log", "Shape", "Squeeze"]
            )
        elif action == 4 and node.attribute:
            attribute = random.choice(node.attribute)
            attribute.ints[:] = [int(n) % 2**62 for n in random.sample(NUMBERS, 2) if n == n and abs(n) < 1e300]
        elif action == 5:
            random.choice(graph.output).name = random.choice(["x", "", "boxes", graph.output[0].name])
        else:
            graph.node.remove(node)
    changed: bytes = model.SerializeToString()
    return changed


def templates(random: Random, samples: Path, folder: Path) -> list[str]:
    """template.yaml of any detector."""
    from facekit.template import find_template, known_templates
    from tests.fuzz.mutations import YAML_VALUES, mutated_text

    small = [name for name in known_templates() if name != "face-detection-0206"]  # a large network takes its seconds
    name = random.choice(["yunet-n", *small])
    text = mutated_text(random, find_template(name).read_text(encoding="utf-8"), YAML_VALUES)
    (folder / "template.yaml").write_text(text, encoding="utf-8", errors="replace")
    return random.choice([
        ["flops", "template.yaml"],
        ["instantiate", "template.yaml", "out/work", "--no-snapshot"],
        ["visualize", "--template", ".", "--load-weights", str(samples / "export" / "model.onnx"), "--images",
         str(samples / "pictures"), "--output", "out"],
        ["priors", str(samples / "pictures" / "labels.json"), "--template", ".", "--output", "out/new.yaml"],
    ])  # fmt: skip


def labels(random: Random, samples: Path, folder: Path) -> list[str]:
    """COCO, WIDER, YOLO and VOC."""
    from tests.fuzz.mutations import mutated_json, mutated_text

    shutil.copytree(samples / "pictures", folder / "set", dirs_exist_ok=True)
    kind = random.choice(["labels.json", "wider.txt", "yolo", "voc"])
    source = folder / "set" / kind
    numbers = ["-1", "nan", "1e308", "9" * 5000, "x", "0", "", "1e-30", "&a;", "<x>"]
    if kind == "labels.json":
        source.write_text(mutated_json(random, source.read_text()), errors="replace")
    elif kind == "wider.txt":
        source.write_text(mutated_text(random, source.read_text(), numbers), errors="replace")
    else:
        source = folder / kind
        shutil.copytree(samples / kind, source)
        texts = [path for path in sorted(source.rglob("*")) if path.suffix in (".txt", ".xml", ".yaml")]
        for path in random.sample(texts, min(2, len(texts))):
            path.write_text(mutated_text(random, path.read_text(), numbers), errors="replace")
    return random.choice([
        ["data", "check", str(source), "--workers", "0"],
        ["data", "convert", str(source), "out/new", "--to", random.choice(["coco", "yolo", "voc", "wider"])],
        ["data", "browse", str(source), "--output", "out/page.html"],
    ])  # fmt: skip


def pictures(random: Random, samples: Path, folder: Path) -> list[str]:
    """JPEG and PNG."""
    from tests.fuzz.mutations import mutated_bytes

    for name in ("0.jpg", "2.png"):
        (folder / name).write_bytes(mutated_bytes(random, (samples / "pictures" / name).read_bytes()))
    return ["visualize", "0.jpg", "2.png", str(samples / "pictures" / "1.jpg"), "--output", "out"]


def predictions(random: Random, samples: Path, folder: Path) -> list[str]:
    """An .npz, or a folder of result files."""
    from tests.fuzz.mutations import mutated_bytes, mutated_text

    given = folder / "a.npz"
    if random.random() < 0.5:
        given.write_bytes(mutated_bytes(random, (samples / "predictions.npz").read_bytes()))
    else:
        given = folder / "results"
        (given / "e").mkdir(parents=True)
        for name in ("a", "b"):
            text = mutated_text(random, f"{name}\n1\n1 2 3 4 0.5\n", ["-1", "nan", "1e999", "9" * 5000, "x"])
            (given / "e" / f"{name}.txt").write_text(text, encoding="utf-8", errors="replace")
    return ["eval-predictions", str(given), "--wider-gt", str(samples / "ground_truth")]


def records(random: Random, samples: Path, folder: Path) -> list[str]:
    """run.json and log.jsonl."""
    from tests.fuzz.mutations import mutated_json, mutated_text

    (folder / "run.json").write_text(mutated_json(random, (samples / "run.json").read_text()), errors="replace")
    journal = mutated_text(
        random, (samples / "log.jsonl").read_text(), ["1e308", "-1", "null", "9" * 5000, "NaN", "[]"]
    )
    (folder / "log.jsonl").write_text(journal, errors="replace")
    return random.choice(
        [
            ["plot", "log.jsonl", "--output", "out/course.svg"],
            ["reproduce", "run.json", "--save-checkpoints-to", "out", "--force"],
        ]
    )


KINDS: dict[str, Case] = {
    "checkpoints": checkpoints, "graphs": graphs, "templates": templates, "labels": labels, "pictures": pictures,
    "predictions": predictions, "records": records,
}  # fmt: skip


if __name__ == "__main__":
    main()
