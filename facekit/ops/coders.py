"""Boxes and points as numbers relative to a prior, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from facekit.ops.boxes import border_distances, cxcywh_to_xyxy, xyxy_to_cxcywh
from facekit.structures import Priors


class Coder(Protocol):
    """What a head's deltas mean. Boxes, deltas and points are (..., P, n) for P priors, in pixels of the input."""

    def encode(self, boxes_xyxy: Tensor, priors: Priors) -> Tensor:
        """(..., P, 4) boxes -> (..., P, 4) deltas."""

    def decode(self, deltas: Tensor, priors: Priors) -> Tensor:
        """(..., P, 4) deltas -> (..., P, 4) boxes xyxy."""

    def encode_points(self, points_xy: Tensor, priors: Priors) -> Tensor:
        """(..., P, 2 n) points -> (..., P, 2 n) deltas."""

    def decode_points(self, deltas: Tensor, priors: Priors) -> Tensor:
        """(..., P, 2 n) deltas -> (..., P, 2 n) points."""


@dataclass(frozen=True)
class DeltaCoder:
    """Centre and size relative to the prior, over variances (Liu et al., SSD, section 2.2; Ren et al., Faster R-CNN).

    Variances (1, 1) on square priors of the stride's size are the anchor-free coding of YuNet and YOLOX.
    """

    centre_variance: float  # of boxes' centres and of points
    size_variance: float

    def encode(self, boxes_xyxy: Tensor, priors: Priors) -> Tensor:
        """Boxes must have width and height."""
        boxes_cxcywh = xyxy_to_cxcywh(boxes_xyxy)
        centre = (boxes_cxcywh[..., :2] - priors.cxcywh[..., :2]) / priors.cxcywh[..., 2:] / self.centre_variance
        size = (boxes_cxcywh[..., 2:] / priors.cxcywh[..., 2:]).log() / self.size_variance
        return torch.cat([centre, size], dim=-1)

    def decode(self, deltas: Tensor, priors: Priors) -> Tensor:
        centre = priors.cxcywh[..., :2] + deltas[..., :2] * priors.cxcywh[..., 2:] * self.centre_variance
        size = priors.cxcywh[..., 2:] * (deltas[..., 2:] * self.size_variance).exp()
        return cxcywh_to_xyxy(torch.cat([centre, size], dim=-1))

    def encode_points(self, points_xy: Tensor, priors: Priors) -> Tensor:
        repeats = points_xy.shape[-1] // 2
        centre, size = (half.tile(repeats) for half in priors.cxcywh.chunk(2, dim=-1))
        return (points_xy - centre) / size / self.centre_variance

    def decode_points(self, deltas: Tensor, priors: Priors) -> Tensor:
        repeats = deltas.shape[-1] // 2
        centre, size = (half.tile(repeats) for half in priors.cxcywh.chunk(2, dim=-1))
        return centre + deltas * size * self.centre_variance


@dataclass(frozen=True)
class DistanceCoder:
    """Distances from the prior's centre to the left, top, right and bottom border; points as offsets from the centre
    (Tian et al., FCOS, section 3.1). In pixels, or in strides of the prior's level."""

    in_strides: bool

    def encode(self, boxes_xyxy: Tensor, priors: Priors) -> Tensor:
        return border_distances(priors.cxcywh[..., :2], boxes_xyxy) / self._unit(priors)

    def decode(self, deltas: Tensor, priors: Priors) -> Tensor:
        distances = deltas * self._unit(priors)
        centre = priors.cxcywh[..., :2]
        return torch.cat([centre - distances[..., :2], centre + distances[..., 2:]], dim=-1)

    def encode_points(self, points_xy: Tensor, priors: Priors) -> Tensor:
        return (points_xy - priors.cxcywh[..., :2].tile(points_xy.shape[-1] // 2)) / self._unit(priors)

    def decode_points(self, deltas: Tensor, priors: Priors) -> Tensor:
        return priors.cxcywh[..., :2].tile(deltas.shape[-1] // 2) + deltas * self._unit(priors)

    def _unit(self, priors: Priors) -> Tensor | float:
        return priors.strides[..., None] if self.in_strides else 1.0
