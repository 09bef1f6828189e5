"""The network itself, in PyTorch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from facekit.errors import FacekitError
from facekit.machine.cores import usable_cores
from facekit.machine.memory import keep_freed_memory
from facekit.models import build_model
from facekit.ops.head import declared_head
from facekit.ops.pixels import normalise
from facekit.structures import Activated
from facekit.targets import Backend
from facekit.targets.reading.about import template_for
from facekit.template import Template
from facekit.weights.checkpoint import load_state
from facekit.weights.identify import template_of_weights
from facekit.weights.load import load_weights


class PyTorchBackend(Backend):
    """A network in memory, on the device where its parameters are."""

    fixed_size_hw: tuple[int, int] | None = None
    fixed_batch: int | None = None

    def __init__(self, network: nn.Module, template: Template, is_compressed: bool = False) -> None:
        self.network = network
        self.template = template
        self.head = declared_head(template.model)
        self.is_compressed = is_compressed
        self.is_parallel = not is_compressed  # NNCF traces what runs
        self.device = next(network.parameters()).device

    @classmethod
    def from_file(cls, weights: Path, template: Template, device: str | None = None) -> PyTorchBackend:
        checkpoint = load_weights(weights, template)
        network = build_model(template)
        if checkpoint.meta.get("compression"):
            from facekit.targets.nncf_ import restore_compressed

            compressed = restore_compressed(network, checkpoint, str(weights))
            return cls(compressed.eval(), template, is_compressed=True)
        load_state(network, checkpoint.state_dict, str(weights))
        keep_freed_memory()
        network = network.to(memory_format=torch.channels_last)
        place = device or ("cuda" if torch.cuda.is_available() else "cpu")
        try:
            return cls(network.to(place).eval(), template)
        except (RuntimeError, AssertionError) as error:  # no such GPU, or a PyTorch without any
            raise FacekitError(f"device {place}: {str(error).splitlines()[0]} Take cpu, or leave it out.") from error

    @torch.inference_mode()
    def __call__(self, images_bgr: NDArray[np.uint8]) -> Activated:
        images: Tensor = torch.from_numpy(images_bgr).to(self.device).permute(0, 3, 1, 2)
        return self.head.activate(self.network(normalise(images, self.template.input)))


def open_weights(weights: Path, template: Template | None, device: str | None, threads: int | None) -> PyTorchBackend:
    """`threads`: of the whole process, PyTorch has one pool; None leaves it alone but where a quota gives fewer cores
    than it took. Raises FacekitError for weights of another detector."""
    if threads is not None:
        torch.set_num_threads(threads)
    elif usable_cores() < torch.get_num_threads():
        torch.set_num_threads(usable_cores())
    template = template or template_for(None, None, weights, template_of_weights(weights))
    return PyTorchBackend.from_file(weights, template, device)
