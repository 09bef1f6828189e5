"""A training run: from a template, pictures and perhaps weights to latest.pth, best.pth and epoch_N.pth."""

from __future__ import annotations

import json
import logging
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from facekit.backends.pytorch import PyTorchBackend
from facekit.checkpoint import Checkpoint, load_state, new_meta, save_checkpoint
from facekit.datasets.labels import PictureLabels
from facekit.datasets.picture_cache import fill_cache
from facekit.detector import Detector
from facekit.engine.batch_norm import unfold_batch_norm
from facekit.engine.evaluate import evaluate_labelled, metric_value
from facekit.engine.loop import Batches, Progress, make_batches, train_one_epoch
from facekit.engine.optimizers import make_optimizer, restore_optimizer
from facekit.engine.precision import autocast_dtype, compile_network
from facekit.engine.record import Metric
from facekit.engine.schedule import step_schedule
from facekit.errors import FacekitError
from facekit.files import check_writable_folder, replacing
from facekit.import_weights import load_weights
from facekit.models import build_model
from facekit.models.detector_network import DetectorNetwork
from facekit.models.imagenet import load_imagenet_backbone
from facekit.ops.distributed import join_processes, leave_processes, rank, wait_for_all, world_size
from facekit.ops.memory import keep_freed_memory
from facekit.ops.pixels import normalise
from facekit.template import Template

log = logging.getLogger(__name__)

UNFOLDING_BATCHES = 8  # of training pictures, to measure batch norms that a deployed graph had folded away


@dataclass(frozen=True)
class TrainOptions:
    """Flags of train.py; None where the template decides."""

    save_checkpoints_to: Path
    resume_from: Path | None = None
    load_weights: Path | None = None
    from_scratch: bool = False  # random weights even where the template names ImageNet weights for its backbone
    epochs: int | None = None  # the absolute last epoch
    batch_size: int | None = None
    base_learning_rate: float | None = None
    tensorboard_dir: Path | None = None
    val_interval: int = 1
    workers: int = 2
    seed: int = 0
    max_iterations: int | None = None  # an epoch's; for demonstrations and tests
    precision: str = "auto"  # auto, fp32, bf16 or fp16: see engine.precision
    compile: bool = False  # the network, for speed
    cache: Literal["ram", "disk"] | None = None  # of decoded pictures
    cache_limit: float = 4.0  # GiB, a process


def train(
    template: Template,
    train_pictures: list[PictureLabels],
    val_pictures: list[PictureLabels],
    options: TrainOptions,
) -> Path | None:
    """Trains up to the last epoch and returns latest.pth; None where there was nothing left to train.

    Raises FacekitError for weights that don't fit, a folder that can't be written, or a loss that is not finite.
    """
    if options.resume_from and options.load_weights:
        raise FacekitError("Give --resume-from (go on) or --load-weights (start at epoch 0 from there), not both.")
    source = options.resume_from or options.load_weights
    if options.from_scratch and source:
        raise FacekitError(f"--from-scratch starts from random weights: give it without {source}, or leave it out.")
    check_writable_folder(options.save_checkpoints_to)
    last_epoch = options.epochs or template.training.epochs
    checkpoint = load_weights(source, template) if source else None
    if checkpoint is not None and checkpoint.meta.get("compression"):
        raise FacekitError(f"{source}: compressed weights; fine-tune before compress.py, or with it.")
    first_epoch = checkpoint.epoch if checkpoint and options.resume_from else 0
    if first_epoch >= last_epoch:
        log.info(
            "%s has finished epoch %d and --epochs is %d: nothing to train. Give --epochs %d to add one more.",
            source, first_epoch, last_epoch, first_epoch + 1,
        )  # fmt: skip
        return None
    device = join_processes()
    try:
        return _Run(template, train_pictures, val_pictures, options, device).run(checkpoint, first_epoch, last_epoch)
    finally:
        leave_processes()


class _Run:
    """What a run holds while it goes on."""

    def __init__(
        self,
        template: Template,
        train_pictures: list[PictureLabels],
        val_pictures: list[PictureLabels],
        options: TrainOptions,
        device: torch.device,
    ) -> None:
        torch.manual_seed(options.seed)
        self.template = template
        self.val_pictures = val_pictures
        self.options = options
        self.device = device
        self.folder = options.save_checkpoints_to
        keep_freed_memory()
        self.plain = build_model(template).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        batch_size = options.batch_size or template.training.batch_size
        self.batches = make_batches(
            train_pictures, template, batch_size, options.workers, options.seed, device.type == "cuda",
            fill_cache(options.cache, train_pictures, options.cache_limit) if options.cache else None,
        )  # fmt: skip
        self.autocast_dtype = autocast_dtype(options.precision, device)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.autocast_dtype is torch.float16)
        self.best_ap = -1.0

    def run(self, checkpoint: Checkpoint | None, first_epoch: int, last_epoch: int) -> Path:
        self._load(checkpoint)
        self.plain.to(self.device)
        optimizer = self._optimizer(checkpoint)
        network = self._over_processes()
        steps = min(len(self.batches), self.options.max_iterations or len(self.batches))
        iteration = checkpoint.meta["iteration"] if checkpoint and first_epoch else 0
        # An imported snapshot knows its epoch only: its warm-up is long over.
        progress = Progress(first_epoch, last_epoch, iteration or first_epoch * steps)
        schedule = step_schedule(self.template.training, self.options.base_learning_rate, last_epoch * steps)
        self._announce(progress, steps, schedule(first_epoch, progress.iteration))
        with _Log(self.folder, self.options.tensorboard_dir) as journal:
            progress.report = journal.write
            for epoch in range(first_epoch, last_epoch):
                progress.epoch = epoch
                train_one_epoch(
                    network, self._described, self.batches, optimizer, self.template, schedule, progress,
                    self.scaler, self.autocast_dtype, self.options.max_iterations,
                )  # fmt: skip
                metrics = self._evaluate(epoch, last_epoch)
                if metrics:
                    journal.write(
                        {"epoch": epoch + 1, "iteration": progress.iteration, **{m.key: m.value for m in metrics}}
                    )
                if rank() == 0:
                    self._save(epoch + 1, progress.iteration, optimizer, metrics)
                wait_for_all()
        return self.folder / "latest.pth"

    @property
    def _described(self) -> DetectorNetwork:
        return cast(DetectorNetwork, self.plain)

    def _load(self, checkpoint: Checkpoint | None) -> None:
        if checkpoint is None:
            if rank() == 0:  # the other processes get its weights
                self._start()
            wait_for_all()
            return
        load_state(self.plain, checkpoint.state_dict, "checkpoint")
        if checkpoint.meta.get("batch_norm_folded"):
            prepare_folded(self.plain, self.batches, self.template)
        if self.options.resume_from:
            self.best_ap = float(checkpoint.meta.get("best_ap", -1.0))

    def _start(self) -> None:
        """The weights to begin with where none are given."""
        if not self.options.from_scratch and load_imagenet_backbone(self.plain, self.template):
            name = self.template.model.imagenet_weights
            log.info("The backbone starts from torchvision's %s, all else from random weights.", name)
        else:
            log.info("Training starts from random weights.")

    def _optimizer(self, checkpoint: Checkpoint | None) -> torch.optim.Optimizer:
        optimizer = make_optimizer(self.plain, self.template.training.optimizer)
        if checkpoint is not None and self.options.resume_from is not None:
            if checkpoint.optimizer is None:
                log.info("The snapshot holds no optimiser state: starting with a fresh optimiser.")
            else:
                restore_optimizer(optimizer, checkpoint.optimizer, self.options.resume_from)
                if checkpoint.extra.get("scaler"):  # empty where training needed none
                    self.scaler.load_state_dict(checkpoint.extra["scaler"])
        return optimizer

    def _over_processes(self) -> nn.Module:
        if world_size() > 1 and self.device.type == "cuda":
            self.plain = nn.SyncBatchNorm.convert_sync_batchnorm(self.plain)
        network = compile_network(self.plain, self.device) if self.options.compile else self.plain
        if world_size() == 1:
            return network
        return DistributedDataParallel(network, device_ids=[self.device] if self.device.type == "cuda" else None)

    def _announce(self, progress: Progress, steps: int, learning_rate: float) -> None:
        if rank() == 0:
            log.info(
                "Training %s, epochs %d to %d, %d iterations each, batch %d x %d process(es) on %s, learning rate %g",
                self.template.name, progress.epoch + 1, progress.last_epoch, steps,
                self.batches.loader.batch_size, world_size(), self.device.type, learning_rate,
            )  # fmt: skip

    def _evaluate(self, epoch: int, last_epoch: int) -> list[Metric]:
        due = (epoch + 1) % self.options.val_interval == 0 or epoch + 1 == last_epoch
        if not self.val_pictures or not due or rank() != 0:
            return []
        self.plain.eval()
        detector = Detector(PyTorchBackend(self.plain, self.template), self.template)
        metrics = evaluate_labelled(detector, self.val_pictures)
        figures = ", ".join(f"{metric.display_name} {metric.text(2)} {metric.unit}" for metric in metrics)
        log.info("epoch %d: %s (%d pictures; %s)", epoch + 1, figures, len(self.val_pictures), self.template.protocol())
        return metrics

    def _save(self, epoch: int, iteration: int, optimizer: torch.optim.Optimizer, metrics: list[Metric]) -> None:
        ap = metric_value(metrics, "ap") if metrics else math.nan
        is_best = ap > self.best_ap
        self.best_ap = ap if is_best else self.best_ap
        meta = new_meta(self.template, epoch, iteration) | {"best_ap": self.best_ap}
        checkpoint = Checkpoint(
            meta, self.plain.state_dict(), optimizer.state_dict(), {"scaler": self.scaler.state_dict()}
        )
        numbered = self.folder / f"epoch_{epoch}.pth"
        save_checkpoint(numbered, checkpoint)
        for name, wanted in (("latest.pth", True), ("best.pth", is_best)):
            if wanted:
                _copy(numbered, self.folder / name)
        log.info("Saved %s%s", numbered, " (best so far)" if is_best else "")


def prepare_folded(network: nn.Module, batches: Batches, template: Template) -> None:
    """Brings back batch norms that the source of the weights had folded away, measured on training pictures."""
    log.info("The weights come from a deployed graph: measuring its batch norms anew on training pictures ...")
    batches.start_epoch(0)
    device = next(network.parameters()).device
    images = (
        normalise(batch.to(device), template.input)
        for _, (batch, _) in zip(range(UNFOLDING_BATCHES), batches.loader, strict=False)
    )
    unfold_batch_norm(network, images)


def _copy(source: Path, target: Path) -> None:
    with replacing(target) as beside:
        try:
            os.link(source, beside)
        except OSError:  # a file system without hard links
            beside.write_bytes(source.read_bytes())


class _Log:
    """JSON lines beside the checkpoints, TensorBoard where asked for; silent on all processes but the first."""

    def __init__(self, folder: Path, tensorboard_dir: Path | None) -> None:
        self.started = time.time()
        self.lines: Any = None
        self.board: Any = None
        if rank() == 0:
            self.lines = (folder / "log.jsonl").open("a", encoding="utf-8")
            if tensorboard_dir is not None:
                check_writable_folder(tensorboard_dir)
                from torch.utils.tensorboard import SummaryWriter

                self.board = SummaryWriter(str(tensorboard_dir))

    def __enter__(self) -> _Log:
        return self

    def __exit__(self, *error: object) -> None:
        for sink in (self.lines, self.board):
            if sink is not None:
                sink.close()

    def write(self, record: dict[str, Any]) -> None:
        if self.lines is not None:
            plain = {key: None if value != value else value for key, value in record.items()}  # JSON has no NaN
            self.lines.write(json.dumps({**plain, "seconds": round(time.time() - self.started, 3)}) + "\n")
            self.lines.flush()
        if self.board is not None:
            for key, value in record.items():
                if key not in ("epoch", "iteration"):
                    self.board.add_scalar(key, value, record["iteration"])
