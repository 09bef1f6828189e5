"""Geometry of boxes in (x1, y1, x2, y2), pixels, without the +1 convention (the WIDER protocol keeps its own)."""

from __future__ import annotations

import torch
from torch import Tensor


def area(boxes_xyxy: Tensor) -> Tensor:
    """(..., 4) -> (...); boxes turned inside out have area 0."""
    return (boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]).clamp(min=0).prod(dim=-1)


def intersections(boxes_xyxy: Tensor, others_xyxy: Tensor) -> Tensor:
    """Area that boxes share in pairs: (..., 4) and (..., 4), broadcast, -> (...)."""
    top_left = torch.maximum(boxes_xyxy[..., :2], others_xyxy[..., :2])
    bottom_right = torch.minimum(boxes_xyxy[..., 2:], others_xyxy[..., 2:])
    return (bottom_right - top_left).clamp(min=0).prod(dim=-1)


def paired_iou(boxes_xyxy: Tensor, others_xyxy: Tensor) -> Tensor:
    """IoU of boxes in pairs: (..., 4) and (..., 4), broadcast, -> (...) in 0..1; 0 where both have no area."""
    intersection = intersections(boxes_xyxy, others_xyxy)
    union = area(boxes_xyxy) + area(others_xyxy) - intersection
    return intersection / union.clamp(min=1e-9)


def pairwise_iou(boxes_xyxy: Tensor, others_xyxy: Tensor) -> Tensor:
    """IoU of all pairs: (N, 4) and (M, 4) -> (N, M) in 0..1."""
    return paired_iou(boxes_xyxy[:, None], others_xyxy[None])


def xyxy_to_cxcywh(boxes_xyxy: Tensor) -> Tensor:
    """(..., 4) corners -> centre and size."""
    top_left, bottom_right = boxes_xyxy[..., :2], boxes_xyxy[..., 2:]
    return torch.cat([(top_left + bottom_right) / 2, bottom_right - top_left], dim=-1)


def cxcywh_to_xyxy(boxes_cxcywh: Tensor) -> Tensor:
    """(..., 4) centre and size -> corners."""
    centre, half_size = boxes_cxcywh[..., :2], boxes_cxcywh[..., 2:] / 2
    return torch.cat([centre - half_size, centre + half_size], dim=-1)


def clip_to(boxes_xyxy: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """(..., 4) -> (..., 4) within 0..width and 0..height."""
    height, width = size_hw
    x, y = boxes_xyxy[..., 0::2].clamp(0, width), boxes_xyxy[..., 1::2].clamp(0, height)
    return torch.stack([x[..., 0], y[..., 0], x[..., 1], y[..., 1]], dim=-1)


def border_distances(points_xy: Tensor, boxes_xyxy: Tensor) -> Tensor:
    """(..., 2) points and (..., 4) boxes, broadcast -> (..., 4) left, top, right, bottom; all positive inside."""
    return torch.cat([points_xy - boxes_xyxy[..., :2], boxes_xyxy[..., 2:] - points_xy], dim=-1)
