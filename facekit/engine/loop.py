"""One epoch of training: what a run, a fine-tuning and a compression have in common."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import cv2
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler

from facekit.datasets.labels import PictureLabels
from facekit.datasets.picture_cache import PictureCache
from facekit.datasets.training import TrainingSet, collate
from facekit.errors import FacekitError
from facekit.models.detector_network import DetectorNetwork
from facekit.ops.distributed import rank, world_size
from facekit.ops.pixels import normalise
from facekit.progress import progress_bar
from facekit.structures import RawOutputs
from facekit.template import Template
from facekit.transforms import mean_colour_bgr

LOG_INTERVAL = 10  # iterations between two looks at the losses: each look waits for the GPU


class EpochSampler(Sampler[int]):
    """A permutation that depends on (seed, epoch) alone, dealt out to the processes."""

    def __init__(self, dataset: TrainingSet) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return math.ceil(len(self.dataset) / world_size())

    def __iter__(self) -> Any:
        generator = torch.Generator().manual_seed(self.dataset.seed * 1_000_003 + int(self.dataset.epoch))
        order = torch.randperm(len(self.dataset), generator=generator)
        # All processes must make the same number of steps: the first pictures are dealt out twice if need be.
        order = torch.cat([order, order[: len(self) * world_size() - len(order)]])
        return iter(order[rank() :: world_size()].tolist())


@dataclass
class Batches:
    """The training set and its loader; `start_epoch` reshuffles and changes the augmentation's draws."""

    dataset: TrainingSet
    loader: DataLoader[Any]

    def start_epoch(self, epoch: int) -> None:
        self.dataset.epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.loader)


def make_batches(
    pictures: list[PictureLabels],
    template: Template,
    batch_size: int,
    workers: int,
    seed: int,
    pin_memory: bool,
    cache: PictureCache | None = None,
) -> Batches:
    """Shuffled, augmented batches of the template's input size."""
    settings = template.training
    dataset = TrainingSet(
        pictures, template.augmentation, template.input.size_hw, mean_colour_bgr(template.input),
        settings.dataset_repeats, seed, cache,
    )  # fmt: skip
    if workers:
        # Here, not in the workers: a fork of a process whose OpenCV threads have run hangs as soon as it touches them.
        cv2.setNumThreads(1)
    loader = DataLoader(
        dataset,
        batch_size=min(batch_size, len(dataset)),
        sampler=EpochSampler(dataset),
        num_workers=workers,
        collate_fn=collate,
        pin_memory=pin_memory,
        persistent_workers=workers > 0,
    )
    return Batches(dataset, loader)


@dataclass
class Progress:
    """Where training stands, and whom to tell."""

    epoch: int  # 0-based, the one that runs
    last_epoch: int
    iteration: int  # since the start of training
    report: Callable[[dict[str, Any]], None] = field(default=lambda record: None)


def train_one_epoch(
    network: nn.Module,
    described: DetectorNetwork,
    batches: Batches,
    optimizer: torch.optim.Optimizer,
    template: Template,
    learning_rate: Callable[[int, int], float],
    progress: Progress,
    scaler: torch.amp.GradScaler | None = None,
    autocast_dtype: torch.dtype | None = None,
    max_iterations: int | None = None,
) -> None:
    """Trains `network` (perhaps wrapped or compressed) for one epoch; `described` is the plain network that knows its
    priors and losses. Advances progress.iteration. Raises FacekitError at a loss that is not finite."""
    network.train()
    device = next(network.parameters()).device
    size_hw = template.input.size_hw
    priors = described.head.priors(size_hw, device)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    batches.start_epoch(progress.epoch)
    description = f"epoch {progress.epoch + 1}/{progress.last_epoch}"
    meter = _Meter()
    total = min(len(batches), max_iterations or len(batches))
    bar = progress_bar(batches.loader, rank() > 0, total=total, desc=description, unit="it")
    for step, (images, targets) in enumerate(bar):
        if step == total:
            break
        rate = learning_rate(progress.epoch, progress.iteration)
        for group in optimizer.param_groups:
            group["lr"] = rate
        images = normalise(images.to(device, non_blocking=True), template.input)
        images = images.to(memory_format=torch.channels_last)  # twice as fast as the other layout, on CPUs too
        targets = targets.to(device)
        with torch.autocast(device.type, dtype=autocast_dtype, enabled=autocast_dtype is not None):
            raw = network(images)
        # Priors are matched by logarithms and tiny overlaps: not in half precision.
        raw = RawOutputs._make(None if tensor is None else tensor.float() for tensor in raw)
        losses = described.losses(raw, targets, priors)
        loss = cast(Tensor, sum(losses.values()))
        _step(loss, optimizer, parameters, scaler, template.training.max_gradient_norm)
        progress.iteration += 1
        meter.add(losses, len(images) * world_size())
        if (step + 1) % LOG_INTERVAL == 0 or step + 1 == total:
            record = meter.read(progress, rate)
            bar.set_postfix_str(_one_line(record), refresh=False)
            if not math.isfinite(record["loss"]):
                raise FacekitError(
                    f"The loss became {record['loss']} at iteration {progress.iteration} of epoch {progress.epoch + 1} "
                    f"({_one_line(record)}). Lower --base-learning-rate; the last saved checkpoint is not affected."
                )
            progress.report(record)
    bar.close()


def _step(
    loss: Tensor,
    optimizer: torch.optim.Optimizer,
    parameters: list[Tensor],
    scaler: torch.amp.GradScaler | None,
    max_gradient_norm: float | None,
) -> None:
    optimizer.zero_grad(set_to_none=True)
    scaler = scaler or torch.amp.GradScaler(enabled=False)
    scaler.scale(loss).backward()
    if max_gradient_norm is not None:
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(parameters, max_gradient_norm)
    scaler.step(optimizer)
    scaler.update()


class _Meter:
    """Means of the losses between two looks."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self.started = time.perf_counter()
        self.sums: dict[str, Tensor] = {}
        self.steps = self.images = 0

    def add(self, losses: dict[str, Tensor], images: int) -> None:
        for name, value in losses.items():
            value = value.detach()
            self.sums[name] = self.sums[name] + value if name in self.sums else value
        self.steps += 1
        self.images += images

    def read(self, progress: Progress, rate: float) -> dict[str, Any]:
        means = {name: float(value) / self.steps for name, value in self.sums.items()}
        record: dict[str, Any] = {
            "epoch": progress.epoch + 1,
            "iteration": progress.iteration,
            "loss": sum(means.values()),
            **{f"loss_{name}": value for name, value in means.items()},
            "learning_rate": rate,
            "images_per_s": self.images / (time.perf_counter() - self.started),
        }
        self._reset()
        return record


def _one_line(record: dict[str, Any]) -> str:
    parts = [f"{key.removeprefix('loss_')} {value:.3f}" for key, value in record.items() if key.startswith("loss")]
    return f"{' '.join(parts)} lr {record['learning_rate']:.2g} {record['images_per_s']:.1f} img/s"
