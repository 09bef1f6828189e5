"""The loss of detectors with hand-chosen priors and a background class: SSD, RetinaFace, Ultra-Light."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from facekit.machine.reductions import mean_over_processes
from facekit.ops.assigners import max_iou_assign
from facekit.ops.head import Head
from facekit.ops.ignored import background_priors
from facekit.ops.losses import hard_negative_mining, smooth_l1
from facekit.structures import Priors, RawOutputs, Targets


def multibox_losses(
    head: Head,
    raw: RawOutputs,
    targets: Targets,
    priors: Priors,
    positive_iou: float,
    negatives_per_positive: float,
    least_forced_iou: float = 0.0,
    least_negatives: int = 0,
) -> dict[str, Tensor]:
    """MultiBox loss (Liu et al., SSD, section 2.2), each part a scalar: cross-entropy `class` over the positive priors
    and the worst negatives of each picture outside its ignored regions, smooth L1 `box`, both over the positives; where
    the head has them, smooth L1 `landmarks` over the positives whose faces are marked.

    least_negatives: of each picture, for pictures without faces to teach background too; SSD's teach nothing.
    """
    assignment = max_iou_assign(targets, priors, positive_iou, least_forced_iou)
    positive, faces, columns = assignment.pairs()
    positives = mean_over_processes(positive.sum(), least=1)

    labels = torch.where(positive, head.face_column, 1 - head.face_column)
    class_losses = F.cross_entropy(raw.class_logits.flatten(0, 1), labels.flatten(), reduction="none").view_as(labels)
    background = background_priors(positive, targets, priors)
    counted = hard_negative_mining(class_losses, positive, negatives_per_positive, least_negatives, background)

    learnt = priors.at(columns)
    wanted = head.coder.encode(targets.boxes_xyxy[faces], learnt)
    losses = {
        "class": class_losses[counted].sum() / positives,
        "box": smooth_l1(raw.box_deltas[positive], wanted, beta=1.0).sum() / positives,
    }
    if raw.landmark_deltas is not None:
        wanted = head.coder.encode_points(targets.landmarks_xy[faces], learnt)
        losses["landmarks"] = landmark_loss(raw.landmark_deltas[positive], wanted, targets.has_landmarks[faces], 1.0)
    return losses


def landmark_loss(deltas: Tensor, wanted: Tensor, marked: Tensor, beta: float) -> Tensor:
    """Smooth L1 summed over the coordinates, mean over the marked faces: (P, 10), (P, 10), (P,) bool -> scalar.

    What stands in the rows of unmarked faces does not matter.
    """
    return smooth_l1(deltas[marked], wanted[marked], beta).sum() / mean_over_processes(marked.sum(), least=1)
