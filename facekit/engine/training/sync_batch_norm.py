"""Batch norms that measure the pictures of all processes."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from facekit.machine.reductions import sum_over_processes


def synchronise_batch_norms(network: nn.Module, device: torch.device) -> None:
    """Has the network's batch norms synchronised; weights and their names stay what they are."""
    if device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(network)
        return
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(parent, name, _synchronised(child))


class CpuSyncBatchNorm2d(nn.BatchNorm2d):
    """What torch.nn.SyncBatchNorm is on a GPU; torch has no kernel of it for the CPU."""

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W), B of any size, 0 too, as long as one process has a picture."""
        if not self.training:
            return super().forward(images)
        values = images.to(torch.promote_types(images.dtype, torch.float32))
        mine = values.new_tensor([values.numel() / values.shape[1]])
        total, count = sum_over_processes(torch.cat([values.sum(dim=(0, 2, 3)), mine])).split([values.shape[1], 1])
        mean = total / count
        centred = values - mean[:, None, None]
        # From the mean, not from the sum of squares: that would cancel out in single precision.
        variance = sum_over_processes(centred.square().sum(dim=(0, 2, 3))) / count
        self._remember(mean.detach(), variance.detach() * count / (count - 1).clamp(min=1))
        scale = self.weight * (variance + self.eps).rsqrt()
        normalised: Tensor = centred * scale[:, None, None] + self.bias[:, None, None]
        return normalised.to(images.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        momentum = cast(float, self.momentum)
        cast(Tensor, self.num_batches_tracked).add_(1)
        cast(Tensor, self.running_mean).lerp_(mean, momentum)
        cast(Tensor, self.running_var).lerp_(variance, momentum)


def _synchronised(norm: nn.BatchNorm2d) -> CpuSyncBatchNorm2d:
    synchronised = CpuSyncBatchNorm2d(norm.num_features, norm.eps, cast(float, norm.momentum))
    # The same tensors: the optimiser holds them already.
    synchronised.weight, synchronised.bias = norm.weight, norm.bias
    synchronised.running_mean, synchronised.running_var = norm.running_mean, norm.running_var
    synchronised.num_batches_tracked = norm.num_batches_tracked
    return synchronised.train(norm.training)
