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

from facekit.errors import ArgumentError
from facekit.ops.head import declared_head
from facekit.ops.pixels import normalise
from facekit.structures import Priors
from facekit.targets.reading.about import about_export
from facekit.template import Template

EXAMPLE_SIZE_HW = (128, 160)  # for tracing graphs of any size: small, and not square


class ExportGraph(nn.Module):
    """(B, 3, H, W) float32 BGR pixels 0..255 -> the tensors of `output_names`, in their order.

    Layout "decoded", of one size: boxes (B, A, 4) xyxy in pixels of the input, scores (B, A), and landmarks (B, A, 10)
    if any. Layout "per_level", of any size unless one is given: cls_S, obj_S as probabilities, bbox_S, kps_S as the
    head's coder defines them, each (B, priors of the level, C), S the stride; obj and kps where the head has them.
    """

    input_name = "image"

    def __init__(self, network: nn.Module, template: Template, size_hw: tuple[int, int] | None = None) -> None:
        """`network`: the template's, plain or compressed. `size_hw`: the only size that the graph is to take, where the
        layout leaves the choice. Raises ArgumentError for a size that it can't take."""
        super().__init__()
        self.network = network
        self.settings = template.input
        for name, values in (("mean", template.input.mean), ("std", template.input.std)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32).view(1, 3, 1, 1), persistent=False)
        self.head = declared_head(template.model)
        self.per_level = self.head.any_size
        self.any_size = self.per_level and size_hw is None
        # A protocol that pads to multiples of the coarsest stride never feeds anything else.
        coarsest = max(self.head.strides)
        self.size_multiple = coarsest if template.evaluation.size_multiple % coarsest == 0 else 1
        self._check_size(template, size_hw)
        self.example_size_hw = EXAMPLE_SIZE_HW if self.any_size else size_hw or template.input.size_hw
        self.about = about_export(template, None if self.any_size else self.example_size_hw)
        if self.per_level:
            self.output_names = self.head.level_names
        else:
            priors = self.head.priors(template.input.size_hw).tensors()
            self.register_buffer("priors_cxcywh", priors.cxcywh, persistent=False)
            self.register_buffer("prior_strides", priors.strides, persistent=False)
            self.output_names = ["boxes", "scores", *["landmarks"] * self.head.has_landmarks]

    def _check_size(self, template: Template, size_hw: tuple[int, int] | None) -> None:
        if size_hw is None or (not self.per_level and size_hw == template.input.size_hw):
            return
        height, width = size_hw
        if not self.per_level:
            own_height, own_width = template.input.size_hw
            raise ArgumentError(
                f"`input_size={width}x{height}`: {template.name} takes {own_width}x{own_height} pictures alone. "
                f"Change input.size_hw in its template.yaml, and train it for that size."
            )
        if height % self.size_multiple or width % self.size_multiple:
            raise ArgumentError(
                f"`input_size={width}x{height}`: {template.name} takes multiples of {self.size_multiple} pixels."
            )

    def example(self, batch: int = 1) -> Tensor:
        """Pixels to trace the graph with."""
        height, width = self.example_size_hw
        return (
            torch.linspace(0, 255, 3 * height * width).view(1, 3, height, width).expand(batch, -1, -1, -1).contiguous()
        )

    def normalised(self, image: Tensor) -> Tensor:
        """What the network is fed with."""
        return normalise(image, self.settings, cast(Tensor, self.mean), cast(Tensor, self.std))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        activated = self.head.activate(self.network(self.normalised(image)))
        if not self.per_level:
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
