"""Losses as pure functions of predictions and labels; all accept no faces at all."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from facekit.ops.boxes import area, paired_iou


def smooth_l1(prediction: Tensor, target: Tensor, beta: float) -> Tensor:
    """Element-wise Huber loss: quadratic within beta, linear outside, slope 1 (Girshick, Fast R-CNN, eq. 3)."""
    return F.smooth_l1_loss(prediction, target, beta=beta, reduction="none")


def hard_negative_mining(
    losses: Tensor, positive: Tensor, negatives_per_positive: float, least_negatives: int = 0,
    background: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Which priors count in a class loss: the positives and, a picture, the worst negatives (SSD, section 2.2).

    losses: (B, A) of every prior; positive, background: (B, A) bool, background the priors that may be negatives (None:
    all but the positives). Returns (B, A) bool. A picture without positives has least_negatives alone, as any picture
    has at least; the paper knows none.
    """
    background = ~positive if background is None else background
    wanted = (positive.sum(dim=1, keepdim=True) * negatives_per_positive).long().clamp(min=least_negatives)
    negative_losses = losses.detach().masked_fill(~background, -torch.inf)
    rank = negative_losses.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    return positive | ((rank < wanted) & background)


def eiou_loss(boxes_xyxy: Tensor, targets_xyxy: Tensor, smooth_point: float = 0.1) -> Tensor:
    """Extended IoU loss (Peng and Yu, "A Systematic IoU-Related Method", TIP 2021): (N, 4), (N, 4) -> (N,).

    The intersection is extended to signed areas measured from the corner that both boxes' top left corners enclose,
    so that boxes apart still have a slope; 1 - IoU is squared below smooth_point so that the slope ends smoothly.
    """
    corner = torch.minimum(boxes_xyxy[:, :2], targets_xyxy[:, :2])
    near = torch.maximum(boxes_xyxy[:, :2], targets_xyxy[:, :2]) - corner
    far = torch.minimum(boxes_xyxy[:, 2:], targets_xyxy[:, 2:]) - corner
    low, high = torch.minimum(near, far), torch.maximum(near, far)
    (near_x, near_y), (far_x, far_y) = near.unbind(1), far.unbind(1)
    (low_x, low_y), (high_x, high_y) = low.unbind(1), high.unbind(1)
    intersection = far_x * far_y + low_x * low_y - near_x * high_y - high_x * near_y
    union = area(boxes_xyxy) + area(targets_xyxy) - intersection
    distance = 1 - intersection / (union + 1e-7)
    return torch.where(distance < smooth_point, 0.5 * distance**2 / smooth_point, distance - 0.5 * smooth_point)


def iou_loss(boxes_xyxy: Tensor, targets_xyxy: Tensor) -> Tensor:
    """-log IoU (Yu et al., UnitBox, section 3.1): (N, 4), (N, 4) -> (N,). GIoU and DIoU come from torchvision."""
    overlap: Tensor = paired_iou(boxes_xyxy, targets_xyxy)
    return -overlap.clamp(min=1e-6).log()


def quality_focal_loss(logits: Tensor, qualities: Tensor, beta: float = 2.0) -> Tensor:
    """Quality focal loss (Li et al., Generalized Focal Loss, NeurIPS 2020, eq. 5), element-wise.

    qualities: 0..1, the label itself: 0 for background, the IoU of the predicted box for a prior that learns a face.
    """
    distance = (qualities - logits.sigmoid()).abs()
    return F.binary_cross_entropy_with_logits(logits, qualities, reduction="none") * distance.pow(beta)


def soft_score_loss(scores: Tensor, wanted: Tensor, beta: float = 2.0) -> Tensor:
    """quality_focal_loss of probabilities, element-wise: for scores that are products of several.

    scores, wanted: 0..1 of one shape; nothing flows back into wanted.
    """
    # Not torch's own of probabilities: it breaks off where training is to tell that a loss is no finite number.
    scores = scores.clamp(1e-12, 1 - 1e-7)
    cross_entropy = -wanted * scores.log() - (1 - wanted) * (1 - scores).log()
    return cross_entropy * (wanted - scores).abs().pow(beta)


def taught_score_losses(scores: Tensor, wanted: Tensor) -> Tensor:
    """Kullback-Leibler divergence of a student's probability from a teacher's (Hinton et al., 2015), element-wise.

    scores, wanted: 0..1 of one shape; nothing flows back into wanted. Zero where both are equal.
    """
    return soft_score_loss(scores, wanted, beta=0.0) - soft_score_loss(wanted, wanted, beta=0.0)


def taught_point_losses(points_xy: Tensor, wanted_xy: Tensor, boxes_xyxy: Tensor, beta: float = 0.02) -> Tensor:
    """(N, 2 n), (N, 2 n) points in pixels and the faces' boxes (N, 4) -> (N,): smooth L1 of the distances as parts of
    the face's side (the root of its area), the mean over the coordinates. Quadratic within beta sides."""
    side = area(boxes_xyxy).clamp(min=1.0).sqrt()[:, None]
    return smooth_l1(points_xy / side, wanted_xy / side, beta).mean(dim=1)


def centre_ness(distances: Tensor) -> Tensor:
    """How central a point lies in its box (Tian et al., FCOS, eq. 3): (N, 4) distances to the left, top, right and
    bottom border, all positive -> (N,) in 0..1."""
    across, down = distances[:, 0::2], distances[:, 1::2]
    ratios = across.amin(dim=1) / across.amax(dim=1) * (down.amin(dim=1) / down.amax(dim=1))
    return ratios.clamp(min=0).sqrt()


def balance(loss: Tensor, log_variance: Tensor) -> Tensor:
    """Learnt weight of one of several losses (Kendall et al., CVPR 2018, section 3): exp(-s) * loss + 0.5 * s."""
    return torch.exp(-log_variance) * loss + 0.5 * log_variance
