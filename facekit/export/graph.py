"""The graph that every target exports: normalisation, network, and the shared decode path, in one module."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from facekit.models.detector_network import DetectorNetwork
from facekit.ops.pixels import normalise
from facekit.template import Template

INPUT_NAME = "image"
EXAMPLE_SIZE_HW = (128, 160)  # for tracing graphs of any size: small, and not square


class ExportGraph(nn.Module):
    """(B, 3, H, W) float32 BGR pixels 0..255 -> the tensors of `output_names`, in their order.

    Layout "decoded": boxes (B, A, 4) xyxy in pixels of the input, scores (B, A), and landmarks (B, A, 10) if any.
    Layout "per_level": cls_S, obj_S as probabilities, bbox_S, kps_S as deltas, each (B, H * W, C), S the stride.
    """

    def __init__(self, network: nn.Module, template: Template, head_of: nn.Module | None = None) -> None:
        """`head_of` is the plain network when `network` is its compressed copy."""
        super().__init__()
        self.network = network
        self.settings = template.input
        described = cast(DetectorNetwork, head_of or network)
        self.head = described.head
        self.per_level = described.export_layout == "per_level"
        self.any_size = template.evaluation.resize == "none"
        self.size_multiple = template.evaluation.size_multiple
        self.example_size_hw = EXAMPLE_SIZE_HW if self.any_size else template.input.size_hw
        if self.per_level:
            self.output_names = [
                f"{kind}_{stride}" for kind in ("cls", "obj", "bbox", "kps") for stride in self.head.strides
            ]
        else:
            self.register_buffer("priors", self.head.priors_cxcywh(template.input.size_hw), persistent=False)
            self.output_names = ["boxes", "scores"]

    def example(self, batch: int = 1) -> Tensor:
        """Pixels to trace the graph with."""
        height, width = self.example_size_hw
        return (
            torch.linspace(0, 255, 3 * height * width).view(1, 3, height, width).expand(batch, -1, -1, -1).contiguous()
        )

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        activated = self.head.activate(self.network(normalise(image, self.settings)))
        if not self.per_level:
            decoded = self.head.decode(activated, cast(Tensor, self.priors))
            return tuple(tensor for tensor in decoded if tensor is not None)
        assert activated.objectness is not None and activated.landmark_deltas is not None
        cells = [(image.shape[2] // stride) * (image.shape[3] // stride) for stride in self.head.strides]
        quantities = (
            activated.class_probabilities,
            activated.objectness.unsqueeze(-1),
            activated.box_deltas,
            activated.landmark_deltas,
        )
        return tuple(level for quantity in quantities for level in quantity.split(cells, dim=1))
