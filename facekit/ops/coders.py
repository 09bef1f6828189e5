"""Boxes and points as numbers relative to a prior, and back. Torch tensors and NumPy arrays alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from facekit.ops.arrays import array_namespace
from facekit.ops.boxes import border_distances, cxcywh_to_xyxy, xyxy_to_cxcywh
from facekit.structures import Array, Priors


class Coder(Protocol):
    """What a head's deltas mean. Boxes, deltas and points are (..., P, n) for P priors, in pixels of the input."""

    def encode(self, boxes_xyxy: Array, priors: Priors) -> Array:
        """(..., P, 4) boxes -> (..., P, 4) deltas."""

    def decode(self, deltas: Array, priors: Priors) -> Array:
        """(..., P, 4) deltas -> (..., P, 4) boxes xyxy."""

    def encode_points(self, points_xy: Array, priors: Priors) -> Array:
        """(..., P, 2 n) points -> (..., P, 2 n) deltas."""

    def decode_points(self, deltas: Array, priors: Priors) -> Array:
        """(..., P, 2 n) deltas -> (..., P, 2 n) points."""


@dataclass(frozen=True)
class DeltaCoder:
    """Centre and size relative to the prior, over variances (Liu et al., SSD, section 2.2; Ren et al., Faster R-CNN).

    Variances (1, 1) on square priors of the stride's size are the anchor-free coding of YuNet and YOLOX.
    """

    centre_variance: float  # of boxes' centres and of points
    size_variance: float

    def encode(self, boxes_xyxy: Array, priors: Priors) -> Array:
        """Boxes must have width and height."""
        xp = array_namespace(boxes_xyxy)
        boxes_cxcywh = xyxy_to_cxcywh(boxes_xyxy)
        centre = (boxes_cxcywh[..., :2] - priors.cxcywh[..., :2]) / priors.cxcywh[..., 2:] / self.centre_variance
        size = xp.log(boxes_cxcywh[..., 2:] / priors.cxcywh[..., 2:]) / self.size_variance
        return xp.concat([centre, size], axis=-1)

    def decode(self, deltas: Array, priors: Priors) -> Array:
        xp = array_namespace(deltas)
        centre = priors.cxcywh[..., :2] + deltas[..., :2] * priors.cxcywh[..., 2:] * self.centre_variance
        size = priors.cxcywh[..., 2:] * xp.exp(deltas[..., 2:] * self.size_variance)
        return cxcywh_to_xyxy(xp.concat([centre, size], axis=-1))

    def encode_points(self, points_xy: Array, priors: Priors) -> Array:
        centre, size = _repeated(priors, points_xy.shape[-1])
        return (points_xy - centre) / size / self.centre_variance

    def decode_points(self, deltas: Array, priors: Priors) -> Array:
        centre, size = _repeated(priors, deltas.shape[-1])
        return centre + deltas * size * self.centre_variance


def _repeated(priors: Priors, columns: int) -> tuple[Array, Array]:
    """Centres and sizes of the priors, once a point: (P, columns) each."""
    xp, points = array_namespace(priors.cxcywh), columns // 2  # NumPy's tile takes four times as long as concat
    return xp.concat([priors.cxcywh[:, :2]] * points, axis=-1), xp.concat([priors.cxcywh[:, 2:]] * points, axis=-1)


@dataclass(frozen=True)
class DistanceCoder:
    """Distances from the prior's centre to the left, top, right and bottom border; points as offsets from the centre
    (Tian et al., FCOS, section 3.1). In pixels, or in strides of the prior's level."""

    in_strides: bool

    def encode(self, boxes_xyxy: Array, priors: Priors) -> Array:
        return border_distances(priors.cxcywh[..., :2], boxes_xyxy) / self._unit(priors)

    def decode(self, deltas: Array, priors: Priors) -> Array:
        xp = array_namespace(deltas)
        distances = deltas * self._unit(priors)
        centre = priors.cxcywh[..., :2]
        return xp.concat([centre - distances[..., :2], centre + distances[..., 2:]], axis=-1)

    def encode_points(self, points_xy: Array, priors: Priors) -> Array:
        return (points_xy - _repeated(priors, points_xy.shape[-1])[0]) / self._unit(priors)

    def decode_points(self, deltas: Array, priors: Priors) -> Array:
        return _repeated(priors, deltas.shape[-1])[0] + deltas * self._unit(priors)

    def _unit(self, priors: Priors) -> Array | float:
        return priors.strides[..., None] if self.in_strides else 1.0


@dataclass(frozen=True)
class SigmoidCoder:
    """YOLOv5's coding: the centre at most one and a half cells from the prior's, sizes up to four times the prior's
    (github.com/ultralytics/yolov5, models/yolo.py); points from the prior's centre in its sizes (Qi et al., YOLO5Face,
    section 3). Centres of priors are the corners of their cells."""

    def encode(self, boxes_xyxy: Array, priors: Priors) -> Array:
        """Boxes must lie within what the coding reaches."""
        xp = array_namespace(boxes_xyxy)
        boxes_cxcywh = xyxy_to_cxcywh(boxes_xyxy)
        offset = (boxes_cxcywh[..., :2] - priors.cxcywh[..., :2]) / priors.strides[..., None]
        share = xp.concat([(offset + 0.5) / 2, (boxes_cxcywh[..., 2:] / priors.cxcywh[..., 2:]) ** 0.5 / 2], axis=-1)
        return xp.log(share / (1 - share))

    def decode(self, deltas: Array, priors: Priors) -> Array:
        xp = array_namespace(deltas)
        share = 1 / (1 + xp.exp(-deltas))
        centre = priors.cxcywh[..., :2] + (2 * share[..., :2] - 0.5) * priors.strides[..., None]
        size = (2 * share[..., 2:]) ** 2 * priors.cxcywh[..., 2:]
        return cxcywh_to_xyxy(xp.concat([centre, size], axis=-1))

    def encode_points(self, points_xy: Array, priors: Priors) -> Array:
        centre, size = _repeated(priors, points_xy.shape[-1])
        return (points_xy - centre) / size

    def decode_points(self, deltas: Array, priors: Priors) -> Array:
        centre, size = _repeated(priors, deltas.shape[-1])
        return centre + deltas * size
