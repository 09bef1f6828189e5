"""Which prior learns which face. Flat over the batch: no loop over pictures or faces."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from facekit.ops.boxes import area, border_distances, cxcywh_to_xyxy, paired_iou, pairwise_iou
from facekit.structures import Priors, Targets

MIN_DEPTH = 0.01  # pixels that an ATSS candidate's centre must lie within its face
FAR_PAIR_COST = 1e5  # SimOTA's penalty for a prior outside the face or its centre region


class Assignment(NamedTuple):
    """For each prior of each picture the face that it learns."""

    face_index: Tensor  # (B, A) int64: row of Targets, or -1 for background
    overlap: Tensor  # (B, A) float: IoU with that face as the assigner saw it, 0 for background

    def pairs(self) -> tuple[Tensor, Tensor, Tensor]:
        """Which priors learn a face: (B, A) bool; and of the P of them, in that order, face and prior: (P,) int64."""
        positive = self.face_index >= 0
        return positive, self.face_index[positive], torch.nonzero(positive)[:, 1]


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


def max_iou_assign(targets: Targets, priors: Priors, positive_iou: float, least_forced_iou: float = 0.0) -> Assignment:
    """Each prior takes its best face at IoU >= positive_iou; each face also takes its single best prior, whatever the
    overlap (Liu et al., SSD, section 2.2), if it is not under least_forced_iou. Where faces contend for one best prior,
    the last face has it. Cost: one (N, A) table of overlaps.
    """
    overlap = pairwise_iou(targets.boxes_xyxy, cxcywh_to_xyxy(priors.cxcywh))
    best, face_index = _best_face_per_prior(overlap, targets)
    face_index = torch.where(best >= positive_iou, face_index, -1)
    if overlap.shape[0]:
        own_overlap, own_prior = overlap.max(dim=1)
        # A face that no prior touches at all would otherwise be given prior 0 of the picture.
        touched = torch.nonzero((own_overlap > 0) & (own_overlap >= least_forced_iou)).squeeze(1)
        slots = targets.picture_index[touched] * overlap.shape[1] + own_prior[touched]
        forced = face_index.new_full((face_index.numel(),), -1).scatter_reduce(0, slots, touched, reduce="amax")
        face_index = torch.where(forced.view_as(face_index) >= 0, forced.view_as(face_index), face_index)
    return _with_overlap(face_index, overlap)


def atss_assign(targets: Targets, priors: Priors, top_candidates: int) -> Assignment:
    """Adaptive training sample selection (Zhang et al., CVPR 2020, algorithm 1).

    A face's candidates are, on each level, the top_candidates priors whose centres lie nearest to its own; it takes
    those whose IoU with it reaches the mean plus the standard deviation over the candidates and whose centre lies
    inside it. A prior that several faces take goes to the one that it overlaps most.
    """
    overlap = pairwise_iou(targets.boxes_xyxy, cxcywh_to_xyxy(priors.cxcywh))
    if not len(overlap):
        return _with_overlap(_best_face_per_prior(overlap, targets)[1], overlap)
    centres_xy = priors.cxcywh[:, :2]
    face_centres_xy = (targets.boxes_xyxy[:, :2] + targets.boxes_xyxy[:, 2:]) / 2
    # By products of matrices, single precision would be off by a tenth of a pixel.
    distance = torch.cdist(face_centres_xy, centres_xy, compute_mode="donot_use_mm_for_euclid_dist")
    candidates, first = [], 0
    for count in torch.unique_consecutive(priors.strides, return_counts=True)[1].tolist():
        nearest = distance[:, first : first + count].topk(min(top_candidates, count), dim=1, largest=False).indices
        candidates.append(nearest + first)
        first += count
    candidate = torch.cat(candidates, dim=1)
    candidate_overlap = overlap.gather(1, candidate)
    threshold = candidate_overlap.mean(dim=1, keepdim=True) + candidate_overlap.std(dim=1, keepdim=True)
    depth = border_distances(centres_xy[candidate], targets.boxes_xyxy[:, None]).amin(dim=2)
    taken = (candidate_overlap >= threshold) & (depth > MIN_DEPTH)
    # Only what was taken keeps an overlap; the best of it decides.
    claimed = torch.full_like(overlap, -1.0).scatter(1, candidate, torch.where(taken, candidate_overlap, -1.0))
    best, face_index = _best_face_per_prior(claimed, targets)
    return _with_overlap(torch.where(best >= 0, face_index, -1), overlap)


def fcos_assign(targets: Targets, priors: Priors, size_ranges: tuple[tuple[float, float], ...]) -> Assignment:
    """FCOS (Tian et al., ICCV 2019, section 3.2): a point inside a face learns it if the largest of the distances to
    its borders lies in the range of the point's level, both ends included; of several faces the smallest.
    """
    depths = border_distances(priors.cxcywh[None, :, :2], targets.boxes_xyxy[:, None])
    levels = torch.unique_consecutive(priors.strides, return_inverse=True)[1]
    low, high = priors.cxcywh.new_tensor(size_ranges)[levels].unbind(dim=1)
    reach = depths.amax(dim=2)
    fits = (depths.amin(dim=2) > 0) & (reach >= low) & (reach <= high)
    smallness = torch.where(fits, 1 / area(targets.boxes_xyxy).clamp(min=1e-9)[:, None], -1.0)
    best, face_index = _best_face_per_prior(smallness, targets)
    overlap = pairwise_iou(targets.boxes_xyxy, cxcywh_to_xyxy(priors.cxcywh))
    return _with_overlap(torch.where(best > 0, face_index, -1), overlap)


def _with_overlap(face_index: Tensor, overlap: Tensor) -> Assignment:
    """(B, A) faces and the (N, A) table -> the assignment with each prior's overlap with its own face."""
    if not len(overlap):
        return Assignment(face_index, torch.zeros_like(face_index, dtype=overlap.dtype))
    column = torch.arange(face_index.shape[1], device=face_index.device).expand_as(face_index)
    return Assignment(face_index, torch.where(face_index >= 0, overlap[face_index.clamp(min=0), column], 0.0))


def sim_ota_assign(
    targets: Targets,
    scores: Tensor,
    boxes_xyxy: Tensor,
    priors: Priors,
    centre_radius: float,
    top_candidates: int,
    score_weight: float,
    overlap_weight: float,
) -> Assignment:
    """SimOTA (Ge et al., YOLOX, section 2.3): each face takes the k priors of least cost, k from its best overlaps.

    scores: (B, A) in 0..1; boxes_xyxy: (B, A, 4) as predicted.
    A prior is a candidate of its picture when its centre lies in some face or within centre_radius strides of some
    face's centre. Only the pairs of faces with their own picture's candidates are looked at. Nothing is differentiated.
    """
    with torch.no_grad():
        batch, columns = scores.shape
        face_index = torch.full((batch, columns), -1, device=scores.device)
        overlap_of_prior = torch.zeros_like(scores)
        if not len(targets.boxes_xyxy):
            return Assignment(face_index, overlap_of_prior)
        inside, near_centre = _candidate_regions(targets.boxes_xyxy, priors, centre_radius)
        claims = torch.zeros((batch, columns), dtype=torch.int32, device=scores.device)
        claims.index_add_(0, targets.picture_index, (inside | near_centre).int())
        faces, slots, face_columns, width = _face_candidate_pairs(claims > 0, targets.picture_index)
        prior_of_pair = slots % columns

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

        # A prior that several faces take goes to the face that it costs least, of equals to the first: of all faces of
        # the picture, also those that did not take it (so YOLOX's and mmdetection's code).
        takers = torch.zeros_like(face_index).view(-1).index_add(0, slots, matched.long())
        least = cost.new_full((batch * columns,), torch.inf).scatter_reduce(0, slots, cost, reduce="amin")
        bids = torch.where(cost <= least[slots], faces, len(targets.boxes_xyxy))
        winner = torch.full_like(face_index, len(targets.boxes_xyxy)).view(-1).scatter_reduce(0, slots, bids, "amin")
        wins = torch.where(takers[slots] > 1, faces == winner[slots], matched)
        face_index.view(-1)[slots[wins]] = faces[wins]
        overlap_of_prior.view(-1)[slots[wins]] = overlap[wins]
        return Assignment(face_index, overlap_of_prior)


def _candidate_regions(boxes_xyxy: Tensor, priors: Priors, centre_radius: float) -> tuple[Tensor, Tensor]:
    """(N, A) bool each: prior centre inside the face; within centre_radius strides of the face's centre (a square)."""
    x, y = priors.cxcywh[None, :, 0], priors.cxcywh[None, :, 1]
    x1, y1, x2, y2 = boxes_xyxy[:, :, None].unbind(dim=1)
    inside = (x > x1) & (x < x2) & (y > y1) & (y < y2)
    reach = priors.strides[None] * centre_radius
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
