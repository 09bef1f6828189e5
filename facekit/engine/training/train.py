"""A training run: from a template, pictures and perhaps weights to latest.pth, best.pth and epoch_N.pth."""

from __future__ import annotations

import dataclasses
import logging
import math
import signal
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from facekit.base.files import check_writable_folder, remove_leftovers
from facekit.detector import Detector
from facekit.engine.evaluation.evaluate import metric_value
from facekit.engine.training.average import WeightAverage
from facekit.engine.training.batch_norm import prepare_folded
from facekit.engine.training.checkpoints import (
    BEST,
    LATEST,
    holding,
    newest_checkpoint,
    save_epoch,
    save_latest,
    save_start,
)
from facekit.engine.training.distill import Teacher, open_teacher
from facekit.engine.training.frozen import freeze
from facekit.engine.training.journal import Journal
from facekit.engine.training.loop import (
    Hooks,
    Learner,
    NonFiniteLossError,
    Progress,
    begin_worker,
    make_batches,
    train_one_epoch,
)
from facekit.engine.training.optimizers import make_optimizer
from facekit.engine.training.options import AUTO, TrainOptions
from facekit.engine.training.precision import MANTISSA_BITS, autocast_dtype, compile_network
from facekit.engine.training.preflight import tell_of_fall, tell_what_is_learnt, warn_of_nothing_to_measure
from facekit.engine.training.schedule import make_schedule, schedule_lengths
from facekit.engine.training.starting import check_kept, check_same_start, clear_folder, go_on_or_start
from facekit.engine.training.state import TrainingState, resumed_progress, settings_of
from facekit.engine.training.stopping import early_stopper_of
from facekit.engine.training.sync_batch_norm import synchronise_batch_norms
from facekit.engine.training.validation import key_of, measure
from facekit.errors import FacekitError, Interrupted
from facekit.labels.learnable import check_learnable
from facekit.labels.picture_labels import PictureLabels
from facekit.machine.environment import environment
from facekit.machine.memory import keep_freed_memory
from facekit.machine.processes import (
    join_processes,
    leave_processes,
    lost_process,
    rank,
    wait_for_all,
    world_size,
)
from facekit.machine.reductions import copy_from_first, largest_over_processes
from facekit.machine.signals import StopSignals
from facekit.models import build_model, check_sizes
from facekit.records.evaluation import Metric
from facekit.records.run import RunResult, begin_record, digest_data, now, write_record
from facekit.targets.pytorch import PyTorchBackend
from facekit.template import Template, load_template
from facekit.training_data.picture_cache import fill_cache
from facekit.weights.checkpoint import Checkpoint, content_digest, load_state, write_torch_file
from facekit.weights.imagenet import load_imagenet_backbone
from facekit.weights.load import load_weights

log = logging.getLogger(__name__)


def train(
    template: Template,
    train_pictures: list[PictureLabels],
    val_pictures: list[PictureLabels],
    options: TrainOptions,
) -> Path | None:
    """Trains up to the last epoch and returns latest.pth; None where there was nothing left to train.

    Raises FacekitError for weights that don't fit, a folder that can't be written, or a loss that is not finite (its
    batch is then in nonfinite_batch.pth); Interrupted, with all saved, after a SIGTERM or SIGINT.
    """
    if options.resume_from == AUTO:
        options = go_on_or_start(options)
    source = options.resume_from or options.load_weights
    if options.teacher is None and not all(picture.is_labelled for picture in train_pictures):
        raise FacekitError("Pictures without labels need a `teacher` (with `teacher_template`) to mark their faces.")
    check_learnable(train_pictures, template.augmentation.min_face_size, "training")
    warn_of_nothing_to_measure(val_pictures)
    check_writable_folder(options.save_checkpoints_to)
    checkpoint = None
    goes_back = options.resume_from is not None and options.resume_from.is_file()  # the user named one
    if options.resume_from is not None and options.resume_from.is_dir():
        source, checkpoint = newest_checkpoint(options.resume_from, template)
        options = dataclasses.replace(options, resume_from=source)
    elif source is not None:
        checkpoint = load_weights(source, template)
    if checkpoint is not None and checkpoint.meta.get("compression"):
        raise FacekitError(f"{source}: compressed weights; fine-tune before compress.py, or with it.")
    if checkpoint is not None and options.resume_from is not None and options.preset and not settings_of(checkpoint):
        raise FacekitError(
            f"{source}: no run of facekit's, so there is nothing to go on with, and `preset` is for runs from epoch 0. "
            f"Give `load_weights={source}`."
        )
    check_kept(checkpoint, template)
    last_epoch = options.epochs or template.training.epochs
    if options.add_epochs is not None:
        last_epoch = options.add_epochs + (checkpoint.epoch if checkpoint and options.resume_from is not None else 0)
    if checkpoint is not None and options.resume_from is not None and checkpoint.epoch >= last_epoch:
        log.info(
            "%s has finished epoch %d and `epochs` is %d: nothing to train. Give `epochs=%d`, or "
            "`add_epochs=1`, to add one more.",
            source, checkpoint.epoch, last_epoch, checkpoint.epoch + 1,
        )  # fmt: skip
        return None
    early_stopper = early_stopper_of(template, checkpoint if options.resume_from is not None else None)
    if early_stopper is not None and early_stopper.is_over:
        log.info("%s: nothing to train. %s", source, early_stopper.message())
        return None
    if template.training.early_stopping is not None and not val_pictures:
        log.warning("training.early_stopping does nothing without validation pictures: give `val_ann_files`.")
    device = join_processes()
    try:
        check_same_start(checkpoint, options)
        with holding(options.save_checkpoints_to) if rank() == 0 else nullcontext():
            return _Run(template, train_pictures, val_pictures, options, device).run(checkpoint, last_epoch, goes_back)
    except RuntimeError as error:
        remedy = f"Start all again with `resume_from={options.save_checkpoints_to}`."
        if (lost := lost_process(error, remedy)) is not None:
            raise lost from error
        raise
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
        self.train_pictures = train_pictures
        self.val_pictures = val_pictures
        self.options = options
        self.device = device
        self.folder = options.save_checkpoints_to
        keep_freed_memory()
        self.plain = build_model(template).to(memory_format=torch.channels_last)
        check_sizes(self.plain, template, for_training=True)
        batch_size = options.batch_size or template.training.batch_size
        self.batches = make_batches(
            train_pictures, template, batch_size, options.workers, options.seed, device.type == "cuda",
            fill_cache(options.cache, train_pictures, options.cache_limit) if options.cache else None,
            options.balance_folders,
        )  # fmt: skip
        self.batches.loader.worker_init_fn = begin_worker
        self.epoch_length = min(len(self.batches), options.max_iterations or len(self.batches))
        self.autocast_dtype = autocast_dtype(options.precision, device)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.autocast_dtype is torch.float16)
        self.signals = StopSignals()
        self.stagnates = False  # all processes agree
        self.teacher = self._open_teacher()

    def _open_teacher(self) -> Teacher | None:
        weights, template = self.options.teacher, self.options.teacher_template
        if weights is None or template is None:
            return None
        return open_teacher(
            weights, load_template(template), self.plain.head, self.template.input.size_hw,
            self.options.teacher_weight, self.device, self.autocast_dtype, self.options.teacher_landmark_weight,
        )  # fmt: skip

    def run(self, checkpoint: Checkpoint | None, last_epoch: int, goes_back: bool) -> Path:
        """goes_back: perhaps, to an earlier checkpoint of the folder than its newest."""
        resumed = checkpoint if self.options.resume_from is not None else None
        self._load(checkpoint)
        self.plain.to(self.device)
        freeze(self.plain, self.template.training.frozen)
        optimizer = make_optimizer(self.plain, self.template.training.optimizer)
        self.schedule = make_schedule(
            self.template.training, self.options.base_learning_rate, last_epoch * self.epoch_length,
            settings_of(resumed),
        )  # fmt: skip
        settings = self._settings()
        self.progress = Progress(0, last_epoch, 0)
        if resumed is not None:
            assert self.options.resume_from is not None
            self.progress = resumed_progress(resumed, settings, last_epoch, self.options.resume_from)
        network = self._over_processes()
        decay, share = self.template.training.ema_decay, self.template.training.start_share
        average = None if decay is None else WeightAverage(self.plain, decay, share)
        self.state = TrainingState(
            self.template, self.plain, optimizer, self.scaler, self.progress, settings, self.device, average,
            early_stopper_of(self.template, resumed), validation=key_of(self.val_pictures, self.template),
        )  # fmt: skip
        self._announce()
        if resumed is not None:
            assert self.options.resume_from is not None
            self.state.restore(resumed, self.options.resume_from)
        if rank() == 0:
            remove_leftovers(self.folder)
            clear_folder(self.options, resumed, goes_back, self.state.has_other_validation)
            self._begin_record()
        journal = Journal(self.folder, self.options.tensorboard_dir, self.progress.iteration)
        with self.signals, journal:
            learner = Learner(
                network, self.plain, optimizer, self.template, self.schedule, self.scaler,
                self.autocast_dtype, self.teacher,
            )  # fmt: skip
            hooks = self._hooks(journal)
            self._measure_start(checkpoint)
            while not self._is_over:
                self._train_epoch(learner, hooks)
                if not self.progress.stopped_by:
                    self._finish_epoch(journal)
                if self.progress.stopped_by and not self._is_over:
                    raise self._stop()
        return self.folder / LATEST

    @property
    def _is_over(self) -> bool:
        return self.stagnates or self.progress.epoch >= self.progress.last_epoch

    def _load(self, checkpoint: Checkpoint | None) -> None:
        if checkpoint is None:
            if rank() == 0:  # the other processes get its weights
                self._start()
            wait_for_all()
            return
        load_state(self.plain, checkpoint.state_dict, "checkpoint")
        if checkpoint.meta.get("batch_norm_folded"):
            prepare_folded(self.plain, self.batches, self.template)

    def _start(self) -> None:
        """The weights to begin with where none are given."""
        if not self.options.from_scratch and load_imagenet_backbone(self.plain, self.template):
            name = self.template.model.imagenet_weights
            log.info("The backbone starts from torchvision's %s, all else from random weights.", name)
        else:
            log.info("Training starts from random weights.")

    def _over_processes(self) -> nn.Module:
        if world_size() > 1:
            synchronise_batch_norms(self.plain, self.device)
        network = compile_network(self.plain, self.device) if self.options.compile else self.plain
        if world_size() == 1:
            return network
        return DistributedDataParallel(network, device_ids=[self.device] if self.device.type == "cuda" else None)

    def _settings(self) -> dict[str, Any]:
        """What must be the same for a resumed run to end with the weights of an uninterrupted one."""
        return {
            "seed": self.options.seed,
            "batch_size": self.batches.loader.batch_size,
            "processes": world_size(),
            "epoch_length": self.epoch_length,
            "base_learning_rate": self.schedule.base_learning_rate,
            **schedule_lengths(self.schedule),
            "accumulate": self.template.training.accumulate,
            "ema_decay": self.template.training.ema_decay or 0,
            "start_share": self.template.training.start_share,
            "mantissa_bits": MANTISSA_BITS[self.autocast_dtype],
            "compiled": int(self.options.compile),
            "teacher_weight": self.teacher.weight if self.teacher else 0,
            "teacher_landmark_weight": self.teacher.landmark_weight if self.teacher else 0,
            "balance_folders": self.options.balance_folders,
        }

    def _announce(self) -> None:
        if rank() == 0:
            progress = self.progress
            log.info(
                "Training %s, epochs %d to %d, %d iterations each, batch %d x %d process(es) on %s, learning rate %g "
                "(now %g)",
                self.template.name, progress.epoch + 1, progress.last_epoch, self.epoch_length,
                self.batches.loader.batch_size, world_size(), self.device.type,
                self.schedule.base_learning_rate, self.schedule(progress.epoch, progress.iteration),
            )  # fmt: skip
            tell_what_is_learnt(
                self.template, self.train_pictures, self.plain, self.plain.head,
                cast(int, self.batches.loader.batch_size) * world_size(),
            )  # fmt: skip
            if progress.epoch_iteration:
                log.info("Going on behind iteration %d of epoch %d", progress.epoch_iteration, progress.epoch + 1)

    def _begin_record(self) -> None:
        # The template is recorded whole, and the processes with their devices.
        names = [part.name for part in dataclasses.fields(self.options) if part.name not in ("template", "gpu_num")]
        flags = {name: getattr(self.options, name) for name in names}
        if self.options.add_epochs is not None:  # a repetition is to end where this run ends
            flags |= {"epochs": self.progress.last_epoch, "add_epochs": None}
        self.record = begin_record(
            self.template, flags, digest_data(self.train_pictures, self.options.train_ann_files),
            digest_data(self.val_pictures, self.options.val_ann_files), environment(self.device),
            self.progress.iteration,
        )  # fmt: skip
        for what in self.record.sessions[-1].changed:
            if not what.startswith("--"):  # of flags resumed_progress() tells
                log.warning("The run goes on with other things than it began with: %s", what)
        write_record(self.folder, self.record)

    def _finish_record(self) -> None:
        digest = content_digest(dict(self.state.outcome.state_dict()))
        result = RunResult(now(), self.progress.epoch, self.progress.iteration, digest)
        write_record(self.folder, dataclasses.replace(self.record, result=result))

    def _hooks(self, journal: Journal) -> Hooks:
        """Connect the loop with the journal, the signals and the disk."""
        progress = self.progress
        interval = self.options.checkpoint_interval

        def after_step() -> None:
            if self.state.average is not None:
                self.state.average.update()
            # A step of several batches may have passed the very iteration. Weights that are spoilt are not saved: the
            # next look at the losses ends the run.
            is_due = interval and progress.iteration % interval < self.template.training.accumulate
            if is_due and self.state.is_sound():
                self._save_latest()

        return Hooks(
            report=journal.write,
            show=lambda images_bgr, targets: journal.show(images_bgr, targets, progress.iteration),
            after_step=after_step,
            stop_signal=lambda: self.signals.received,
        )

    def _train_epoch(self, learner: Learner, hooks: Hooks) -> None:
        try:
            train_one_epoch(learner, self.batches, self.progress, hooks, self.options.max_iterations)
        except NonFiniteLossError as error:
            if error.batch is None:
                raise
            path = self.folder / f"nonfinite_batch{f'_{rank()}' if rank() else ''}.pth"
            write_torch_file(path, error.batch)
            raise FacekitError(f"{error} The batch it came from: {path}") from error

    def _finish_epoch(self, journal: Journal) -> None:
        """Evaluates and saves; where the evaluation is broken off, the epoch stays unfinished."""
        progress = self.progress
        if self.state.average is not None:
            # Each process measured batch norms of its own between two steps; what counts is the first one's.
            copy_from_first(self.state.average.network.buffers())
        metrics = self._evaluate()
        asked = [float(metrics is None), self.signals.received, float(self._note_gain(metrics))]
        broken_off, signal_number, stagnates = largest_over_processes(asked, self.device)
        progress.stopped_by = int(signal_number)
        if broken_off:
            return
        self.stagnates = bool(stagnates)
        progress.start_epoch(progress.epoch + 1)
        if metrics:
            figures = {metric.key: metric.value for metric in metrics}
            journal.write({"epoch": progress.epoch, "iteration": progress.iteration, **figures})
        self._save_epoch(metrics or [])
        wait_for_all()

    def _note_gain(self, metrics: list[Metric] | None) -> bool:
        """Whether the run should end, for gains have not come."""
        early_stopper = self.state.early_stopper
        if early_stopper is None or not metrics:
            return False
        early_stopper.note(self.progress.epoch + 1, metric_value(metrics, "ap"))
        if early_stopper.is_over:
            log.info("%s", early_stopper.message())
        return early_stopper.is_over

    def _measure_start(self, checkpoint: Checkpoint | None) -> None:
        """Of weights that were given, unless by a run that goes on with what it was measured on: the bar for best.pth,
        which holds them until an epoch is better. Raises Interrupted where a signal breaks it off."""
        goes_on = self.options.resume_from is not None and settings_of(checkpoint) != {}
        if checkpoint is None or not self.val_pictures or (goes_on and not self.state.has_other_validation):
            return
        metrics = self._measure("start")
        asked = [float(metrics is None), self.signals.received]
        broken_off, signal_number = largest_over_processes(asked, self.device)
        if broken_off:
            name = signal.Signals(int(signal_number)).name
            raise Interrupted(f"Stopped by {name} before the first iteration: nothing was trained.", int(signal_number))
        ap = metric_value(metrics, "ap") if metrics else math.nan
        self.state.best_ap = self.state.start_ap = -1.0 if math.isnan(ap) else ap
        start = self.state.checkpoint()
        if self.state.start_ap >= 0:
            save_start(self.folder, start)

    def _evaluate(self) -> list[Metric] | None:
        """Nothing where none is due and on all processes but the first, None where a signal broke it off."""
        epoch, last_epoch = self.progress.epoch, self.progress.last_epoch
        due = (epoch + 1) % (self.options.val_interval or 1) == 0 or epoch + 1 == last_epoch
        metrics = self._measure(f"epoch {epoch + 1}") if self.val_pictures and due else []
        if metrics:
            has_best = (self.folder / BEST).is_file()
            tell_of_fall(epoch + 1, metric_value(metrics, "ap"), self.state.start_ap, has_best)
        return metrics

    def _measure(self, moment: str) -> list[Metric] | None:
        detector = Detector(PyTorchBackend(self.state.outcome.eval(), self.template), self.template)
        return measure(detector, self.val_pictures, moment, lambda: bool(self.signals.received))

    def _save_latest(self) -> None:
        checkpoint = self.state.checkpoint()
        if rank() == 0:
            save_latest(self.folder, checkpoint)

    def _save_epoch(self, metrics: list[Metric]) -> None:
        ap = metric_value(metrics, "ap") if metrics else math.nan
        is_best = ap > self.state.best_ap
        self.state.best_ap = ap if is_best else self.state.best_ap
        checkpoint = self.state.checkpoint()
        if rank() == 0:
            if self._is_over:  # before: killed in between, it is still true
                self._finish_record()
            path = save_epoch(self.folder, checkpoint, is_best)
            log.info("Saved %s%s", path, " (best so far)" if is_best else "")

    def _stop(self) -> Interrupted:
        """What to raise, all being saved."""
        progress = self.progress
        if progress.epoch_iteration:  # else the epoch's end has been saved
            self._save_latest()
            wait_for_all()
        return Interrupted(
            f"Stopped by {signal.Signals(progress.stopped_by).name} behind iteration {progress.iteration}, saved as "
            f"{self.folder / LATEST}. The same command goes on with `resume_from={self.folder}`"
            + (" in place of `load_weights`" if self.options.load_weights else "")
            + (f" and `epochs={progress.last_epoch}` for `add_epochs`" if self.options.add_epochs else ""),
            progress.stopped_by,
        )
