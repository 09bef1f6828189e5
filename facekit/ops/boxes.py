"""Geometry of boxes in (x1, y1, x2, y2), pixels, without the +1 convention (the WIDER protocol keeps its own).

Torch tensors and NumPy arrays alike, by the array API standard.
"""

from __future__ import annotations

from facekit.ops.arrays import array_namespace
from facekit.structures import Array


def area(boxes_xyxy: Array) -> Array:
    """(..., 4) -> (...); boxes turned inside out have area 0."""
    sides = (boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]).clip(0)
    return sides[..., 0] * sides[..., 1]


def intersections(boxes_xyxy: Array, others_xyxy: Array) -> Array:
    """Area that boxes share in pairs: (..., 4) and (..., 4), broadcast, -> (...)."""
    xp = array_namespace(boxes_xyxy)
    top_left = xp.maximum(boxes_xyxy[..., :2], others_xyxy[..., :2])
    bottom_right = xp.minimum(boxes_xyxy[..., 2:], others_xyxy[..., 2:])
    sides = (bottom_right - top_left).clip(0)
    return sides[..., 0] * sides[..., 1]


def paired_iou(boxes_xyxy: Array, others_xyxy: Array) -> Array:
    """IoU of boxes in pairs: (..., 4) and (..., 4), broadcast, -> (...) in 0..1; 0 where both have no area."""
    intersection = intersections(boxes_xyxy, others_xyxy)
    union = area(boxes_xyxy) + area(others_xyxy) - intersection
    return intersection / union.clip(1e-9)


def pairwise_iou(boxes_xyxy: Array, others_xyxy: Array) -> Array:
    """IoU of all pairs: (N, 4) and (M, 4) -> (N, M) in 0..1."""
    return paired_iou(boxes_xyxy[:, None], others_xyxy[None])


def xyxy_to_cxcywh(boxes_xyxy: Array) -> Array:
    """(..., 4) corners -> centre and size."""
    top_left, bottom_right = boxes_xyxy[..., :2], boxes_xyxy[..., 2:]
    return array_namespace(boxes_xyxy).concat([(top_left + bottom_right) / 2, bottom_right - top_left], axis=-1)


def cxcywh_to_xyxy(boxes_cxcywh: Array) -> Array:
    """(..., 4) centre and size -> corners."""
    centre, half_size = boxes_cxcywh[..., :2], boxes_cxcywh[..., 2:] / 2
    return array_namespace(boxes_cxcywh).concat([centre - half_size, centre + half_size], axis=-1)


def clip_to(boxes_xyxy: Array, size_hw: tuple[int, int]) -> Array:
    """(..., 4) -> (..., 4) within 0..width and 0..height."""
    height, width = size_hw
    xp = array_namespace(boxes_xyxy)
    # Column by column: converters to ncnn know no slices with a step.
    columns = [boxes_xyxy[..., column].clip(0, (width, height)[column % 2]) for column in range(4)]
    return xp.stack(columns, axis=-1)


def border_distances(points_xy: Array, boxes_xyxy: Array) -> Array:
    """(..., 2) points and (..., 4) boxes, broadcast -> (..., 4) left, top, right, bottom; all positive inside."""
    xp = array_namespace(boxes_xyxy)
    return xp.concat([points_xy - boxes_xyxy[..., :2], boxes_xyxy[..., 2:] - points_xy], axis=-1)
