"""What a network's numbers mean: its priors, its coder, its scoring; and the one decode path of all runtimes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from facekit.ops.boxes import cxcywh_to_xyxy, xyxy_to_cxcywh
from facekit.structures import Activated, Decoded, RawOutputs


@dataclass(frozen=True)
class DeltaCoder:
    """Centre and size relative to the prior, over variances (Liu et al., SSD, section 2.2; Ren et al., Faster R-CNN).

    Variances (1, 1) on square priors of the stride's size are the anchor-free coding of YuNet and YOLOX.
    """

    centre_variance: float
    size_variance: float

    def encode(self, boxes_xyxy: Tensor, priors_cxcywh: Tensor) -> Tensor:
        """(..., 4) boxes and (..., 4) priors -> (..., 4) deltas. Boxes must have width and height."""
        boxes_cxcywh = xyxy_to_cxcywh(boxes_xyxy)
        centre = (boxes_cxcywh[..., :2] - priors_cxcywh[..., :2]) / priors_cxcywh[..., 2:] / self.centre_variance
        size = (boxes_cxcywh[..., 2:] / priors_cxcywh[..., 2:]).log() / self.size_variance
        return torch.cat([centre, size], dim=-1)

    def decode(self, deltas: Tensor, priors_cxcywh: Tensor) -> Tensor:
        """(..., 4) deltas and priors -> (..., 4) boxes xyxy."""
        centre = priors_cxcywh[..., :2] + deltas[..., :2] * priors_cxcywh[..., 2:] * self.centre_variance
        size = priors_cxcywh[..., 2:] * (deltas[..., 2:] * self.size_variance).exp()
        return cxcywh_to_xyxy(torch.cat([centre, size], dim=-1))

    def encode_points(self, points_xy: Tensor, priors_cxcywh: Tensor) -> Tensor:
        """(..., 2 P) points and (..., 4) priors -> (..., 2 P) deltas."""
        repeats = points_xy.shape[-1] // 2
        centre, size = (half.tile(repeats) for half in priors_cxcywh.chunk(2, dim=-1))
        return (points_xy - centre) / size / self.centre_variance

    def decode_points(self, deltas: Tensor, priors_cxcywh: Tensor) -> Tensor:
        """(..., 2 P) deltas and (..., 4) priors -> (..., 2 P) points."""
        repeats = deltas.shape[-1] // 2
        centre, size = (half.tile(repeats) for half in priors_cxcywh.chunk(2, dim=-1))
        return centre + deltas * size * self.centre_variance


@dataclass(frozen=True)
class Head:
    """The meaning of RawOutputs, declared by each model file as data."""

    strides: tuple[int, ...]
    prior_sizes_wh: tuple[tuple[tuple[float, float], ...], ...]  # pixels, a list a level
    cell_offset: float  # prior centres at (cell + cell_offset) * stride
    coder: DeltaCoder
    # softmax: the face's column of the classes; sigmoid_product: sigmoid(class) * sigmoid(objectness)
    scoring: Literal["softmax", "sigmoid_product"]
    face_column: int = 0

    def priors_cxcywh(self, size_hw: tuple[int, int], device: torch.device | None = None) -> Tensor:
        """(A, 4) float32 priors of an input of that size, in the order of RawOutputs."""
        levels = []
        for stride, sizes_wh in zip(self.strides, self.prior_sizes_wh, strict=True):
            rows, columns = (-(-side // stride) for side in size_hw)
            y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
            centres = (torch.stack([x, y], dim=-1).float() + self.cell_offset) * stride
            sizes = torch.tensor(sizes_wh).expand(rows, columns, -1, 2)
            levels.append(torch.cat([centres[:, :, None].expand_as(sizes), sizes], dim=-1).reshape(-1, 4))
        return torch.cat(levels).to(device)

    def prior_strides(self, size_hw: tuple[int, int], device: torch.device | None = None) -> Tensor:
        """(A,) float32 stride of each prior's level."""
        levels = []
        for stride, sizes_wh in zip(self.strides, self.prior_sizes_wh, strict=True):
            rows, columns = (-(-side // stride) for side in size_hw)
            levels.append(torch.full((rows * columns * len(sizes_wh),), float(stride)))
        return torch.cat(levels).to(device)

    def activate(self, raw: RawOutputs) -> Activated:
        """Logits to probabilities."""
        if self.scoring == "softmax":
            return Activated(raw.class_logits.softmax(dim=-1), raw.box_deltas, None, raw.landmark_deltas)
        assert raw.objectness_logits is not None
        return Activated(
            raw.class_logits.sigmoid(), raw.box_deltas, raw.objectness_logits.sigmoid(), raw.landmark_deltas
        )

    def decode(self, activated: Activated, priors_cxcywh: Tensor) -> Decoded:
        """Probabilities and deltas to scores, boxes and landmarks in pixels of the input."""
        scores = activated.class_probabilities[..., self.face_column]
        if activated.objectness is not None:
            scores = scores * activated.objectness
        boxes_xyxy = self.coder.decode(activated.box_deltas, priors_cxcywh)
        landmarks_xy = None
        if activated.landmark_deltas is not None:
            landmarks_xy = self.coder.decode_points(activated.landmark_deltas, priors_cxcywh)
        return Decoded(boxes_xyxy, scores, landmarks_xy)
