"""Parts of a network that training leaves as they are."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from facekit.errors import FacekitError
from facekit.template import TrainingSettings


def freeze(network: nn.Module, prefixes: Sequence[str]) -> None:
    """Takes the modules of those names (and all beneath them) out of training; keep_frozen_in_eval() does the rest.

    Raises FacekitError for a name that no module has, and where nothing would be left to train.
    """
    known = dict(network.named_modules())
    for prefix in prefixes:
        if not prefix or prefix not in known:
            raise FacekitError(
                f"training.frozen: the network has no module {prefix!r}. Its parts: "
                f"{', '.join(name for name, _ in network.named_children())}, and what lies beneath, such as "
                f"{next(name for name in known if '.' in name)}."
            )
        known[prefix].requires_grad_(False)
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise FacekitError(f"training.frozen: {', '.join(prefixes)}: nothing is left to train. Take one out.")


def keep_frozen_in_eval(network: nn.Module, settings: TrainingSettings) -> None:
    """After network.train(): puts frozen modules, and all batch norms where the template wants their statistics kept,
    into evaluation mode, in which they measure nothing."""
    for prefix in settings.frozen:
        network.get_submodule(prefix).eval()
    if settings.frozen_batch_norm:
        for module in network.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
