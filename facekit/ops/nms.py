"""From one decoded box a prior to the faces of a picture."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from torchvision.ops import nms

from facekit.ops.boxes import area, intersections
from facekit.structures import Decoded, Detections


def select_detections(
    decoded: Decoded,
    picture: int,
    score_threshold: float,
    nms_iou_threshold: float,
    max_candidates: int | None,
    max_detections: int | None,
    union_slack: float = 0.0,
    scale_xy: tuple[float, float] = (1.0, 1.0),
) -> Detections:
    """The faces of one picture of a batch: threshold, best candidates, greedy NMS, best detections.

    `scale_xy` multiplies x and y: from pixels of the network's input to pixels of the picture. `union_slack` is added
    to each union of two boxes, in square pixels of the input. Without it, equal scores keep the order of the priors, so
    that the result is the same on every runtime and machine.
    """
    scores = decoded.scores[picture].float()
    corners = decoded.boxes_xyxy[picture]
    # Distances may come out negative and turn a box inside out, and early in training overflow: that is no face.
    is_box = (corners[:, 2:] >= corners[:, :2]).all(dim=1) & corners.isfinite().all(dim=1)
    chosen = torch.nonzero((scores > score_threshold) & is_box).squeeze(1)
    # With slack the NMS is the makers' whole, and torch's default sort belongs to it: it decides between scores that
    # are equal to the last bit (faces at 1.0), on each machine in the same way, on all machines not.
    order = torch.sort(scores[chosen], descending=True, stable=not union_slack).indices
    chosen = chosen[order[:max_candidates]]
    boxes_xyxy = corners[chosen].float()
    kept = suppress(boxes_xyxy, nms_iou_threshold, union_slack)[:max_detections]
    scale = torch.tensor(scale_xy, device=boxes_xyxy.device)
    landmarks = None
    if decoded.landmarks_xy is not None:
        points = decoded.landmarks_xy[picture, chosen[kept]].float().view(-1, 5, 2)
        landmarks = (points * scale).cpu().numpy()
    return Detections(
        boxes_xyxy=(boxes_xyxy[kept] * scale.tile(2)).cpu().numpy(),
        scores=scores[chosen[kept]].cpu().numpy(),
        landmarks_xy=landmarks,
    )


def suppress(boxes_xyxy: Tensor, iou_threshold: float, union_slack: float = 0.0) -> Tensor:
    """Greedy NMS of (N, 4) boxes, best first: the (K,) indices of those that overlap no better kept box by more than
    the threshold, ascending."""
    if not union_slack:
        # torchvision sorts by score itself and breaks ties as it likes: hand it the rank.
        rank = torch.arange(len(boxes_xyxy), 0, -1, dtype=torch.float32, device=boxes_xyxy.device)
        return cast(Tensor, nms(boxes_xyxy, rank, iou_threshold))
    shared = intersections(boxes_xyxy[:, None], boxes_xyxy[None])
    areas = area(boxes_xyxy)
    overlap = shared / (areas[:, None] + areas[None] - shared + union_slack)
    beats = (overlap > iou_threshold).triu(diagonal=1).float()
    # A box falls if a better one that stands overlaps it: repeated, this settles from the best box downwards.
    kept, before = areas.new_ones(len(areas)), areas.new_zeros(len(areas))
    while not torch.equal(kept, before):
        before, kept = kept, (kept @ beats == 0).float()
    return torch.nonzero(kept).squeeze(1)
