"""The moving average of a network's weights: less noisy than any single step's, and often the better detector."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class WeightAverage:
    """An exponential moving average (Polyak and Juditsky, 1992) over steps, of which `network` is a network.

    Running means and variances of batch norms are averaged like weights: they were measured with them, and a copy of
    the last step's would fit the last step's weights alone. Whole numbers are copied.

    `start_share` of it are the weights that it started from, which so forget less of what they knew (Wortsman et al.,
    "Robust fine-tuning of zero-shot models", CVPR 2022, section 3).
    """

    def __init__(self, source: nn.Module, decay: float, start_share: float = 0.0) -> None:
        """Starts as a copy of `source`, which may not be wrapped for several processes."""
        self.decay, self.start_share = decay, start_share
        self.steps = 0  # that went into the average
        self.network = copy.deepcopy(source).eval().requires_grad_(False)
        mine, theirs = _tensors(self.network), _tensors(source)
        pairs = [(mine[name], theirs[name]) for name in mine]
        self._averages = [average for average, _ in pairs if average.is_floating_point()]
        self._values = [value for average, value in pairs if average.is_floating_point()]
        self._wholes = [pair for pair in pairs if not pair[0].is_floating_point()]
        self.start = {name: theirs[name].detach().clone() for name in mine} if start_share else {}
        self._starts = [value for value in self.start.values() if value.is_floating_point()]

    @torch.no_grad()
    def update(self) -> None:
        """After a step of the source. The first averages are short: the weights of a run's start soon are of no use."""
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        self.steps += 1
        values = self._values
        # All at once: one by one, hundreds of small tensors keep a GPU waiting for milliseconds.
        if self.start_share:
            values = list(torch._foreach_lerp(values, self._starts, self.start_share))
        torch._foreach_lerp_(self._averages, values, 1 - decay)
        for average, value in self._wholes:
            average.copy_(value)


def _tensors(network: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers as they are; state_dict() detaches them."""
    return {**dict(network.named_parameters()), **dict(network.named_buffers())}
