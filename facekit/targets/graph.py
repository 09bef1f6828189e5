"""The graph that every target exports: normalisation, network, and the shared decode path, in one module."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn

from facekit.ops.head import declared_head
from facekit.ops.pixels import normalise
from facekit.structures import Priors
from facekit.template import Template

EXAMPLE_SIZE_HW = (128, 160)  # for tracing graphs of any size: small, and not square

ODD_SIZE_HW = (99, 133)  # that no stride divides


class ExportGraph(nn.Module):
    """(B, 3, H, W) float32 BGR pixels 0..255 -> the tensors of `output_names`, in their order.

    Layout "decoded", of one size: boxes (B, A, 4) xyxy in pixels of the input, scores (B, A), and landmarks (B, A, 10)
    if any. Layout "per_level", of any size: cls_S, obj_S as probabilities, bbox_S, kps_S as the head's coder defines
    them, each (B, priors of the level, C), S the stride; obj and kps where the head has them.
    """

    input_name = "image"

    def __init__(self, network: nn.Module, template: Template) -> None:
        """`network`: the template's, plain or compressed."""
        super().__init__()
        self.network = network
        self.settings = template.input
        self.head = declared_head(template.model)
        self.any_size = self.head.any_size
        # A protocol that pads to multiples of the coarsest stride never feeds anything else.
        coarsest = max(self.head.strides)
        self.size_multiple = coarsest if template.evaluation.size_multiple % coarsest == 0 else 1
        self.example_size_hw = EXAMPLE_SIZE_HW if self.any_size else template.input.size_hw
        if self.any_size:
            self.output_names = self.head.level_names
        else:
            priors = self.head.priors(template.input.size_hw).tensors()
            self.register_buffer("priors_cxcywh", priors.cxcywh, persistent=False)
            self.register_buffer("prior_strides", priors.strides, persistent=False)
            self.output_names = ["boxes", "scores", *["landmarks"] * self.head.has_landmarks]

    @property
    def check_sizes_hw(self) -> list[tuple[int, int]]:
        """Sizes of pictures to compare the exported graph with: for any size also one that it was not traced with."""
        other = (3 * self.size_multiple, 5 * self.size_multiple) if self.size_multiple > 1 else ODD_SIZE_HW
        return [self.example_size_hw, other] if self.any_size else [self.example_size_hw]

    def example(self, batch: int = 1) -> Tensor:
        """Pixels to trace the graph with."""
        height, width = self.example_size_hw
        return (
            torch.linspace(0, 255, 3 * height * width).view(1, 3, height, width).expand(batch, -1, -1, -1).contiguous()
        )

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        activated = self.head.activate(self.network(normalise(image, self.settings)))
        if not self.any_size:
            priors = Priors(cast(Tensor, self.priors_cxcywh), cast(Tensor, self.prior_strides), self.example_size_hw)
            return tuple(tensor for tensor in self.head.decode(activated, priors) if tensor is not None)
        cells = self.head.cells((image.shape[2], image.shape[3]))
        rows = [h * w * priors for (h, w), priors in zip(cells, self.head.priors_a_cell, strict=True)]
        objectness = None if activated.objectness is None else activated.objectness.unsqueeze(-1)
        quantities = (activated.class_probabilities, objectness, activated.box_deltas, activated.landmark_deltas)
        return tuple(level for quantity in quantities if quantity is not None for level in quantity.split(rows, dim=1))


class NamedOutputs(nn.Module):
    """A dict of outputs: OpenVINO's converter takes its keys for the outputs' names."""

    def __init__(self, graph: ExportGraph) -> None:
        super().__init__()
        self.wrapped = graph  # not `graph`: a traced module has an attribute of that name

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return dict(zip(self.wrapped.output_names, self.wrapped(image), strict=True))


@contextlib.contextmanager
def quiet_tracing() -> Iterator[None]:
    """Keeps the tracers' progress lines and deprecation notices about themselves off the user's screen."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export", "nncf")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
