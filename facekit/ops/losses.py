"""Losses as pure functions of predictions and labels; all accept no faces at all."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from facekit.ops.boxes import area


def smooth_l1(prediction: Tensor, target: Tensor, beta: float) -> Tensor:
    """Element-wise Huber loss: quadratic within beta, linear outside, slope 1 (Girshick, Fast R-CNN, eq. 3)."""
    return F.smooth_l1_loss(prediction, target, beta=beta, reduction="none")


def hard_negative_mining(losses: Tensor, positive: Tensor, negatives_per_positive: float) -> Tensor:
    """Which priors count in a class loss: the positives and, a picture, the worst negatives (SSD, section 2.2).

    losses: (B, A) of every prior; positive: (B, A) bool. Returns (B, A) bool. A picture without positives has none.
    """
    wanted = (positive.sum(dim=1, keepdim=True) * negatives_per_positive).long()
    negative_losses = losses.detach().masked_fill(positive, -torch.inf)
    rank = negative_losses.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    return positive | ((rank < wanted) & ~positive)


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


def balance(loss: Tensor, log_variance: Tensor) -> Tensor:
    """Learnt weight of one of several losses (Kendall et al., CVPR 2018, section 3): exp(-s) * loss + 0.5 * s."""
    return torch.exp(-log_variance) * loss + 0.5 * log_variance
