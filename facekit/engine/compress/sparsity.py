"""Sparsity: the smallest weights become zero and stay zero."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from facekit.targets.nncf_ import nncf
from facekit.targets.writing.graph import quiet_tracing
from facekit.template import SparsitySettings


def sparsify(network: nn.Module, calibration: Sequence[Tensor], settings: SparsitySettings) -> nn.Module:
    """Masks the network's smallest weights, chosen over all layers together (in place), and returns it."""
    with quiet_tracing():
        network = nncf.prune(
            network.eval(),
            nncf.PruneMode.UNSTRUCTURED_MAGNITUDE_GLOBAL,
            ratio=settings.ratio,
            examples_inputs=calibration[0],
        )
    return network


def measured_sparsity(network: nn.Module) -> float:
    """Zeros among the convolution weights as the network uses them, 0..1."""
    with torch.no_grad(), quiet_tracing():
        return float(nncf.pruning_statistic(network).pruning_ratio)
