"""Weights read from a deployed graph have their batch norm folded away; training needs it back."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from facekit.engine.training.loop import Batches
from facekit.ops.pixels import normalise
from facekit.template import Template

log = logging.getLogger(__name__)

UNFOLDING_BATCHES = 8  # of training pictures, to measure batch norms that a deployed graph had folded away


def unfold_batch_norm(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Gives each batch norm the statistics of its input over `batches` ((B, 3, H, W) normalised images), and scale and
    shift that undo them: in evaluation the network computes what it did, in training it starts from there.

    The layers are measured in one pass: what a layer feeds on does not change when those before it are unfolded.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    # Sum, sum of squares, and count of each norm's inputs, a channel.
    sums: dict[nn.Module, list[Any]] = {norm: [0.0, 0.0, 0] for norm in norms}

    def measure(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0].detach()
        entry = sums[norm]
        entry[0] += x.sum(dim=(0, 2, 3))
        entry[1] += x.square().sum(dim=(0, 2, 3))
        entry[2] += x.numel() // x.shape[1]

    handles = [norm.register_forward_pre_hook(measure) for norm in norms]
    was_training = network.training
    network.eval()
    with torch.no_grad():
        for images in batches:
            network(images)
        for norm in norms:
            total, squares, count = sums[norm]
            mean = total / count
            variance = (squares / count - mean.square()).clamp(min=0)
            assert norm.running_mean is not None and norm.running_var is not None
            # y = gain * x + offset is what the folded layer computes.
            gain = norm.weight / (norm.running_var + norm.eps).sqrt()
            offset = norm.bias - gain * norm.running_mean
            norm.running_mean.copy_(mean)
            norm.running_var.copy_(variance)
            norm.weight.copy_(gain * (variance + norm.eps).sqrt())
            norm.bias.copy_(offset + gain * mean)
    for handle in handles:
        handle.remove()
    network.train(was_training)


def prepare_folded(network: nn.Module, batches: Batches, template: Template) -> None:
    """Brings back batch norms that the source of the weights had folded away, measured on training pictures."""
    log.info("The weights come from a deployed graph: measuring its batch norms anew on training pictures ...")
    batches.start_epoch(0)
    device = next(network.parameters()).device
    images = (
        normalise(batch.to(device), template.input)
        for _, (batch, _) in zip(range(UNFOLDING_BATCHES), batches.loader, strict=False)
    )
    unfold_batch_norm(network, images)
