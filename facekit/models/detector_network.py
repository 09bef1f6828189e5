"""What the engine, the exporters and the runtimes ask of a model file."""

from __future__ import annotations

from torch import Tensor, nn

from facekit.ops.head import Head
from facekit.structures import Priors, RawOutputs, Targets


class DetectorNetwork(nn.Module):
    """A network that also says what its numbers mean and how they are learnt."""

    head: Head
    size_multiple = 1  # that the sides of a picture must be multiples of

    def forward(self, images: Tensor) -> RawOutputs:
        """(B, 3, H, W) normalised images -> raw outputs."""
        raise NotImplementedError

    def losses(self, raw: RawOutputs, targets: Targets, priors: Priors) -> dict[str, Tensor]:
        """Named scalar losses of a batch; training minimises their sum."""
        raise NotImplementedError
