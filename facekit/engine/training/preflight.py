"""What is said of a training before it starts and while it goes wrong: what there is to learn, by source, what is
likely a mistake, and an AP below the start's."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from facekit.base.files import file_key
from facekit.engine.training.frozen import keep_frozen_in_eval
from facekit.errors import FacekitError
from facekit.labels.learnable import count_by_source, count_faces
from facekit.labels.picture_labels import PictureLabels
from facekit.ops.head import Head
from facekit.ops.prior_clusters import best_prior_iou
from facekit.template import Template
from facekit.training_data.prior_choice import has_points
from facekit.training_data.training_set import TrainingSet
from facekit.training_data.transforms import mean_colour_bgr

log = logging.getLogger(__name__)

NEGATIVE_SHARE = 0.5  # of the labelled pictures, from which on those without faces are likely a mistake
SMALL_SHARE = 0.5  # of the faces, for those under the least size
LEAST_BATCH = 4  # pictures that batch norm measures together
LEAST_IOU = 0.35  # of a face with its best prior: the least that a template's detector learns by
MISSED_SHARE = 0.25  # of the faces, for those under every prior
SAMPLED_PICTURES = 500  # that are cropped on trial, evenly over the set
MAX_SOURCES = 20


def tell_what_is_learnt(
    template: Template, pictures: Sequence[PictureLabels], network: nn.Module, head: Head, batch_size: int
) -> None:
    """Counts faces by source, and warns, with the remedy, where they or the batch make learning unlikely.

    batch_size: pictures that batch norms measure together.
    """
    least = template.augmentation.min_face_size
    sources = count_by_source(pictures, least)
    for counts in sources[:MAX_SOURCES]:
        log.info("%s", counts.line(least))
    if len(sources) > MAX_SOURCES:
        log.info("and %d more sources", len(sources) - MAX_SOURCES)
    for warning in likely_mistakes(template, pictures, network, head, batch_size):
        log.warning("%s", warning)


def likely_mistakes(
    template: Template, pictures: Sequence[PictureLabels], network: nn.Module, head: Head, batch_size: int
) -> list[str]:
    """What will probably be regretted, each with its remedy."""
    least = template.augmentation.min_face_size
    counts = count_faces(pictures, least)
    labelled = counts.pictures - counts.unlabelled
    found = []
    if labelled and counts.negatives >= NEGATIVE_SHARE * labelled:
        found.append(
            f"{counts.negatives} of {labelled} labelled pictures ({counts.negatives / labelled:.0%}) have no face and "
            f"teach background alone. If they do have faces, their labels are missing: look with `facekit data "
            f"browse`. If not, take most of them out."
        )
    if counts.faces and counts.small >= SMALL_SHARE * counts.faces:
        found.append(
            f"{counts.small} of {counts.faces} faces have a side under {least:g} px and are not learnt: lower the "
            f"template's augmentation.min_face_size, or give the pictures in a larger size."
        )
    if batch_size < LEAST_BATCH and _measures_batches(network, template):
        found.append(
            f"Batch norms will measure {batch_size} pictures at a time, too few for their mean and variance: give "
            f"`batch_size={LEAST_BATCH}` or more, or set training.frozen_batch_norm in the template."
        )
    share = share_under_every_prior(template, pictures, head)
    if share >= MISSED_SHARE:
        found.append(
            f"{share:.0%} of the faces, as training crops and scales them, overlap no prior with an IoU of "
            f"{LEAST_IOU:g} or more: `facekit priors` chooses priors for them."
        )
    return found


def share_under_every_prior(template: Template, pictures: Sequence[PictureLabels], head: Head) -> float:
    """0..1, of the faces of a sample of the pictures, cropped and scaled as in training; 0 for a detector that learns
    from points, which no face is too small for."""
    if has_points(head):
        return 0.0
    size_hw = template.input.size_hw
    step = max(1, len(pictures) // SAMPLED_PICTURES)
    faces = TrainingSet(
        list(pictures[::step]), template.augmentation, size_hw, mean_colour_bgr(template.input), repeats=1, seed=0
    )
    found = [np.empty((0, 4), np.float32)]
    for index in range(len(faces)):
        with suppress(FacekitError):  # a picture that can't be read: training itself will say so
            found.append(faces.boxes_of(index))
    boxes_xyxy = torch.from_numpy(np.concatenate(found))
    if not len(boxes_xyxy):
        return 0.0
    return float((best_prior_iou(boxes_xyxy, head.priors(size_hw).tensors()) < LEAST_IOU).double().mean())


def trained_on_too(train_pictures: Sequence[PictureLabels], val_pictures: Sequence[PictureLabels]) -> str | None:
    """Said of validation pictures that are trained on, by whatever name or link; None where there are none."""
    trained_on = {file_key(picture.path) for picture in train_pictures} - {None} if val_pictures else set()
    shared = sum(file_key(picture.path) in trained_on for picture in val_pictures)
    if not shared:
        return None
    return (
        f"{shared} of {len(val_pictures)} validation pictures are trained on too: their AP says little of others. Give "
        f"other pictures as `val_ann_files`, or the parts apart: FOLDER:train to learn from, FOLDER:val to measure on."
    )


def warn_of_nothing_to_measure(val_pictures: Sequence[PictureLabels]) -> None:
    """Of validation pictures without a face that counts no AP can be told."""
    if val_pictures and not count_faces(val_pictures).faces:
        log.warning(
            "Not one of the %d validation pictures has a face that counts (crowds don't): there will be no AP, and no "
            "best.pth.", len(val_pictures),
        )  # fmt: skip


def _measures_batches(network: nn.Module, template: Template) -> bool:
    """Whether a batch norm measures the batches that it is trained on."""
    modes = {module: module.training for module in network.modules()}
    network.train()
    keep_frozen_in_eval(network, template.training)
    measures = any(isinstance(module, _BatchNorm) and module.training for module in network.modules())
    for module, mode in modes.items():
        module.training = mode
    return measures


def tell_of_fall(epoch: int, ap: float, start_ap: float, has_best: bool = True) -> None:
    """Says where the AP behind an epoch fell below that of the weights that training started from; both per cent, -1
    for one that wasn't measured. has_best: whether best.pth lies there, and not where an earlier part was saved."""
    if ap < start_ap:
        kept = "best.pth keeps the better weights" if has_best else "the better weights are where the run began"
        log.warning(
            "epoch %d: AP %.2f %% is below the %.2f %% that training started from; %s. Should it not rise again: lower "
            "`base_learning_rate`, and look at the labels with `facekit data check`.",
            epoch, ap, start_ap, kept,
        )  # fmt: skip
