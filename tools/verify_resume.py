"""Shows that a killed run loses nothing: python tools/verify_resume.py [--kills 5] [--workers 0,2]

A small training on drawn pictures runs to its end; then it is killed (SIGKILL) at random moments, resumed from its
folder, and its final weights are compared with the uninterrupted run's, bit by bit. Prints a line a kill; bar: all
equal. Takes some minutes.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import yaml

from facekit.cli import run_command
from facekit.template import find_template
from facekit.weights.checkpoint import content_digest
from facekit.weights.torch_file import read_torch_file

PROJECT = Path(__file__).resolve().parent.parent
PICTURES, REPEATS, BATCH, EPOCHS, INTERVAL = 24, 4, 4, 4, 7


@click.command()
@click.option("--template", default="yunet-n", show_default=True)
@click.option("--size", default=96, show_default=True, help="Pixels of the square input.")
@click.option("--learning-rate", default=0.001, show_default=True)
@click.option("--kills", default=5, show_default=True, help="For each number of workers.")
@click.option("--workers", default="0,2", show_default=True, help="Comma-separated numbers of reading processes.")
@click.option("--seed", default=0, show_default=True, help="Of the moments.")
def main(template: str, size: int, learning_rate: float, kills: int, workers: str, seed: int) -> None:
    """Exit code 1 where a resumed run ends with other weights."""
    moments = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="facekit-") as scratch:
        folder = Path(scratch)
        subprocess.run(
            [sys.executable, PROJECT / "tools" / "draw_pictures.py", folder, "--pictures", str(PICTURES)], check=True
        )
        write_template(template, size, learning_rate, folder / "template.yaml")
        equal = [verify(folder, int(number), kills, moments) for number in workers.split(",")]
    click.echo("all bars met" if all(equal) else "SOME BARS MISSED")
    sys.exit(not all(equal))


def write_template(name: str, size: int, learning_rate: float, target: Path) -> None:
    content = yaml.safe_load(find_template(name).read_text(encoding="utf-8"))
    content["input"]["size_hw"] = [size, size]
    content["training"] |= {
        "dataset_repeats": REPEATS, "batch_size": BATCH, "base_learning_rate": learning_rate,
    }  # fmt: skip
    target.write_text(yaml.safe_dump(content), encoding="utf-8")


def verify(folder: Path, workers: int, kills: int, moments: random.Random) -> bool:
    whole = folder / f"whole_{workers}"
    started = time.monotonic()
    process = start(folder, whole, workers)
    while process.poll() is None and not (whole / "latest.pth").exists():
        time.sleep(0.05)
    first_checkpoint = time.monotonic() - started
    finish(process)
    seconds = time.monotonic() - started
    wanted = digest(whole)
    click.echo(f"{workers} workers: uninterrupted in {seconds:.1f} s, weights {wanted[:16]}")
    verdicts: list[bool] = []
    attempt = 0
    while len(verdicts) < kills:
        attempt += 1
        out = folder / f"killed_{workers}_{attempt}"
        process = start(folder, out, workers)
        moment = moments.uniform(0.9 * first_checkpoint, seconds)
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
        else:
            continue  # it was faster than the uninterrupted run
        where = describe(out)
        finish(start(folder, out, workers, "--resume-from", str(out)) if where else start(folder, out, workers))
        verdicts.append(digest(out) == wanted)
        verdict = "bit-equal" if verdicts[-1] else "DIFFERENT WEIGHTS"
        went_on = where or "from the start, nothing being saved"
        click.echo(f"{workers} workers: killed after {moment:.1f} s, went on {went_on}: {verdict}")
    return all(verdicts)


def start(folder: Path, out: Path, workers: int, *more: str) -> subprocess.Popen[str]:
    command = [
        sys.executable, "-m", "facekit", "train", "--template", str(folder / "template.yaml"),
        "--train-ann-files", str(folder / "annotations.json"), "--train-data-roots", str(folder),
        "--val-ann-files", str(folder / "annotations.json"), "--val-data-roots", str(folder),
        "--save-checkpoints-to", str(out), "--epochs", str(EPOCHS), "--checkpoint-interval", str(INTERVAL),
        "--workers", str(workers), "--gpu-num", "0", "--from-scratch",
    ]  # fmt: skip
    if more:
        command.remove("--from-scratch")
    return subprocess.Popen([*command, *more], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)


def finish(process: subprocess.Popen[str]) -> None:
    _, errors = process.communicate()
    if process.returncode:
        raise click.ClickException(f"A training failed:\n{errors[-3000:]}")


def digest(folder: Path) -> str:
    return content_digest(dict(read_torch_file(folder / "latest.pth")["state_dict"]))


def describe(folder: Path) -> str:
    """Where the newest checkpoint stands; empty without one."""
    if not (folder / "latest.pth").is_file():
        return ""
    meta = read_torch_file(folder / "latest.pth")["meta"]
    return f"behind iteration {meta['iteration']} (epoch {meta['epoch'] + 1}, {meta['epoch_iteration']} of it)"


if __name__ == "__main__":
    run_command(main)
