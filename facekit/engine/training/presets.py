"""Presets of training: values for a data set of a size that the template was not made for."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from facekit.labels.picture_labels import PictureLabels
from facekit.machine.processes import is_first_started
from facekit.template import AdamW, CosineDecay, EarlyStopping, Template

log = logging.getLogger(__name__)

PresetName = Literal["fine-tune", "scratch"]

# The bundled templates' epochs are for WIDER FACE's training set (Yang et al., CVPR 2016).
TEMPLATES_PICTURES = 12_880
# Below that, fine-tuning goes carefully. One epoch of 1,300 pictures from yunet-n's published weights cost, in points
# of the worst of WIDER's three APs on 566 others: 0.9 at 1/30 of the template's rate, 0.6 at 1/100, 0.6 at 1/300; with
# batch norms frozen 1.4, 0.9 and 0.2. It still learns: eight epochs of 150 drawn pictures took AP from 34.1 to 64.3.
MANY_PICTURES = 10_000
FEW_PICTURES_RATE = 1 / 300
# Of the start's weights in the average, of few and of very few pictures: it takes back a quarter and half of what is
# forgotten, and costs less of what is learnt (docs/training.md). Chosen on 211 of WIDER's training pictures.
START_SHARE, LARGE_START_SHARE = 0.25, 0.5
VERY_FEW_PICTURES = 30
FEW_FACES = 200


@dataclass(frozen=True)
class DataSize:
    """What of the data a preset goes by."""

    pictures: int  # for training
    faces: int  # of these
    learnt_faces: int  # of at least the template's augmentation.min_face_size
    median_side: float  # pixels, of the roots of the faces' areas; 0 without faces
    val_faces: int


@dataclass(frozen=True)
class Given:
    """Flags that win over a preset; None where the user gave none."""

    epochs: int | None = None
    batch_size: int | None = None
    base_learning_rate: float | None = None
    val_interval: int | None = None


@dataclass(frozen=True)
class Choice:
    name: str  # key of the template, or flag
    value: Any
    reason: str


@dataclass(frozen=True)
class Preset:
    template: Template  # with the values chosen
    val_interval: int  # epochs
    choices: tuple[Choice, ...]


def measure_data(
    train_pictures: Sequence[PictureLabels], val_pictures: Sequence[PictureLabels], min_face_size: float
) -> DataSize:
    """Crowd regions are no faces."""
    sides = [picture.boxes_xywh[~picture.is_crowd][:, 2:] for picture in train_pictures]
    sides_wh = np.concatenate([np.zeros((0, 2)), *sides])
    return DataSize(
        pictures=len(train_pictures),
        faces=len(sides_wh),
        learnt_faces=int((sides_wh >= min_face_size).all(axis=1).sum()),
        median_side=float(np.median(np.sqrt(sides_wh.prod(axis=1)))) if len(sides_wh) else 0.0,
        val_faces=sum(int((~picture.is_crowd).sum()) for picture in val_pictures),
    )


def choose_preset(name: PresetName, template: Template, size: DataSize, given: Given, processes: int = 1) -> Preset:
    """The template with training values for data of that size, and why; what is given stands. Deterministic, so that
    a run that goes on with the same flags goes on with the same values."""
    choices = [_batch_size(template, size, given)]
    batch_size = int(choices[0].value)
    step_pictures = batch_size * processes
    choices += (_fine_tune_length if name == "fine-tune" else _scratch_length)(template, size, given, step_pictures)
    values = {choice.name: choice.value for choice in choices}
    epochs = int(values["epochs"])
    steps = epochs * max(1, math.ceil(size.pictures * int(values["dataset_repeats"]) / step_pictures))
    val_interval = _val_interval(name, given, epochs)
    choices += [
        _learning_rate(name, template, size, given, batch_size),
        *_warmup(name, template, steps),
        Choice("schedule", CosineDecay("cosine", 0.01), "ends low, however many epochs there are"),
        Choice("ema_decay", min(max(round(1 - 10 / steps, 4), 0.9), 0.9998), f"averages a tenth of {steps} steps"),
        *_kept_parts(name, template, size),
        _early_stopping(size, epochs, val_interval.value),
    ]
    training = dataclasses.replace(template.training, **{choice.name: choice.value for choice in choices})
    return Preset(
        dataclasses.replace(template, training=training), val_interval.value, (*choices, val_interval)
    )  # fmt: skip


def _batch_size(template: Template, size: DataSize, given: Given) -> Choice:
    if given.batch_size is not None:
        return Choice("batch_size", given.batch_size, "`batch_size`")
    own = template.training.batch_size
    few = max(4, size.pictures // 8)
    if few >= own:
        return Choice("batch_size", own, "the template's")
    return Choice("batch_size", few, f"the template's {own} would make too few steps of {size.pictures} pictures")


def _fine_tune_length(template: Template, size: DataSize, given: Given, step_pictures: int) -> list[Choice]:
    if given.epochs is not None:
        return [Choice("epochs", given.epochs, "`epochs`"), Choice("dataset_repeats", 1, "an epoch is one pass")]
    epoch_steps = max(1, math.ceil(size.pictures / step_pictures))
    epochs = min(max(math.ceil(1600 / epoch_steps), 3), 20)
    return [
        Choice("epochs", epochs, f"about 1600 steps, in 3 to 20 epochs (one pass is {epoch_steps})"),
        _repeats(size, epochs, step_pictures, least_steps=200),
    ]


def _scratch_length(template: Template, size: DataSize, given: Given, step_pictures: int) -> list[Choice]:
    if given.epochs is not None:
        return [Choice("epochs", given.epochs, "`epochs`"), Choice("dataset_repeats", 1, "an epoch is one pass")]
    passes = template.training.epochs * template.training.dataset_repeats
    epochs, reason = passes, "the template's passes; more would learn the pictures by heart"
    if size.pictures > TEMPLATES_PICTURES:
        epochs = min(passes, max(20, round(passes * TEMPLATES_PICTURES / size.pictures)))
        reason = f"as many pictures as {passes} passes over the template's {TEMPLATES_PICTURES}, in 20 epochs or more"
    return [Choice("epochs", epochs, reason), _repeats(size, epochs, step_pictures, least_steps=3000)]


def _repeats(size: DataSize, epochs: int, step_pictures: int, least_steps: int) -> Choice:
    repeats = math.ceil(least_steps * step_pictures / (epochs * max(1, size.pictures)))
    reason = f"at least {least_steps} steps" if repeats > 1 else "an epoch is one pass"
    return Choice("dataset_repeats", repeats, reason)


def _learning_rate(name: PresetName, template: Template, size: DataSize, given: Given, batch_size: int) -> Choice:
    if given.base_learning_rate is not None:
        return Choice("base_learning_rate", given.base_learning_rate, "`base_learning_rate`")
    own = template.training.base_learning_rate
    part, reason = 1.0, f"the template's {own:g}"
    if name == "fine-tune":
        part = 1 / 10 if size.pictures >= MANY_PICTURES else FEW_PICTURES_RATE
        reason = f"1/{round(1 / part)} of the template's {own:g}: what the weights know must survive"
    ratio = batch_size / template.training.batch_size
    if ratio != 1:
        # Linear for SGD (Goyal et al., 2017, section 2.1), by the root for Adam (Malladi et al., NeurIPS 2022).
        is_adam = isinstance(template.training.optimizer, AdamW)
        part *= math.sqrt(ratio) if is_adam else ratio
        reason += f", times {'the root of ' if is_adam else ''}{ratio:.3g} for the batch"
    return Choice("base_learning_rate", float(f"{own * part:.3g}"), reason)


def _warmup(name: PresetName, template: Template, steps: int) -> list[Choice]:
    own = template.training.warmup_iterations
    most = 200 if name == "fine-tune" else own or 500
    return [
        Choice("warmup_iterations", min(most, steps // 10), f"a tenth of the run, at most {most}"),
        Choice("warmup_start", min(template.training.warmup_start, 0.001), "from next to nothing"),
    ]


def _kept_parts(name: PresetName, template: Template, size: DataSize) -> list[Choice]:
    if name == "scratch":
        return [
            Choice("frozen", (), "from scratch, all is learnt"),
            Choice("frozen_batch_norm", False, "from scratch, all is measured"),
            Choice("start_share", 0.0, "from scratch, nothing is known"),
        ]
    is_small = size.pictures < MANY_PICTURES or size.learnt_faces < FEW_FACES
    few = f"{MANY_PICTURES:,} pictures or more"
    if is_small:
        few = "few pictures say little of others" if size.pictures < MANY_PICTURES else f"under {FEW_FACES} faces"
    return [
        # Kept as it is, it sees no other kind of picture: ten in the dark give 33 points of AP@0.5 with it, 23 without.
        Choice("frozen", (), "the backbone learns, too"),
        Choice("frozen_batch_norm", is_small, few),
        _start_share(size) if is_small else Choice("start_share", 0.0, few),
    ]


def _start_share(size: DataSize) -> Choice:
    if size.pictures < VERY_FEW_PICTURES or size.learnt_faces < FEW_FACES:
        reason = f"under {VERY_FEW_PICTURES} pictures or {FEW_FACES} faces: much would be forgotten"
        return Choice("start_share", LARGE_START_SHARE, reason)
    return Choice("start_share", START_SHARE, "less is forgotten")


def _val_interval(name: PresetName, given: Given, epochs: int) -> Choice:
    if given.val_interval is not None:
        return Choice("val_interval", given.val_interval, "`val_interval`")
    return Choice("val_interval", max(1, epochs // 50), "at most about 50 evaluations")


def _early_stopping(size: DataSize, epochs: int, val_interval: int) -> Choice:
    patience = max(3 * val_interval, epochs // 3)
    if size.val_faces < 100:
        return Choice("early_stopping", None, f"{size.val_faces} validation faces are too few to judge by")
    if patience >= epochs:
        return Choice("early_stopping", None, f"{epochs} epochs are too few to judge by")
    return Choice("early_stopping", EarlyStopping(patience, 0.1), "a third of the run without a gain is enough")


def adapt(
    name: PresetName,
    template: Template,
    train_pictures: Sequence[PictureLabels],
    val_pictures: Sequence[PictureLabels],
    given: Given,
    processes: int,
) -> Preset:
    """choose_preset() for those pictures, said aloud: one line a value."""
    size = measure_data(train_pictures, val_pictures, template.augmentation.min_face_size)
    preset = choose_preset(name, template, size, given, processes)
    if is_first_started():
        log.info(
            "Preset %s for %d pictures with %d faces, %.0f pixels in the middle, %d large enough to be learnt "
            "(augmentation.min_face_size %g):",
            name, size.pictures, size.faces, size.median_side, size.learnt_faces, template.augmentation.min_face_size,
        )  # fmt: skip
        for choice in preset.choices:
            log.info("  %s %s: %s", choice.name, _shown(choice.value), choice.reason)
    return preset


def _shown(value: Any) -> str:
    if isinstance(value, CosineDecay):
        return f"cosine to {value.final_factor:g}"
    if isinstance(value, EarlyStopping):
        return f"after {value.patience} epochs without {value.least_gain:g} AP points"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(value) or "nothing"
    return "off" if value is None else f"{value:g}"
