"""Pixels on their way into a network: the same few operations in training, in PyTorch and in the exported graph."""

from __future__ import annotations

from torch import Tensor

from facekit.template import InputSettings


def normalise(
    images_bgr: Tensor, settings: InputSettings, mean: Tensor | None = None, std: Tensor | None = None
) -> Tensor:
    """(B, 3, H, W) BGR pixels 0..255 of any dtype -> float32 in the network's channel order, (pixel - mean) / std.

    mean, std: those of the settings as (1, 3, 1, 1) tensors, for graphs that are traced: some converters refuse a
    tensor that is made in the graph.
    """
    images = images_bgr.float()
    if settings.colour_order == "rgb":
        images = images.flip(1)
    if any(settings.mean):
        images = images - (images.new_tensor(settings.mean).view(1, 3, 1, 1) if mean is None else mean)
    if any(value != 1 for value in settings.std):
        images = images / (images.new_tensor(settings.std).view(1, 3, 1, 1) if std is None else std)
    return images
