"""What tests of targets share."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from facekit.feed import candidates
from facekit.models import build_model
from facekit.ops.head import declared_head
from facekit.ops.pixels import normalise
from facekit.structures import Decoded
from facekit.targets import Backend
from facekit.targets.writing.draft import Draft
from facekit.targets.writing.graph import ExportGraph
from facekit.template import Template
from tools.lively import enliven


def decoded(backend: Backend, images_bgr: NDArray[np.uint8]) -> Decoded:
    """All priors' boxes, scores and landmarks of a batch, as NumPy arrays."""
    head = declared_head(backend.template.model)
    said, priors = backend(images_bgr), head.priors(images_bgr.shape[1:3])
    parts = [candidates(said, picture, head, priors, -math.inf)[0] for picture in range(len(images_bgr))]
    return Decoded(*(None if fields[0] is None else np.stack(fields) for fields in zip(*parts, strict=True)))


def check_equal(got: Decoded, expected: Decoded, scores_atol: float = 1e-5, places_atol: float = 1e-2) -> None:
    np.testing.assert_allclose(got.scores, expected.scores, atol=scores_atol, rtol=1e-3)
    np.testing.assert_allclose(got.boxes_xyxy, expected.boxes_xyxy, atol=places_atol, rtol=1e-3)
    assert (got.landmarks_xy is None) == (expected.landmarks_xy is None)
    if got.landmarks_xy is not None:
        np.testing.assert_allclose(got.landmarks_xy, expected.landmarks_xy, atol=places_atol, rtol=1e-3)


class ShortBackbone(nn.Module):
    """One convolution an octave. The real ones are plain chains of layers, and converting them takes half a minute."""

    def __init__(self, first_stride: int, tap_channels: tuple[int, ...]) -> None:
        super().__init__()
        stem = (3, *[8] * (int(math.log2(first_stride)) - 1), tap_channels[0])
        self.stem = nn.Sequential(*(nn.Conv2d(*sides, 3, stride=2, padding=1) for sides in pairwise(stem)))
        self.rest = nn.ModuleList(nn.Conv2d(*sides, 3, stride=2, padding=1) for sides in pairwise(tap_channels))

    def forward(self, images: Tensor) -> list[Tensor]:
        taps = [self.stem(images)]
        for layer in self.rest:
            taps.append(layer(taps[-1].relu()))
        return taps


# Where the architecture keeps it, and the channels of its taps.
SHORT = {
    "yunet": ("backbone", (64, 64, 64)),
    "retinaface": ("body", (64, 128, 256)),
    "scrfd": ("backbone", (72, 152, 288)),
    "fcos": ("backbone", (32, 96, 320)),
}


def short_network(template: Template) -> nn.Module:
    """lively_network() with a short backbone."""
    torch.manual_seed(3)
    network: Any = build_model(template)
    if template.model.architecture in SHORT:
        part, tap_channels = SHORT[template.model.architecture]
        setattr(network, part, ShortBackbone(8, tap_channels))
    return _enlivened(network, template)


def lively_network(template: Template) -> nn.Module:
    """A network of the template's with lively random weights."""
    torch.manual_seed(3)
    return _enlivened(build_model(template), template)


def _enlivened(network: nn.Module, template: Template) -> nn.Module:
    images_bgr = torch.randint(0, 256, (2, 3, 128, 160), dtype=torch.uint8)
    enliven(network, [normalise(images_bgr, template.input)])
    return network


def draft_of(network: nn.Module, template: Template, size_hw: tuple[int, int] | None = None) -> Draft:
    """As an export makes it; targets that are made from ONNX need that besides."""
    graph = ExportGraph(network, template, size_hw).eval()
    return Draft(graph, template, graph.about, None)
