"""The train command: a template and labelled pictures in, checkpoints out; on one process or one a GPU."""

from __future__ import annotations

import dataclasses
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING

from facekit.base.files import check_outputs
from facekit.base.options import arguments_of, given_of, takes
from facekit.commands.inputs import BUNDLED, bundled_checkpoint, check_roots, read_label_files, read_template
from facekit.engine.training.options import TrainOptions
from facekit.errors import ArgumentError

if TYPE_CHECKING:
    from facekit.labels.picture_labels import PictureLabels
    from facekit.template import Template

log = logging.getLogger(__name__)

FEW_PICTURES = 1000  # for the rate that a template trains with from the start


@takes(TrainOptions)
def train(options: TrainOptions) -> Path | None:
    """Trains or fine-tunes a detector, and returns latest.pth; None where there was nothing left to train.

    Raises FacekitError for what can't be read, found or written, Interrupted after a SIGTERM or SIGINT.
    """
    _check(options)
    template = read_template(options.template)
    if str(options.load_weights) == BUNDLED:
        options = dataclasses.replace(options, load_weights=bundled_checkpoint(template, "load_weights"))
    if options.load_weights is not None:  # refused now rather than behind the first epoch
        check_outputs([options.load_weights, options.teacher], _checkpoints(options))
    if options.recipe is not None:
        from facekit.template import find_recipe, load_template

        template = load_template(find_recipe(options.template, template.name, options.recipe))
    if options.teacher_template is not None:
        from facekit.template import find_template

        options = dataclasses.replace(options, teacher_template=find_template(str(options.teacher_template)))
    from facekit.engine.training.preflight import trained_on_too
    from facekit.engine.training.train import train as run
    from facekit.machine.launch import launch_over_gpus

    gpus, is_asked = (template.gpu_num, False) if options.gpu_num is None else (options.gpu_num, True)
    is_adapted = options.batch_size or options.base_learning_rate or options.preset
    hint = "" if is_adapted else (
        f"The template's batch and learning rate are for {gpus}: give `batch_size` {gpus} times as large, or "
        f"`base_learning_rate` so many times smaller, or `preset`."
    )  # fmt: skip
    if launch_over_gpus(gpus, is_asked, ["train", *arguments_of(options)], hint):
        return options.save_checkpoints_to / "latest.pth"
    train_pictures, val_pictures = read_pictures(options)
    if options.preset is not None:
        template, options = _adapt(template, train_pictures, val_pictures, options)
    elif options.load_weights is not None and options.recipe is None and options.base_learning_rate is None:
        _warn_of_the_rate(template, len(train_pictures))
    warning = trained_on_too(train_pictures, val_pictures)
    if warning is not None:
        log.warning("%s", warning)
    latest = run(template, train_pictures, val_pictures, options)
    if warning is not None:  # again where it is seen
        log.warning("%s", warning)
    return latest


def _checkpoints(options: TrainOptions) -> list[Path]:
    """Those that are there and may be written over."""
    names = [path.name for path in (options.load_weights, options.teacher) if path is not None]
    epochs = [name for name in names if re.fullmatch(r"epoch_\d+\.pth", name)]
    return [
        options.save_checkpoints_to / name
        for name in dict.fromkeys(("latest.pth", "best.pth", "previous.pth", *epochs))
    ]


def _check(options: TrainOptions) -> None:
    """Raises ArgumentError for options that don't go together."""
    if not options.train_ann_files and options.distill_pictures is None:
        raise ArgumentError("Nothing to train on: give `train_ann_files`, or `distill_pictures` with a `teacher`.")
    # Not in __post_init__: records of runs from before these checks are still reproduced.
    if options.cache is None and given_of(options, ["cache_limit"]):
        raise ArgumentError("`cache_limit` is about kept pictures: add `cache`.")
    if options.teacher is None and (given := given_of(options, ["teacher_weight", "teacher_landmark_weight"])):
        raise ArgumentError(f"`{given[0]}` is about what a teacher says: add `teacher` and `teacher_template`.")
    if not options.val_ann_files and options.val_interval is not None:
        raise ArgumentError("`val_interval` is about tests while training: add `val_ann_files`.")
    check_roots(options.train_ann_files, options.train_data_roots, "train_ann_files", "train_data_roots")
    check_roots(options.val_ann_files, options.val_data_roots, "val_ann_files", "val_data_roots")


def read_pictures(options: TrainOptions) -> tuple[list[PictureLabels], list[PictureLabels]]:
    """For training, with those that a teacher is to mark behind the labelled ones; and for validation."""
    train_pictures = read_label_files(options.train_ann_files, options.train_data_roots, "train")
    if options.distill_pictures is not None:
        from facekit.engine.training.distill import pictures_without_labels

        train_pictures += pictures_without_labels(options.distill_pictures)
    return train_pictures, read_label_files(options.val_ann_files, options.val_data_roots, "val")


def _warn_of_the_rate(template: Template, pictures: int) -> None:
    """Of trained weights and few pictures at a rate that is for neither (docs/training.md has figures)."""
    from facekit.template import TEMPLATES_DIR, load_template

    bundled = TEMPLATES_DIR / template.name / "template.yaml"
    rate = template.training.base_learning_rate
    if pictures < FEW_PICTURES and bundled.is_file() and load_template(bundled).training.base_learning_rate == rate:
        log.warning(
            "%d pictures at the template's own learning rate of %g, which is for training anew on WIDER FACE: it ruins "
            "what the weights have learnt. Add `preset=fine-tune`, or give a `base_learning_rate`.", pictures, rate,
        )  # fmt: skip


def _adapt(
    template: Template,
    train_pictures: list[PictureLabels],
    val_pictures: list[PictureLabels],
    options: TrainOptions,
) -> tuple[Template, TrainOptions]:
    """The template and the options with the preset's values."""
    from facekit.engine.training.presets import Given, adapt
    from facekit.machine.processes import processes_started

    assert options.preset is not None
    given = Given(
        options.epochs or options.add_epochs, options.batch_size, options.base_learning_rate, options.val_interval
    )
    preset = adapt(options.preset, template, train_pictures, val_pictures, given, processes_started())
    return preset.template, dataclasses.replace(options, val_interval=preset.val_interval)
