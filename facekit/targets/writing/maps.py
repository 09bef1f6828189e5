"""A graph that gives maps, for runtimes whose reshapes are bound to one size: a map a level and quantity, as the
network's last convolutions leave it. Any size of picture goes through one such file."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from facekit.targets.writing.graph import ExportGraph


class MapsGraph(nn.Module):
    """(1, 3, H, W) BGR pixels 0..255 -> the tensors of `output_names` as (1, priors * columns, H / S, W / S), prior by
    prior: what ExportGraph gives as rows of its layout "per_level". Only of networks that have `maps`."""

    def __init__(self, graph: ExportGraph) -> None:
        super().__init__()
        self.wrapped = graph
        self.output_names = graph.output_names
        self.pairs = nn.ModuleList()  # for softmax over two classes: the sigmoid of each one's lead over the other
        if graph.head.scoring == "softmax":
            self.pairs.extend(_leads(priors) for priors in graph.head.priors_a_cell)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        network: Any = self.wrapped.network
        maps = network.maps(self.wrapped.normalised(image))
        classes = list(maps.class_logits)
        if self.pairs:
            classes = [lead(level) for lead, level in zip(self.pairs, classes, strict=True)]
        objectness = [level.sigmoid() for level in maps.objectness_logits or ()]
        return (*(level.sigmoid() for level in classes), *objectness, *maps.box_deltas, *(maps.landmark_deltas or ()))


def _leads(priors: int) -> nn.Conv2d:
    lead = nn.Conv2d(2 * priors, 2 * priors, kernel_size=1, groups=priors, bias=False)
    with torch.no_grad():
        lead.weight.copy_(torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(priors, 1)[:, :, None, None])
    return lead


def has_maps(network: nn.Module) -> bool:
    """Whether MapsGraph can be made of it."""
    return callable(getattr(network, "maps", None))
