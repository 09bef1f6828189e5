"""Regions that are neither face nor background: crowds, and faces that are labelled as difficult or to be ignored."""

from __future__ import annotations

import torch
from torch import Tensor

from facekit.ops.boxes import area, cxcywh_to_xyxy, intersections
from facekit.structures import Priors, Targets

COVERED_SHARE = 0.5  # of a prior's own area, from which it lies in a region
SAME_IOU = 0.3  # of a prior with a region, from which it would see that region's face


def background_priors(positive: Tensor, targets: Targets, priors: Priors) -> Tensor:
    """Which priors may teach background: (B, A) bool, those that learn no face and lie in no ignored region.

    positive: (B, A) bool, the priors that learn a face; a labelled face within a crowd is learnt all the same.
    """
    return ~positive & ~in_ignored_regions(targets, priors)


def in_ignored_regions(targets: Targets, priors: Priors) -> Tensor:
    """(B, A) bool: priors whose centre lies in an ignored region of their picture, whose box is half within it, or
    whose box overlaps it with an IoU of SAME_IOU or more. Points count by the cell of the size of their prior."""
    found = torch.zeros((targets.batch_size, len(priors.cxcywh)), dtype=torch.int32, device=priors.cxcywh.device)
    if targets.ignored is None or not len(targets.ignored):
        return found > 0
    regions_xyxy = targets.ignored[:, None, 1:]
    boxes_xyxy = cxcywh_to_xyxy(priors.cxcywh)
    centres_xy = priors.cxcywh[:, :2]
    inside = ((centres_xy > regions_xyxy[..., :2]) & (centres_xy < regions_xyxy[..., 2:])).all(dim=2)
    shared = intersections(boxes_xyxy, regions_xyxy)
    areas = area(boxes_xyxy)
    covered = shared >= COVERED_SHARE * areas
    same = shared >= SAME_IOU * (areas + area(regions_xyxy) - shared)
    touched = (inside | covered | same) & ((shared > 0) | inside)
    return found.index_add(0, targets.ignored[:, 0].long(), touched.int()) > 0
