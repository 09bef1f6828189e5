"""One epoch of training: what a run, a fine-tuning and a compression have in common."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import cv2
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler

from facekit.base.progress import progress_bar
from facekit.engine.training.distill import Teacher, TeacherTargets
from facekit.engine.training.frozen import keep_frozen_in_eval
from facekit.engine.training.meter import Meter, one_line
from facekit.errors import FacekitError
from facekit.labels.picture_labels import PictureLabels
from facekit.machine.processes import rank, world_size
from facekit.machine.reductions import largest_over_processes
from facekit.machine.signals import shield_worker
from facekit.models.detector_network import DetectorNetwork
from facekit.ops.pixels import normalise
from facekit.structures import Priors, RawOutputs, Targets
from facekit.template import Template
from facekit.training_data.balance import folder_shares, systematic_draws
from facekit.training_data.picture_cache import PictureCache
from facekit.training_data.training_set import TrainingSet, collate, no_samples
from facekit.training_data.transforms import mean_colour_bgr

LOG_INTERVAL = 10  # iterations between two looks at the losses: each look waits for the GPU


class EpochSampler(Sampler[int]):
    """A permutation that depends on (seed, epoch) alone, dealt out to the processes like cards: no picture twice, and
    together they have the batches that one process would make of it.

    Balanced, some pictures come several times an epoch (each time augmented anew), others not in every epoch.
    """

    def __init__(self, dataset: TrainingSet, balance: float = 0.0) -> None:
        self.dataset = dataset
        self.shares = folder_shares(dataset.pictures, balance) if balance else None
        self.start = 0  # pictures of this process that are done already

    def __len__(self) -> int:
        return len(range(rank(), len(self.dataset), world_size()))

    def __iter__(self) -> Any:
        return iter(self.order()[self.start :])

    def order(self) -> list[int]:
        """All of this process's pictures of the epoch."""
        generator = torch.Generator().manual_seed(self.dataset.seed * 1_000_003 + int(self.dataset.epoch))
        order = torch.randperm(len(self.dataset), generator=generator)
        if self.shares is not None:
            start = float(torch.rand(1, generator=generator, dtype=torch.float64))
            order = torch.from_numpy(systematic_draws(self.shares, len(self.dataset), start))[order]
        return order[rank() :: world_size()].tolist()


@dataclass
class Batches:
    """The training set and its loader; `start_epoch` reshuffles and changes the augmentation's draws."""

    dataset: TrainingSet
    loader: DataLoader[Any]

    def start_epoch(self, epoch: int, iteration: int = 0) -> None:
        """At its 0-based iteration; the pictures before are not read."""
        self.dataset.epoch.fill_(epoch)
        cast(EpochSampler, self.loader.sampler).start = iteration * cast(int, self.loader.batch_size)

    def again(self, iteration: int) -> tuple[list[str], Tensor, Targets]:
        """The batch of a 0-based iteration of the current epoch, as it was fed, and its pictures' paths."""
        batch_size = cast(int, self.loader.batch_size)
        order = cast(EpochSampler, self.loader.sampler).order()[iteration * batch_size :][:batch_size]
        paths = [str(self.dataset.pictures[index % len(self.dataset.pictures)].path) for index in order]
        images, targets = collate([self.dataset[index] for index in order])
        return paths, images, targets

    def pictures(self, iteration: int) -> int:
        """In the batch of a 0-based iteration, those of all processes."""
        return min(self._whole_batch, len(self.dataset) - iteration * self._whole_batch)

    def __iter__(self) -> Iterator[Any]:
        """The rest of the epoch's batches, len(self) in all: for the last of them may be too few pictures left for each
        process to have one, but all must take part in every step."""
        yield from self.loader
        yield no_samples(self.dataset.size_hw)

    def __len__(self) -> int:
        return math.ceil(len(self.dataset) / self._whole_batch)

    @property
    def _whole_batch(self) -> int:
        return cast(int, self.loader.batch_size) * world_size()


def make_batches(
    pictures: list[PictureLabels],
    template: Template,
    batch_size: int,
    workers: int,
    seed: int,
    pin_memory: bool,
    cache: PictureCache | None = None,
    balance: float = 0.0,
) -> Batches:
    """Shuffled, augmented batches of the template's input size; balance: see folder_shares."""
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
        sampler=EpochSampler(dataset, balance),
        num_workers=workers,
        collate_fn=collate,
        pin_memory=pin_memory,
        persistent_workers=workers > 0,
        generator=torch.Generator(),  # or each start would draw from the random state that networks draw from
    )
    return Batches(dataset, loader)


def begin_worker(worker: int) -> None:
    """What a process that reads data does first."""
    cv2.setNumThreads(1)  # forked ones have it so; each of the others would take all cores
    shield_worker(worker)


class NonFiniteLossError(FacekitError):
    """A loss that is no finite number. `batch` holds what it came from, ready for torch.save; None where that was
    another process's."""

    def __init__(self, message: str, batch: dict[str, Any] | None) -> None:
        super().__init__(message)
        self.batch = batch


@dataclass
class Progress:
    """Where training stands."""

    epoch: int  # 0-based, the one that runs
    last_epoch: int
    iteration: int  # done since the start of training
    epoch_iteration: int = 0  # done in this epoch
    stopped_by: int = 0  # the signal that asked for an end, once all processes know of it; 0 for none
    _started: float = field(default_factory=time.perf_counter, init=False)
    _done: int = field(default=0, init=False)  # iterations since then

    def start_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        self.epoch_iteration = 0

    def advance(self) -> None:
        """One iteration more is done: a batch."""
        self.iteration += 1
        self.epoch_iteration += 1
        self._done += 1

    def seconds_left(self, epoch_length: int) -> float:
        """An estimate for the whole run, evaluations and all, by its speed so far."""
        left = (self.last_epoch - self.epoch) * epoch_length - self.epoch_iteration
        return (time.perf_counter() - self._started) / self._done * left


@dataclass(frozen=True)
class Learner:
    """What is trained, and how."""

    network: nn.Module  # perhaps wrapped or compressed
    detector_network: DetectorNetwork  # the plain one, which knows its priors and losses
    optimizer: torch.optim.Optimizer
    template: Template
    learning_rate: Callable[[int, int], float]  # of the 0-based epoch and the iteration since the start of training
    scaler: torch.amp.GradScaler = field(default_factory=lambda: torch.amp.GradScaler(enabled=False))
    autocast_dtype: torch.dtype | None = None
    teacher: Teacher | None = None  # completes the labels and adds losses

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    @property
    def parameters(self) -> list[Tensor]:
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]


@dataclass(frozen=True)
class Hooks:
    """What happens on the way, beside training."""

    report: Callable[[dict[str, Any]], None] = lambda record: None  # losses and rates, every LOG_INTERVAL iterations
    show: Callable[[Tensor, Targets], None] = lambda images_bgr, targets: None  # an epoch's first batch
    after_step: Callable[[], None] = lambda: None  # of the optimiser
    stop_signal: Callable[[], int] = lambda: 0  # the signal that asks for an end, 0 for none


NO_HOOKS = Hooks()


def train_one_epoch(
    learner: Learner,
    batches: Batches,
    progress: Progress,
    hooks: Hooks = NO_HOOKS,
    max_iterations: int | None = None,
) -> None:
    """Trains for the rest of an epoch. Advances progress; returns early, with progress.stopped_by and behind a step,
    when asked to stop.

    A step is made of training.accumulate batches, whose losses count alike; an epoch's last step may have fewer.

    Raises NonFiniteLossError. On a CPU that is before the step could spoil the weights; on a GPU, where each look at
    the losses stalls it, up to LOG_INTERVAL steps later.
    """
    total = min(len(batches), max_iterations or len(batches))
    if progress.epoch_iteration >= total:  # resumed between the last step and the end of the epoch
        return
    optimizer, scaler, settings = learner.optimizer, learner.scaler, learner.template.training
    learner.network.train()
    keep_frozen_in_eval(learner.detector_network, settings)
    device, parameters = learner.device, learner.parameters
    priors = learner.detector_network.head.priors(learner.template.input.size_hw).tensors(device)
    batches.start_epoch(progress.epoch, progress.epoch_iteration)
    meter = Meter()
    fed = meter.timed(itertools.islice(batches, total - progress.epoch_iteration))
    bar = progress_bar(
        fed, rank() > 0, total=total, initial=progress.epoch_iteration, unit="it",
        desc=f"epoch {progress.epoch + 1}/{progress.last_epoch}",
    )  # fmt: skip
    for images_bgr, targets in bar:
        fed_bgr = images_bgr.to(device, non_blocking=True)
        teacher_targets = learner.teacher.look_at(fed_bgr, targets) if learner.teacher is not None else None
        if teacher_targets is not None:
            targets = teacher_targets.targets
        if progress.epoch_iteration == 0:
            hooks.show(images_bgr, targets)
        rate = learner.learning_rate(progress.epoch, progress.iteration)
        for group in optimizer.param_groups:
            group["lr"] = rate
        losses = _losses(learner, fed_bgr, targets, teacher_targets, priors, device)
        meter.add(losses, batches.pictures(progress.epoch_iteration))
        is_due = (progress.epoch_iteration + 1) % LOG_INTERVAL == 0 or progress.epoch_iteration + 1 == total
        if is_due or device.type == "cpu":
            _look(meter, batches, parameters, progress, hooks.stop_signal(), device)
        step = _batches_of_step(progress.epoch_iteration, total, settings.accumulate)
        if progress.epoch_iteration == step.start:
            optimizer.zero_grad(set_to_none=True)
        scaler.scale(cast(Tensor, sum(losses.values())) / len(step)).backward()
        progress.advance()
        if progress.epoch_iteration == step.stop:
            _step(optimizer, parameters, scaler, settings.max_gradient_norm)
        if is_due:
            record = {
                "epoch": progress.epoch + 1, "iteration": progress.iteration, "learning_rate": rate,
                "eta_s": progress.seconds_left(total), **meter.read(),
            }  # fmt: skip
            bar.set_postfix_str(one_line(record), refresh=False)
            hooks.report(record)
        if progress.epoch_iteration == step.stop:
            hooks.after_step()
            if progress.stopped_by:
                break
    bar.close()


def _losses(
    learner: Learner,
    images_bgr: Tensor,
    targets: Targets,
    teacher_targets: TeacherTargets | None,
    priors: Priors,
    device: torch.device,
) -> dict[str, Tensor]:
    """Of a batch on the device, by name."""
    images = normalise(images_bgr, learner.template.input)
    images = images.to(memory_format=torch.channels_last)  # twice as fast as the other layout, on CPUs too
    dtype = learner.autocast_dtype
    with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
        raw = learner.network(images)
    # Priors are matched by logarithms and tiny overlaps: not in half precision.
    raw = RawOutputs._make(None if tensor is None else tensor.float() for tensor in raw)
    losses = learner.detector_network.losses(raw, targets.to(device), priors)
    if learner.teacher is not None and teacher_targets is not None:
        losses |= learner.teacher.losses(raw, teacher_targets, priors)
    return losses


def _look(
    meter: Meter, batches: Batches, parameters: list[Tensor], progress: Progress, signal_number: int,
    device: torch.device,
) -> None:  # fmt: skip
    """Whether to go on, in which all processes must agree: one that left alone would leave the others waiting."""
    found = meter.first_not_finite()
    is_bad, signalled = largest_over_processes([float(found is not None), signal_number], device)
    progress.stopped_by = int(signalled)
    if not is_bad:
        return
    advice = "Lower `base_learning_rate`; the last saved checkpoint is not affected."
    if found is None:
        raise NonFiniteLossError(f"The loss of another process became no finite number. {advice}", None)
    back, losses = found
    iteration, loss = progress.iteration - back, sum(losses.values())
    paths, images_bgr, targets = batches.again(progress.epoch_iteration - back)
    parts = " ".join(f"{name} {value:.3f}" for name, value in losses.items())
    batch = {
        "images_bgr": images_bgr, "targets": targets._asdict(), "pictures": paths, "losses": losses,
        "epoch": progress.epoch + 1, "iteration": iteration + 1, "iterations_since": back,
        "parameters_norm": float(nn.utils.get_total_norm([parameter.detach() for parameter in parameters])),
    }  # fmt: skip
    raise NonFiniteLossError(
        f"The loss became {loss} at iteration {iteration + 1} of the run, in epoch {progress.epoch + 1} ({parts}). "
        f"{advice}",
        batch,
    )


def _batches_of_step(iteration: int, total: int, accumulate: int) -> range:
    """The iterations of an epoch of `total` ones that make a step together with this one."""
    start = iteration - iteration % accumulate
    return range(start, min(start + accumulate, total))


def _step(
    optimizer: torch.optim.Optimizer,
    parameters: list[Tensor],
    scaler: torch.amp.GradScaler,
    max_gradient_norm: float | None,
) -> None:
    if max_gradient_norm is not None:
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(parameters, max_gradient_norm)
    scaler.step(optimizer)
    scaler.update()
