"""From one decoded box a prior to the faces of a picture."""

from __future__ import annotations

import torch
from torchvision.ops import nms

from facekit.structures import Decoded, Detections


def select_detections(
    decoded: Decoded,
    picture: int,
    score_threshold: float,
    nms_iou_threshold: float,
    max_candidates: int | None,
    max_detections: int | None,
    scale_xy: tuple[float, float] = (1.0, 1.0),
) -> Detections:
    """The faces of one picture of a batch: threshold, best candidates, greedy NMS, best detections.

    `scale_xy` multiplies x and y: from pixels of the network's input to pixels of the picture. Equal scores keep the
    order of the priors, so the result is the same on every runtime.
    """
    scores = decoded.scores[picture].float()
    chosen = torch.nonzero(scores > score_threshold).squeeze(1)
    order = torch.sort(scores[chosen], descending=True, stable=True).indices
    chosen = chosen[order[:max_candidates]]
    boxes_xyxy = decoded.boxes_xyxy[picture, chosen].float()
    # torchvision sorts by score itself and breaks ties as it likes: hand it the rank.
    rank = torch.arange(len(chosen), 0, -1, dtype=torch.float32, device=boxes_xyxy.device)
    kept = nms(boxes_xyxy, rank, nms_iou_threshold)[:max_detections]
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
