"""Which prior learns which face. Flat over the batch: no loop over pictures or faces."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from facekit.ops.boxes import cxcywh_to_xyxy, paired_iou, pairwise_iou
from facekit.structures import Targets

FAR_PAIR_COST = 1e5  # SimOTA's penalty for a prior outside the face or its centre region


class Assignment(NamedTuple):
    """For each prior of each picture the face that it learns."""

    face_index: Tensor  # (B, A) int64: row of Targets, or -1 for background
    overlap: Tensor  # (B, A) float: IoU with that face as the assigner saw it, 0 for background


def _best_face_per_prior(overlap: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
    """(N, A) overlaps -> (B, A) the best overlap of each prior and the first face that has it (-1: no face)."""
    faces, priors = overlap.shape
    rows = targets.picture_index[:, None].expand(faces, priors)
    best = overlap.new_full((targets.batch_size, priors), -1.0)
    best = best.scatter_reduce(0, rows, overlap, reduce="amax")
    face = torch.arange(faces, device=overlap.device)[:, None].expand(faces, priors)
    face = torch.where(overlap == best[targets.picture_index], face, faces)
    index = torch.full((targets.batch_size, priors), faces, device=overlap.device)
    index = index.scatter_reduce(0, rows, face, reduce="amin")
    return best, torch.where(index == faces, -1, index)


def max_iou_assign(targets: Targets, priors_cxcywh: Tensor, positive_iou: float) -> Assignment:
    """Each prior takes its best face at IoU >= positive_iou; each face also takes its single best prior, whatever the
    overlap (Liu et al., SSD, section 2.2). Where faces contend for one best prior, the last face has it.

    priors_cxcywh: (A, 4). Cost: one (N, A) table of overlaps.
    """
    overlap = pairwise_iou(targets.boxes_xyxy, cxcywh_to_xyxy(priors_cxcywh))
    best, face_index = _best_face_per_prior(overlap, targets)
    face_index = torch.where(best >= positive_iou, face_index, -1)
    if overlap.shape[0]:
        own_overlap, own_prior = overlap.max(dim=1)
        # A face that no prior touches at all would otherwise be given prior 0 of the picture.
        touched = torch.nonzero(own_overlap > 0).squeeze(1)
        slots = targets.picture_index[touched] * len(priors_cxcywh) + own_prior[touched]
        forced = face_index.new_full((face_index.numel(),), -1).scatter_reduce(0, slots, touched, reduce="amax")
        face_index = torch.where(forced.view_as(face_index) >= 0, forced.view_as(face_index), face_index)
        column = torch.arange(face_index.shape[1], device=face_index.device).expand_as(face_index)
        taken = overlap[face_index.clamp(min=0), column]
        return Assignment(face_index, torch.where(face_index >= 0, taken, 0.0))
    return Assignment(face_index, torch.zeros_like(best))


def sim_ota_assign(
    targets: Targets,
    scores: Tensor,
    boxes_xyxy: Tensor,
    prior_centres_xy: Tensor,
    prior_strides: Tensor,
    centre_radius: float,
    top_candidates: int,
    score_weight: float,
    overlap_weight: float,
) -> Assignment:
    """SimOTA (Ge et al., YOLOX, section 2.3): each face takes the k priors of least cost, k from its best overlaps.

    scores: (B, A) in 0..1; boxes_xyxy: (B, A, 4) as predicted; prior_centres_xy: (A, 2); prior_strides: (A,).
    A prior is a candidate of its picture when its centre lies in some face or within centre_radius strides of some
    face's centre. Only the pairs of faces with their own picture's candidates are looked at. Nothing is differentiated.
    """
    with torch.no_grad():
        batch, priors = scores.shape
        face_index = torch.full((batch, priors), -1, device=scores.device)
        overlap_of_prior = torch.zeros_like(scores)
        if not len(targets.boxes_xyxy):
            return Assignment(face_index, overlap_of_prior)
        inside, near_centre = _candidate_regions(targets.boxes_xyxy, prior_centres_xy, prior_strides, centre_radius)
        claims = torch.zeros((batch, priors), dtype=torch.int32, device=scores.device)
        claims.index_add_(0, targets.picture_index, (inside | near_centre).int())
        faces, slots, face_columns, width = _face_candidate_pairs(claims > 0, targets.picture_index)
        prior_of_pair = slots % priors

        overlap = paired_iou(boxes_xyxy.reshape(-1, 4)[slots], targets.boxes_xyxy[faces])
        # Binary cross-entropy of the geometric mean of the two probabilities against 1.
        score_cost = -scores.reshape(-1)[slots].sqrt().log().clamp(min=-100)
        far = ~(inside & near_centre)[faces, prior_of_pair]
        cost = score_weight * score_cost + overlap_weight * -(overlap + 1e-7).log() + far * FAR_PAIR_COST

        shape = (len(targets.boxes_xyxy), width)
        cost_table = cost.new_full(shape, torch.inf).index_put((faces, face_columns), cost)
        overlap_table = overlap.new_zeros(shape).index_put((faces, face_columns), overlap)
        k_max = min(top_candidates, width)
        wanted = overlap_table.topk(k_max, dim=1).values.sum(dim=1).int().clamp(min=1)
        rank = cost_table.argsort(dim=1, stable=True).argsort(dim=1)
        matched = (rank < wanted[:, None])[faces, face_columns]
        faces, slots, cost, overlap = faces[matched], slots[matched], cost[matched], overlap[matched]

        # A prior wanted by several faces goes to the one that it costs least.
        least = cost.new_full((batch * priors,), torch.inf).scatter_reduce(0, slots, cost, reduce="amin")
        wins = cost <= least[slots]
        face_index.view(-1)[slots[wins]] = faces[wins]
        overlap_of_prior.view(-1)[slots[wins]] = overlap[wins]
        return Assignment(face_index, overlap_of_prior)


def _candidate_regions(
    boxes_xyxy: Tensor, centres_xy: Tensor, strides: Tensor, centre_radius: float
) -> tuple[Tensor, Tensor]:
    """(N, A) bool each: prior centre inside the face; within centre_radius strides of the face's centre (a square)."""
    x, y = centres_xy[None, :, 0], centres_xy[None, :, 1]
    x1, y1, x2, y2 = boxes_xyxy[:, :, None].unbind(dim=1)
    inside = (x > x1) & (x < x2) & (y > y1) & (y < y2)
    reach = strides[None] * centre_radius
    near_centre = ((x - (x1 + x2) / 2).abs() < reach) & ((y - (y1 + y2) / 2).abs() < reach)
    return inside, near_centre


def _face_candidate_pairs(candidate: Tensor, picture_index: Tensor) -> tuple[Tensor, Tensor, Tensor, int]:
    """All pairs of a face with the candidate priors of its own picture.

    candidate: (B, A) bool. Returns, a row a pair: the face, the slot (picture * A + prior), the pair's column in a
    table with a row a face; and that table's width.
    """
    slots = torch.nonzero(candidate.reshape(-1)).squeeze(1)
    per_picture = candidate.sum(dim=1)
    first_of_picture = F.pad(per_picture.cumsum(0), (1, 0))[:-1]
    per_face = per_picture[picture_index]
    faces = torch.repeat_interleave(torch.arange(len(picture_index), device=slots.device), per_face)
    first_of_face = F.pad(per_face.cumsum(0), (1, 0))[:-1]
    columns = torch.arange(len(faces), device=slots.device) - first_of_face[faces]
    return faces, slots[first_of_picture[picture_index[faces]] + columns], columns, max(int(per_face.max()), 1)
