"""The network itself, in PyTorch."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from facekit.machine.memory import keep_freed_memory
from facekit.models import build_model
from facekit.models.detector_network import DetectorNetwork
from facekit.ops.pixels import normalise
from facekit.structures import Decoded
from facekit.template import Template
from facekit.weights.checkpoint import load_state
from facekit.weights.load import load_weights


class PyTorchBackend:
    fixed_size_hw: tuple[int, int] | None = None

    def __init__(self, network: nn.Module, template: Template, head_of: nn.Module | None = None) -> None:
        """`head_of` names the module whose head decodes when `network` is a compressed copy without one."""
        self.network = network
        self.template = template
        self.head = cast(DetectorNetwork, head_of or network).head
        self.is_compressed = head_of is not None
        self.device = next(network.parameters()).device
        self.priors = lru_cache(maxsize=8)(lambda size_hw: self.head.priors(size_hw, self.device))

    @classmethod
    def from_file(cls, weights: Path, template: Template, device: str | None = None) -> PyTorchBackend:
        checkpoint = load_weights(weights, template)
        network = build_model(template)
        if checkpoint.meta.get("compression"):
            from facekit.targets.nncf_ import restore_compressed

            compressed = restore_compressed(network, checkpoint, str(weights))
            return cls(compressed.eval(), template, head_of=network)
        load_state(network, checkpoint.state_dict, str(weights))
        keep_freed_memory()
        network = network.to(memory_format=torch.channels_last)
        return cls(network.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval(), template)

    @torch.inference_mode()
    def __call__(self, images_bgr: NDArray[np.uint8]) -> Decoded:
        images: Tensor = torch.from_numpy(images_bgr).to(self.device).permute(0, 3, 1, 2)
        raw = self.network(normalise(images, self.template.input))
        size_hw = (images.shape[2], images.shape[3])
        return self.head.decode(self.head.activate(raw), self.priors(size_hw))
