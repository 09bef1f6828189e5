"""Pictures a second of data alone, model alone and both: python tools/benchmark_training.py --template yunet-n \
--ann-file train.json --data-root images [--batch 16] [--workers 2] [--threads 2]

Random weights, real pictures, the loop that training runs. The parts are measured in turns and the medians shown, as
other programs of the machine are seldom quiet for long; CPU seconds a picture hardly feel those.
"""

from __future__ import annotations

import dataclasses
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any, cast

import click
import torch
from torch import Tensor, nn

from facekit.cli import run_command
from facekit.commands.flops import parse_size
from facekit.engine.training.loop import Batches, Learner, Progress, make_batches, train_one_epoch
from facekit.engine.training.optimizers import make_optimizer
from facekit.engine.training.precision import autocast_dtype, compile_network
from facekit.labels.formats import read_labels
from facekit.machine.memory import keep_freed_memory
from facekit.models import build_model
from facekit.ops.pixels import normalise
from facekit.structures import RawOutputs, Targets
from facekit.template import find_template, load_template
from facekit.training_data.picture_cache import fill_cache

Batch = tuple[Tensor, Targets]
READY_BATCHES = 4  # that the model alone goes round
DATA_FACTOR = 5  # batches that data alone reads for one step of the others: it is faster
MEMORY_INTERVAL_S = 0.2


class Stream:
    """Batches without end; iterating takes the next `count`."""

    def __init__(self, batches: Batches, count: int) -> None:
        self.count = count
        self.following = self._endless(batches)

    @staticmethod
    def _endless(batches: Batches) -> Iterator[Batch]:
        while True:
            yield from batches.loader

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Batch]:
        return islice(self.following, self.count)


@dataclasses.dataclass
class Given(Batches):
    """Batches that go on where they were, whatever the epoch."""

    batch_size: int

    def start_epoch(self, epoch: int, iteration: int = 0) -> None:
        pass

    def pictures(self, iteration: int) -> int:
        return self.batch_size

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.loader)

    def __len__(self) -> int:
        return len(self.loader)


class Bench:
    """A network in training, its pictures, and how long things take."""

    def __init__(self, template_name: str, ann_file: Path, data_root: Path | None, size: str | None, batch: int | None,
                 workers: int, iterations: int, precision: str, compile: bool, cache: Any) -> None:  # fmt: skip
        template = load_template(find_template(template_name))
        if size is not None:
            template = dataclasses.replace(
                template, input=dataclasses.replace(template.input, size_hw=parse_size(size))
            )
        torch.manual_seed(0)
        keep_freed_memory()
        self.template = template
        self.workers = workers
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.detector_network = build_model(template).to(self.device).to(memory_format=torch.channels_last)
        self.network: nn.Module = self.detector_network
        self.autocast_dtype = autocast_dtype(precision, self.device)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.autocast_dtype is torch.float16)
        self.optimizer = make_optimizer(self.network, template.training.optimizer)
        if compile:
            self.network = compile_network(self.network, self.device)
        pictures = read_labels(ann_file, data_root)
        self.batches = make_batches(
            pictures, template, batch or template.training.batch_size, workers, 0, self.device.type == "cuda",
            fill_cache(cache, pictures, 1e6) if cache else None,
        )  # fmt: skip
        self.batch_size = cast(int, self.batches.loader.batch_size)
        self.stream = Stream(self.batches, iterations)
        self.ready = list(islice(self.stream.following, READY_BATCHES))

    def data(self) -> None:
        """Takes batches as fast as they come."""
        for _ in islice(self.stream.following, DATA_FACTOR * self.stream.count):
            pass

    def model(self) -> None:
        """Trains on batches that are there."""
        self._train(list(islice(cycle(self.ready), self.stream.count)))

    def both(self) -> None:
        """Trains as `facekit train` does."""
        self._train(self.stream)

    def _train(self, loader: Any) -> None:
        batches = Given(self.batches.dataset, loader, self.batch_size)
        progress = Progress(0, 1, 0)
        learner = Learner(
            self.network, self.detector_network, self.optimizer, self.template, lambda *_: 1e-6, self.scaler,
            self.autocast_dtype,
        )  # fmt: skip
        train_one_epoch(learner, batches, progress)

    def loss_s(self) -> float:
        """Seconds a step for assignment, losses and their gradients as far as the network's outputs."""
        priors = self.detector_network.head.priors(self.template.input.size_hw).tensors(self.device)
        seconds = []
        for images, targets in self.ready:
            pixels = normalise(images.to(self.device), self.template.input).to(memory_format=torch.channels_last)
            with torch.no_grad():
                raw = self.detector_network(pixels)
            for _ in range(3):
                leaves = [None if tensor is None else tensor.float().requires_grad_() for tensor in raw]
                start = time.perf_counter()
                losses = self.detector_network.losses(RawOutputs._make(leaves), targets.to(self.device), priors)
                cast(Tensor, sum(losses.values())).backward()
                self._wait()
                seconds.append(time.perf_counter() - start)
        return statistics.median(seconds)

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def measure(self, part: Callable[[], None]) -> tuple[float, float]:
        """Pictures a second, and CPU seconds a picture over all our processes."""
        pictures = self.stream.count * self.batch_size * (DATA_FACTOR if part == self.data else 1)
        start, cpu_start = time.perf_counter(), cpu_s()
        part()
        self._wait()
        return pictures / (time.perf_counter() - start), (cpu_s() - cpu_start) / pictures

    def settle(self) -> None:
        """Empties the workers' queues of what they fetched while nobody took it."""
        for _ in islice(self.stream.following, self.workers * 2):
            pass


def process_tree() -> list[int]:
    """This process and all below it."""
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:  # just ended
                continue
    tree = [os.getpid()]
    for pid in tree:
        tree += [child for child, parent in parents.items() if parent == pid]
    return tree


def cpu_s() -> float:
    """CPU seconds that the process tree has taken so far."""
    ticks = 0
    for pid in process_tree():
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def memory_gib() -> float:
    """Of the process tree; pages that several processes share count once."""
    kib = 0
    for pid in process_tree():
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        kib += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return kib / 2**20


def peak_memory_gib(part: Callable[[], None]) -> float:
    """The most that was seen while the part ran."""
    seen, done = [memory_gib()], threading.Event()

    def watch() -> None:
        while not done.wait(MEMORY_INTERVAL_S):
            seen.append(memory_gib())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        part()
    finally:
        done.set()
        watcher.join()
    return max(seen)


def processor() -> str:
    """As Linux names it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


@click.command()
@click.option("--template", default="yunet-n", show_default=True)
@click.option("--ann-file", type=click.Path(path_type=Path), required=True, help="Labels of any format.")
@click.option("--data-root", type=click.Path(path_type=Path), help="Folder above the pictures.")
@click.option("--size", metavar="WxH", help="Pixels of the network's input [template's].")
@click.option("--batch", type=click.IntRange(min=1), help="Pictures a batch [template's].")
@click.option("--workers", type=click.IntRange(min=0), default=2, show_default=True)
@click.option("--threads", type=click.IntRange(min=1), help="Of the model [torch's own choice].")
@click.option("--precision", type=click.Choice(("auto", "fp32", "bf16", "fp16")), default="auto", show_default=True)
@click.option("--compile", is_flag=True, help="Compile the network first.")
@click.option("--cache", type=click.Choice(("ram", "disk")), help="Keep decoded pictures, however many.")
@click.option("--iterations", type=click.IntRange(min=1), default=6, show_default=True, help="Steps a measurement.")
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="Measurements of each part.")
def main(threads: int | None, rounds: int, **flags: Any) -> None:
    """Print pictures a second, ratios, the share of the losses and peak memory."""
    torch.set_num_threads(threads or torch.get_num_threads())
    bench = Bench(flags.pop("template"), **flags)
    parts = {"data": bench.data, "model": bench.model, "both": bench.both}
    figures: dict[str, list[tuple[float, float]]] = {name: [] for name in parts}
    peak = peak_memory_gib(bench.both)  # the warm-up, too
    for _ in range(rounds):
        for name, part in parts.items():
            if name != "model":
                bench.settle()
            figures[name].append(bench.measure(part))
    rate = {name: statistics.median(rate for rate, _ in rows) for name, rows in figures.items()}
    cost = {name: statistics.median(cost for _, cost in rows) for name, rows in figures.items()}
    height, width = bench.template.input.size_hw
    click.echo(
        f"{bench.template.name} {width}x{height}, batch {bench.batch_size}, {flags['workers']} workers, "
        f"{torch.get_num_threads()} threads on {bench.device.type}, "
        f"{str(bench.autocast_dtype or torch.float32).removeprefix('torch.')}; {processor()}, {os.cpu_count()} cores, "
        f"load {os.getloadavg()[0]:.1f}"
    )
    for name, rows in figures.items():
        spread = ", ".join(f"{rate:.1f}" for rate, _ in sorted(rows))
        click.echo(f"{name:<6} {rate[name]:8.1f} img/s  {1000 * cost[name]:7.2f} CPU ms a picture  ({spread})")
    click.echo(f"both / model {rate['both'] / rate['model']:.2f}, data / model {rate['data'] / rate['model']:.2f}")
    share = bench.loss_s() * rate["model"] / bench.batch_size
    click.echo(f"assignment and losses {100 * share:.1f} % of the model's step; peak memory {peak:.2f} GiB (PSS)")


if __name__ == "__main__":
    run_command(main)
