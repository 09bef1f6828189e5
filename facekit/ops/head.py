"""What a network's numbers mean: its priors, its coder, its scoring; and the one decode path of all runtimes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from facekit.ops.boxes import clip_to
from facekit.ops.coders import Coder
from facekit.structures import Activated, Decoded, Priors, RawOutputs


@dataclass(frozen=True)
class Head:
    """The meaning of RawOutputs, declared by each model file as data."""

    strides: tuple[int, ...]  # finest level first
    prior_sizes_wh: tuple[tuple[tuple[float, float], ...], ...]  # pixels, a list a level
    cell_offset: float  # prior centres at (cell + cell_offset) * stride
    coder: Coder
    # softmax over face and background, or sigmoid of one class; times the sigmoid of objectness where there is one
    scoring: Literal["softmax", "sigmoid"]
    face_column: int = 0
    has_objectness: bool = False  # or centre-ness
    has_landmarks: bool = False
    # Cells share the input's sides evenly instead of lying a stride apart (they differ where the stride does not
    # divide the input), and priors are clipped to the input, component by component (Ultra-Light).
    fits_cells: bool = False
    clips_boxes: bool = False  # decoded boxes end at the input's border

    @property
    def priors_a_cell(self) -> tuple[int, ...]:
        """How many priors share a cell, a level."""
        return tuple(len(sizes_wh) for sizes_wh in self.prior_sizes_wh)

    @property
    def level_names(self) -> list[str]:
        """Names of the tensors of each level, quantity by quantity: cls_8, cls_16, ..., bbox_8, ..."""
        kinds = ["cls", *["obj"] * self.has_objectness, "bbox", *["kps"] * self.has_landmarks]
        return [f"{kind}_{stride}" for kind in kinds for stride in self.strides]

    def cells(self, size_hw: tuple[int, int]) -> list[tuple[int, int]]:
        """Rows and columns of each level for an input of that size."""
        height, width = size_hw
        # Not -(-side // stride): ONNX divides towards zero, also where a graph computes its cells.
        return [((height + s - 1) // s, (width + s - 1) // s) for s in self.strides]

    def priors(self, size_hw: tuple[int, int], device: torch.device | None = None) -> Priors:
        """The A priors of an input of that size: level by level, row by row, cell by cell."""
        height, width = size_hw
        levels, strides = [], []
        for stride, sizes_wh, (rows, columns) in zip(
            self.strides, self.prior_sizes_wh, self.cells(size_hw), strict=True
        ):
            y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
            step_xy = torch.tensor((width / columns, height / rows) if self.fits_cells else (stride, stride))
            centres = (torch.stack([x, y], dim=-1).float() + self.cell_offset) * step_xy
            sizes = torch.tensor(sizes_wh).expand(rows, columns, -1, 2)
            levels.append(torch.cat([centres[:, :, None].expand_as(sizes), sizes], dim=-1).reshape(-1, 4))
            strides.append(torch.full((len(levels[-1]),), float(stride)))
        cxcywh = torch.cat(levels)
        if self.fits_cells:
            cxcywh = cxcywh.minimum(torch.tensor([width, height, width, height]))
        return Priors(cxcywh.to(device), torch.cat(strides).to(device), size_hw)

    def activate(self, raw: RawOutputs) -> Activated:
        """Logits to probabilities."""
        softmax = self.scoring == "softmax"
        probabilities = raw.class_logits.softmax(dim=-1) if softmax else raw.class_logits.sigmoid()
        objectness = None if raw.objectness_logits is None else raw.objectness_logits.sigmoid()
        return Activated(probabilities, raw.box_deltas, objectness, raw.landmark_deltas)

    def decode(self, activated: Activated, priors: Priors) -> Decoded:
        """Probabilities and deltas to scores, boxes and landmarks in pixels of the input."""
        scores = activated.class_probabilities[..., self.face_column]
        if activated.objectness is not None:
            scores = scores * activated.objectness
        boxes_xyxy = self.coder.decode(activated.box_deltas, priors)
        if self.clips_boxes:
            boxes_xyxy = clip_to(boxes_xyxy, priors.size_hw)
        landmarks_xy = None
        if activated.landmark_deltas is not None:
            landmarks_xy = self.coder.decode_points(activated.landmark_deltas, priors)
        return Decoded(boxes_xyxy, scores, landmarks_xy)
