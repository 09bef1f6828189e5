"""What the engine, the exporters and the backends ask of a model file."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from facekit.ops.head import Head
from facekit.structures import Priors, RawOutputs, Targets


class DetectorNetwork(Protocol):
    """A torch.nn.Module that also says what its numbers mean and how they are learnt."""

    head: Head

    def __call__(self, images: Tensor) -> RawOutputs:
        """(B, 3, H, W) normalised images -> raw outputs."""

    def losses(self, raw: RawOutputs, targets: Targets, priors: Priors) -> dict[str, Tensor]:
        """Named scalar losses of a batch; training minimises their sum."""
