"""Random weights that make a network worth comparing: what it says depends on the picture, and on the place."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck

LEAST_WEIGHTS = 0.015  # their standard deviation: heads begin so small that all priors say the same


def enliven(network: nn.Module, blobs: Sequence[Tensor]) -> None:
    """Sets convolutions and batch norms, these by what the network sees in the blobs (each of two pictures at least, as
    it is fed): without that a hundred layers forget the picture, or grow beyond float32. The statistics are then moved,
    so that a channel in another's place, or a wrong scale, changes every output. The network stays in eval()."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.weight.std() < LEAST_WEIGHTS:
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
        if isinstance(module, nn.Conv2d) and module.bias is not None and float(module.bias.detach().max()) < -2:
            nn.init.zeros_(module.bias)  # a head's, which begins by calling all priors background
        elif isinstance(module, nn.GroupNorm):
            nn.init.uniform_(module.bias, -0.3, 0.3)
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.8, 1.2)
    for module in network.modules():
        if isinstance(module, Bottleneck):  # fifty of them in a row double each rounding, unless they add little
            nn.init.uniform_(module.bn3.weight, 0.1, 0.2)
    for norm in norms:
        nn.init.uniform_(norm.bias, -0.3, 0.3)
        norm.momentum = None  # the mean over what is fed
    with torch.no_grad():
        for blob in blobs:
            network.train()(blob)
        for norm in norms:
            assert norm.running_mean is not None and norm.running_var is not None
            norm.running_mean += torch.empty_like(norm.running_mean).uniform_(-0.3, 0.3) * norm.running_var.sqrt()
            norm.running_var *= torch.empty_like(norm.running_var).uniform_(0.7, 1.5)
            norm.momentum = 0.1
    network.eval()
