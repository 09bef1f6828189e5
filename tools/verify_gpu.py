"""Shows that a GPU does what the CPU does: python tools/verify_gpu.py [--seconds 60] [--budget-s 1500]

Every architecture trains on drawn pictures, in fp32, bf16 and fp16; is stopped and resumed; finds faces; and is
exported. Compared with the CPU, from the same weights: each loss and the gradients of one batch, the network's raw
outputs, the faces found and their AP. Prints images a second and a table, and what a budget cut.

Runs from a bare checkout: no shared folder, no network, and neither pycocotools nor OpenVINO are needed.
Exit code 0: all passed; 1: something differs or failed; 3: nothing failed, but not all ran: the budget cut something,
or there is no CUDA, where nothing runs. `--device cpu` rehearses it on a CPU, which proves this tool and no GPU.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

PROJECT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(PROJECT), str(PROJECT / "tools")]  # a bare checkout has facekit not installed
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # or its sums would have no fixed order

import click  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
import yaml  # noqa: E402
from gpu_comparison import (  # noqa: E402
    SAME_IOU,
    SAME_SCORE,
    SCORE_THRESHOLD,
    copy_to,
    count_pairs,
    distance,
    farthest,
    repeatable,
    whole_float32,
)
from torch import Tensor, nn  # noqa: E402

from facekit.cli import cli, run_command  # noqa: E402
from facekit.detector import Detector  # noqa: E402
from facekit.engine.training.loop import make_batches  # noqa: E402
from facekit.errors import Interrupted  # noqa: E402
from facekit.labels.formats import read_labels  # noqa: E402
from facekit.labels.picture_labels import PictureLabels  # noqa: E402
from facekit.metrics.size_ap import ap_by_height  # noqa: E402
from facekit.models import build_model  # noqa: E402
from facekit.ops.pixels import normalise  # noqa: E402
from facekit.pictures.read import read_picture  # noqa: E402
from facekit.structures import RawOutputs  # noqa: E402
from facekit.template import Template, find_template, load_template  # noqa: E402
from facekit.weights.checkpoint import load_state  # noqa: E402
from facekit.weights.load import load_weights  # noqa: E402
from facekit.weights.torch_file import read_torch_file  # noqa: E402

TEMPLATES = {  # the smallest of each architecture, the slowest last
    "yunet": "yunet-n", "ultralight": "ultralight-slim-320", "retinaface": "retinaface-mobilenetv1-0.25",
    "scrfd": "scrfd-0.5g", "ssd": "face-detection-0200", "fcos": "face-detection-0205", "atss": "face-detection-0206",
}  # fmt: skip
FACES_KNOWN = {"yunet": PROJECT / "data" / "demo" / "yunet-n-drawn.pth"}  # finds the drawn faces before any training
DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
PICTURES = 48

# What float32 may differ by, TF32 being off: relative to the largest value; assignment is a choice, and may tip.
TOLERANCE = 2e-3
# Where the CPU's own float32 is further off float64 (batch norms of random weights magnify), so many times that.
TIMES_ROUNDING = 4
HALF_TOLERANCE = {torch.bfloat16: 0.15, torch.float16: 0.05}  # of a loss computed in 16 bits, relative
RESUME_TOLERANCE = 1e-3  # some sums of a GPU's have no fixed order, whatever is asked for
RESUME_RATE = 1e-4  # calm: at a template's own rate random weights are chaos, and magnify rounding to the step's size
SAME_SHARE = 0.98  # of the faces must pair
SAME_AP = 1.0  # points


@dataclass
class Row:
    """What one architecture was seen to do."""

    name: str
    template: str
    speeds: dict[str, str] = field(default_factory=dict)  # precision -> images a second
    checks: dict[str, str] = field(default_factory=dict)  # check -> figure
    failed: list[str] = field(default_factory=list)
    cut: list[str] = field(default_factory=list)

    def check(self, name: str, passed: bool, figure: str) -> None:
        self.checks[name] = figure
        if not passed:
            self.failed.append(f"{name}: {figure}")


@dataclass(frozen=True)
class Machine:
    """Where it runs, on what, and until when."""

    device: torch.device
    folder: Path  # with annotations.json and images/
    workers: int
    batch_size: int | None
    deadline: float  # of time.monotonic

    @property
    def seconds_left(self) -> float:
        return self.deadline - time.monotonic()

    def train(self, work: Path, *more: str) -> None:
        """`facekit train` in this process. Raises Interrupted where a signal ended it."""
        batch = ["--batch-size", str(self.batch_size)] if self.batch_size else []
        cli.main(
            ["train", "--template", str(work / "template.yaml"), "--gpu-num", "0" if self.device.type == "cpu" else "1",
             "--train-ann-files", str(self.folder / "annotations.json"), "--train-data-roots", str(self.folder),
             *batch, *more],
            standalone_mode=False,
        )  # fmt: skip


@click.command()
@click.option("--seconds", type=click.FloatRange(min=1), default=60.0, show_default=True,
              help="Of training, an architecture, shared among the precisions.")  # fmt: skip
@click.option("--budget-s", type=click.FloatRange(min=1), default=1500.0, show_default=True,
              help="Seconds in all; what does not fit is named as cut.")  # fmt: skip
@click.option("--architectures", default=",".join(TEMPLATES), show_default=True, help="Comma-separated.")
@click.option("--precisions", default=",".join(DTYPES), show_default=True, help="Comma-separated.")
@click.option("--workers", type=click.IntRange(min=0), help="Processes that read data [half the cores, at most 8].")
@click.option("--device", type=click.Choice(("cuda", "cpu")), default="cuda", show_default=True,
              help="cpu: a rehearsal, without fp16.")  # fmt: skip
@click.option("--size", type=click.IntRange(min=32), help="Pixels of a square input [template's], for rehearsals.")
@click.option("--batch-size", type=click.IntRange(min=1), help="Pictures a batch [template's], for rehearsals.")
@click.option("--export/--no-export", default=True, show_default=True)
def main(
    seconds: float, budget_s: float, architectures: str, precisions: str, workers: int | None, device: str,
    size: int | None, batch_size: int | None, export: bool,
) -> None:  # fmt: skip
    """Train, resume, evaluate and export every architecture on a GPU, and compare it with the CPU."""
    started = time.monotonic()
    names, kinds = _chosen(architectures, TEMPLATES), _chosen(precisions, DTYPES)
    if device == "cuda" and not torch.cuda.is_available():
        click.echo("NOT RUN: this machine has no CUDA device, so nothing was verified. A rehearsal: --device cpu")
        sys.exit(3)
    if device == "cpu":
        click.echo("REHEARSAL on the CPU, which is compared with itself: this proves the tool, and no GPU.")
        kinds = [name for name in kinds if name != "fp16"]
    logging.getLogger("facekit").setLevel(logging.WARNING)
    where = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    click.echo(f"{where}, torch {torch.__version__}, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory(prefix="facekit-gpu-") as scratch:
        folder = Path(scratch)
        draw = [sys.executable, str(PROJECT / "tools" / "draw_pictures.py"), scratch, "--pictures", str(PICTURES)]
        subprocess.run(draw, check=True, stdout=subprocess.DEVNULL)
        count = min(8, (os.cpu_count() or 2) // 2) if workers is None else workers
        machine = Machine(torch.device(device), folder, count, batch_size, started + budget_s)
        rows, exports = [], {}
        for name in names:
            row = Row(name, TEMPLATES[name])
            rows.append(row)
            weights = verify(row, machine, seconds, kinds, size)
            if weights is not None and export:
                exports[name] = start_export(weights)
            elif export:
                row.cut.append("export")
            click.echo(line(row, time.monotonic() - started), nl=False)
        for row in rows:
            if row.name in exports:
                finish_export(row, machine, exports[row.name])
    click.echo(table(rows, kinds))
    sys.exit(verdict(rows, time.monotonic() - started, device))


def _chosen(text: str, known: dict[str, Any]) -> list[str]:
    names = text.split(",")
    if unknown := sorted(set(names) - set(known)):
        raise click.UsageError(f"{unknown[0]!r} is unknown; expected some of {','.join(known)}.")
    return names


def verify(row: Row, machine: Machine, seconds: float, precisions: list[str], size: int | None) -> Path | None:
    """Fills the row; returns the trained weights, None where there are none."""
    work = machine.folder / row.name
    work.mkdir()
    template = write_template(row, work / "template.yaml", size)
    pictures = read_labels(machine.folder / "annotations.json", machine.folder)
    weights = work / "fp32" / "latest.pth"
    share = seconds / len(precisions)
    # fp32 in any case, for the weights that all else is compared by.
    trainings = {name: partial(train_for, row, machine, work, name, share) for name in ["fp32", *precisions]}
    steps: dict[str, Callable[[], None]] = {
        "resume": partial(check_resume, row, machine, work),
        "fp32": trainings.pop("fp32"),
        "network": partial(check_network, row, machine, template, weights, pictures, precisions),
        "faces": partial(check_faces, row, machine, template, weights, pictures),
        **trainings,
    }
    for name, step in steps.items():
        if machine.seconds_left < (share if name in DTYPES else 0):
            row.cut.append(name)
            continue
        if name in ("network", "faces") and not weights.is_file():
            row.cut.append(f"{name} (no weights)")
            continue
        try:
            step()
        except Interrupted:  # not by us
            raise
        except Exception as error:  # whatever it is, the others are still to be seen
            row.failed.append(f"{name}: {type(error).__name__}: {' '.join(str(error).split())[:300]}")
    return weights if weights.is_file() else None


def write_template(row: Row, target: Path, size: int | None) -> Template:
    """A constant learning rate, so that a run's length changes nothing, and an epoch that never ends."""
    content = yaml.safe_load(find_template(row.template).read_text(encoding="utf-8"))
    content["training"] |= {
        "dataset_repeats": 1000, "schedule": {"kind": "step", "milestones": [], "factor": 0.1},
    }  # fmt: skip
    content["evaluation"]["score_threshold"] = SCORE_THRESHOLD
    if size is not None:
        content["input"]["size_hw"] = [size, size]
    target.write_text(yaml.safe_dump(content), encoding="utf-8")
    return load_template(target)


def starting_weights(row: Row) -> list[str]:
    known = FACES_KNOWN.get(row.name)
    return ["--from-scratch"] if known is None else ["--load-weights", str(known)]


def check_resume(row: Row, machine: Machine, work: Path) -> None:
    """Two short epochs in one run, and in two: the same weights, by the way they went."""
    size = [] if machine.batch_size else ["--batch-size", "8"]
    brief = [
        "--max-iterations", "2", "--workers", "0", "--precision", "fp32",
        "--base-learning-rate", str(RESUME_RATE), *size,
    ]  # fmt: skip
    whole, halves = work / "whole", work / "halves"
    with repeatable(), whole_float32():
        for folder, epochs in ((whole, "2"), (halves, "1")):
            machine.train(
                work, "--save-checkpoints-to", str(folder), "--epochs", epochs, *brief, *starting_weights(row)
            )
        machine.train(work, "--save-checkpoints-to", str(halves), "--epochs", "2", *brief, "--resume-from", str(halves))
    files = (halves / "epoch_1.pth", whole / "latest.pth", halves / "latest.pth")
    start, wanted, found = (read_torch_file(file)["state_dict"] for file in files)
    difference = distance(found, wanted) / distance(start, wanted)
    ends = {read_torch_file(file)["meta"]["iteration"] for file in files[1:]}
    figure = "bit-equal" if difference == 0 else f"{difference:.0e}"
    row.check("resume", difference <= RESUME_TOLERANCE and ends == {4}, figure)


def train_for(row: Row, machine: Machine, work: Path, precision: str, seconds: float) -> None:
    """Trains until a signal, as a user's Ctrl-C, ends it; the first look at the losses is warm-up."""
    folder, ended, sent = work / precision, threading.Event(), threading.Event()
    wait = threading.Thread(target=interrupt, args=(folder / "log.jsonl", seconds, machine, ended, sent), daemon=True)
    wait.start()
    try:
        machine.train(
            work, "--save-checkpoints-to", str(folder), "--epochs", "1000", "--precision", precision, "--workers",
            str(machine.workers), "--cache", "ram", *starting_weights(row),
        )  # fmt: skip
    except Interrupted:
        if not sent.is_set():  # it is the user's Ctrl-C
            raise
    finally:
        ended.set()
        wait.join()
    lines = journal(folder / "log.jsonl")
    if not (folder / "latest.pth").is_file() or not lines:
        row.failed.append(f"{precision}: no step was finished in {seconds:.0f} s")
        return
    timed = lines[1:] or lines
    speed = float(np.mean([entry["images_per_s"] for entry in timed]))
    row.speeds[precision] = f"{speed:.0f}" if len(lines) > 1 else f"{speed:.0f} (cold)"
    row.checks[f"loss {precision}"] = f"{lines[0]['loss']:.2f} > {lines[-1]['loss']:.2f}"


def interrupt(log: Path, seconds: float, machine: Machine, ended: threading.Event, sent: threading.Event) -> None:
    """A SIGINT to this very process once its run has timed enough iterations, or the time is up."""
    while not ended.wait(0.05):
        lines = journal(log)
        enough = len(lines) > 1 and lines[-1]["seconds"] - lines[0]["seconds"] >= seconds
        if enough or (lines and machine.seconds_left < 0):
            sent.set()
            os.kill(os.getpid(), signal.SIGINT)
            return


def journal(log: Path) -> list[dict[str, Any]]:
    """Its whole lines."""
    if not log.is_file():
        return []
    return [json.loads(text) for text in log.read_text(encoding="utf-8").splitlines(keepends=True) if text[-1] == "\n"]


def check_network(
    row: Row, machine: Machine, template: Template, weights: Path, pictures: list[PictureLabels], precisions: list[str]
) -> None:
    """One batch through the network of the weights, here and there."""
    network = build_model(template)
    load_state(network, load_weights(weights, template).state_dict, str(weights))
    batch_size = 4 if machine.batch_size is None else 8  # one of them must hold a face that counts
    images, targets = next(iter(make_batches(pictures, template, batch_size, 0, 0, False).loader))
    images = normalise(images, template.input)

    def run(device: torch.device, dtype: torch.dtype | None) -> tuple[RawOutputs, dict[str, float], float]:
        here = copy_to(device, network)
        with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            raw = here(images.to(device))
        raw = RawOutputs._make(None if tensor is None else tensor.float() for tensor in raw)
        priors = here.head.priors(template.input.size_hw).tensors(device)
        losses = here.losses(raw, targets.to(device), priors)
        cast(Tensor, sum(losses.values())).backward()
        norm = nn.utils.get_total_norm([each.grad for each in here.parameters() if each.grad is not None])
        return raw, {name: float(value.detach()) for name, value in losses.items()}, float(norm)

    with whole_float32():
        (raw, losses, norm), (gpu_raw, gpu_losses, gpu_norm) = (
            run(device, None) for device in (torch.device("cpu"), machine.device)
        )
    exact = copy_to(torch.device("cpu"), network).double()(images.double())
    rounding, outputs = (farthest(found, exact) for found in (raw, gpu_raw))
    tolerance = max(TOLERANCE, TIMES_ROUNDING * rounding)
    row.check("outputs", outputs <= tolerance, f"{outputs:.0e} (CPU {rounding:.0e})")
    loss = max(abs(gpu_losses[name] - value) / max(abs(value), 0.1) for name, value in losses.items())
    row.check("losses", loss <= tolerance, f"{loss:.0e}")
    gradient = abs(gpu_norm - norm) / max(norm, 1e-12)
    row.check("gradients", norm > 0 and gradient <= 10 * tolerance, f"{gradient:.0e}")
    for dtype in filter(None, (DTYPES[precision] for precision in precisions)):
        _, half_losses, _ = run(machine.device, dtype)
        loss = abs(sum(half_losses.values()) - sum(losses.values())) / max(sum(losses.values()), 1e-12)
        row.check(f"losses {str(dtype)[6:]}", loss <= HALF_TOLERANCE[dtype], f"{loss:.0e}")


def check_faces(row: Row, machine: Machine, template: Template, weights: Path, pictures: list[PictureLabels]) -> None:
    """The faces in some pictures, and their AP, by the weights here and there."""
    some = pictures[:12]
    found = []
    with whole_float32():
        for device in ("cpu", machine.device.type):
            detector = Detector.open(weights, template, device=device)
            found.append([detector.detect(read_picture(picture.path)) for picture in some])
    cpu, gpu = found
    total = sum(len(faces) for faces in cpu)
    paired = sum(count_pairs(mine, theirs) for mine, theirs in zip(gpu, cpu, strict=True))
    row.check("faces", total == 0 or paired >= SAME_SHARE * total, f"{paired}/{total}")
    ap = [
        100 * ap_by_height(
            [picture.boxes_xywh for picture in some], [picture.is_crowd for picture in some],
            [each.boxes_xyxy for each in faces], [each.scores for each in faces], min_height=1,
        )
        for faces in found
    ]  # fmt: skip
    row.check("AP50", abs(ap[1] - ap[0]) <= SAME_AP, f"{ap[1]:.1f} ({ap[0]:.1f})")


def start_export(weights: Path) -> subprocess.Popen[str]:
    """In a process of its own, on the CPU, while the GPU goes on; it compares what it writes with PyTorch."""
    targets = [] if importlib.util.find_spec("openvino") else ["--no-openvino"]
    work = weights.parent.parent
    return subprocess.Popen(
        [sys.executable, "-m", "facekit", "export", "--template", work / "template.yaml", "--load-weights", weights,
         "--save-model-to", work / "export", *targets],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(PROJECT), os.environ.get("PYTHONPATH", "")]),
             "OMP_NUM_THREADS": "2", "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip


def finish_export(row: Row, machine: Machine, process: subprocess.Popen[str]) -> None:
    try:
        output, _ = process.communicate(timeout=max(0.1, machine.seconds_left))
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        row.cut.append("export")
        return
    written = sorted(path.name for path in (machine.folder / row.name / "export").glob("model.*"))
    last = (output.strip().splitlines() or ["nothing was said"])[-1]
    row.check("export", process.returncode == 0 and bool(written), ", ".join(written) or last[:200])


def line(row: Row, seconds: float) -> str:
    return f"{seconds:5.0f} s  {row.name}: {'FAILED' if row.failed else 'passed'}{', cut' if row.cut else ''}\n"


def table(rows: list[Row], precisions: list[str]) -> str:
    """A row an architecture: images a second and what was compared with the CPU."""
    checks = dict.fromkeys(name for row in rows for name in row.checks)
    head = ["architecture", "template", *(f"images/s {name}" for name in precisions), *checks]
    cells = [head, ["---"] * len(head)]
    for row in rows:
        speeds = [row.speeds.get(name, "-") for name in precisions]
        cells.append([row.name, row.template, *speeds, *(row.checks.get(name, "-") for name in checks)])
    lines = ["| " + " | ".join(row) + " |" for row in cells]
    return "\n".join(["", *lines, "", 
        f"Tolerances: outputs (from float64) and losses {TOLERANCE:g}, gradients {10 * TOLERANCE:g}, or "
        f"{TIMES_ROUNDING} and {10 * TIMES_ROUNDING} times what the CPU's own outputs are off by; "
        f"losses in bfloat16 {HALF_TOLERANCE[torch.bfloat16]:g}, in float16 {HALF_TOLERANCE[torch.float16]:g}, weights "
        f"after resuming {RESUME_TOLERANCE:g}, all relative; faces: IoU {SAME_IOU:g}, score {SAME_SCORE:g}, "
        f"{SAME_SHARE:.0%} of them; AP50 of the GPU (CPU), all heights, on 12 drawn pictures, score "
        f"{SCORE_THRESHOLD:g}: {SAME_AP:g} point.", ""])  # fmt: skip


def verdict(rows: list[Row], seconds: float, device: str) -> int:
    for row in rows:
        for failure in row.failed:
            click.echo(f"FAILED  {row.name}: {failure}")
        for what in row.cut:
            click.echo(f"CUT     {row.name}: {what} did not run")
    failed, cut = any(row.failed for row in rows), any(row.cut for row in rows)
    end = "SOMETHING FAILED" if failed else "nothing failed, but not all ran" if cut else "all bars met"
    click.echo(f"{end} ({device}, {seconds:.0f} s)")
    return 1 if failed else 3 if cut else 0


if __name__ == "__main__":
    run_command(main)
