"""Sizes of priors by clustering faces (Redmon and Farhadi, YOLO9000, CVPR 2017, section 2), and how well priors fit."""

from __future__ import annotations

import torch
from torch import Tensor

from facekit.ops.boxes import cxcywh_to_xyxy, pairwise_iou
from facekit.structures import Priors

RESTARTS = 10
MAX_STEPS = 100
FIRST_STEP, LAST_STEP = 0.4, 0.02  # by which a side grows: 1 + step
LEAST_GAIN = 1e-6  # of the mean IoU
MAX_PAIRS = 4_000_000  # of a face with a prior that are looked at together


def size_iou(sizes_wh: Tensor, others_wh: Tensor) -> Tensor:
    """IoU of all pairs of boxes with one centre: (N, 2) and (M, 2) -> (N, M) in 0..1. All sides must be positive."""
    shared = torch.minimum(sizes_wh[:, None], others_wh[None]).prod(dim=2)
    return shared / (sizes_wh.prod(dim=1)[:, None] + others_wh.prod(dim=1)[None] - shared)


def cluster_sizes(sizes_wh: Tensor, count: int, seed: int) -> Tensor:
    """k-means with the distance 1 - IoU: (N, 2) sizes, N over 0 -> (count, 2), the smallest area first.

    Starts as k-means++ does (Arthur and Vassilvitskii, SODA 2007), RESTARTS times; the step with the best mean IoU of
    all wins, for with this distance a mean need not be better than the centre before it. Where fewer than `count` sizes
    differ, these are returned, the largest as often as it takes.
    """
    distinct = sizes_wh.unique(dim=0)
    if len(distinct) <= count:
        return _by_area(torch.cat([distinct, _by_area(distinct)[-1:].expand(count - len(distinct), 2)]))
    generator = torch.Generator().manual_seed(seed)
    best, best_iou = distinct[:count], -1.0
    for _ in range(RESTARTS):
        centres, mean_iou = _one_run(sizes_wh, _spread_start(sizes_wh, count, generator))
        if mean_iou > best_iou:
            best, best_iou = centres, mean_iou
    return _by_area(best)


def _by_area(sizes_wh: Tensor) -> Tensor:
    return sizes_wh[sizes_wh.prod(dim=1).argsort(stable=True)]


def _spread_start(sizes_wh: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """k-means++: each further centre is drawn with the squared distance to those before as weight."""
    centres = sizes_wh[torch.randint(len(sizes_wh), (1,), generator=generator)]
    while len(centres) < count:
        # Double precision and no negatives: a size that is a centre must have no weight at all.
        weights = (1 - size_iou(sizes_wh, centres).amax(dim=1).double()).clamp(min=0).square()
        drawn = torch.searchsorted(
            weights.cumsum(0), torch.rand(1, generator=generator, dtype=torch.float64) * weights.sum(), right=True
        )
        centres = torch.cat([centres, sizes_wh[drawn.clamp(max=len(sizes_wh) - 1)]])
    return centres


def _one_run(sizes_wh: Tensor, centres: Tensor) -> tuple[Tensor, float]:
    """Lloyd's steps from these centres: the best (K, 2) on the way and their mean IoU."""
    best, best_iou, before = centres, -1.0, None
    for _ in range(MAX_STEPS):
        nearest_iou, nearest = size_iou(sizes_wh, centres).max(dim=1)
        mean_iou = float(nearest_iou.double().mean())
        if mean_iou > best_iou:
            best, best_iou = centres, mean_iou
        if before is not None and torch.equal(nearest, before):
            break
        before = nearest
        members = torch.bincount(nearest, minlength=len(centres))[:, None]
        means = torch.zeros_like(centres).index_add(0, nearest, sizes_wh) / members.clamp(min=1)
        centres = torch.where(members > 0, means, centres)
    return best, best_iou


def best_prior_iou(boxes_xyxy: Tensor, priors: Priors) -> Tensor:
    """IoU of each box with the prior that overlaps it most: (N, 4) pixels of the priors' input -> (N,) in 0..1."""
    priors_xyxy = cxcywh_to_xyxy(priors.cxcywh)
    pieces = boxes_xyxy.split(max(1, MAX_PAIRS // len(priors_xyxy)))
    return torch.cat([pairwise_iou(piece, priors_xyxy).amax(dim=1) for piece in pieces])


def refine_sizes(boxes_xyxy: Tensor, sizes_wh: Tensor, level_of: Tensor, priors: Priors) -> Tensor:
    """Grows and shrinks sizes, one at a time, as long as the faces' mean best IoU on the real grid rises.

    boxes_xyxy: (N, 4) pixels of the priors' input; sizes_wh: (K, 2); level_of: (K,) int64, the level of each size in
    ascending order of the strides; priors: of any sizes, whose centres are taken. Returns (K, 2). Clusters alone know
    nothing of the grid: on a coarse one a small face is better met by a prior that is larger than the face.
    """
    face_wh = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
    apart_xy = _centre_distances(boxes_xyxy, priors)[:, level_of]
    sizes_wh = sizes_wh.clone()
    overlap = _apart_iou(face_wh, apart_xy, sizes_wh)
    factors = torch.tensor([(1, 1), (1, -1), (-1, 1), (-1, -1), (1, 0), (-1, 0), (0, 1), (0, -1)])
    step = FIRST_STEP
    while step > LAST_STEP:
        improved = False
        for place in range(len(sizes_wh)):
            others = torch.cat([overlap[:, :place], overlap[:, place + 1 :]], dim=1)
            rest = others.amax(dim=1) if others.shape[1] else torch.zeros(len(overlap))
            tried_wh = torch.cat([sizes_wh[place][None], sizes_wh[place] * (1 + step) ** factors])
            tried = _apart_iou(face_wh, apart_xy[:, place, None].expand(-1, len(tried_wh), -1), tried_wh)
            means = torch.maximum(tried, rest[:, None]).double().mean(dim=0)
            best = int(means.argmax())
            if means[best] > means[0] + LEAST_GAIN:
                sizes_wh[place], overlap[:, place] = tried_wh[best], tried[:, best]
                improved = True
        if not improved:
            step /= 2
    return sizes_wh


def _centre_distances(boxes_xyxy: Tensor, priors: Priors) -> Tensor:
    """(N, levels, 2): from the middle of each box to the level's nearest prior centre, along x and y."""
    middles = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2
    levels = []
    for stride in priors.strides.unique():
        centres = priors.cxcywh[priors.strides == stride, :2]
        nearest = [(middles[:, axis, None] - centres[:, axis].unique()).abs().amin(dim=1) for axis in (0, 1)]
        levels.append(torch.stack(nearest, dim=1))
    return torch.stack(levels, dim=1)


def _apart_iou(face_wh: Tensor, apart_xy: Tensor, sizes_wh: Tensor) -> Tensor:
    """IoU of faces with priors whose centres lie apart_xy (N, K, 2) from theirs: (N, 2) and (K, 2) -> (N, K)."""
    faces = face_wh[:, None]
    sides = torch.minimum((faces + sizes_wh) / 2 - apart_xy, torch.minimum(faces, sizes_wh)).clamp(min=0)
    shared = sides.prod(dim=2)
    return shared / (faces.prod(dim=2) + sizes_wh.prod(dim=1) - shared)
