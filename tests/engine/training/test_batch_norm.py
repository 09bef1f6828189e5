from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from facekit.engine.training.batch_norm import unfold_batch_norm
from facekit.models import build_model
from facekit.template import find_template, load_template


def batches(count: int = 2, size: int = 3, side: int = 64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(size, 3, side, side, generator=generator) for _ in range(count)]


def fold(network: nn.Module) -> None:
    """As after reading a deployed graph: mean 0, variance 1, and the convolution's bias is the norm's shift."""
    generator = torch.Generator().manual_seed(1)
    for norm in norms_of(network):
        channels = norm.num_features
        norm.running_mean.zero_()
        norm.running_var.fill_(1)
        norm.weight.data = (0.5 + torch.rand(channels, generator=generator)) * (1 + norm.eps) ** 0.5
        norm.bias.data = torch.randn(channels, generator=generator) * 0.3


def norms_of(network: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3, stride=2), nn.BatchNorm2d(4)
    )


def ssd() -> nn.Module:
    torch.manual_seed(0)
    return build_model(load_template(find_template("face-detection-0200")))


def outputs(network: nn.Module, images: Tensor) -> list[Tensor]:
    with torch.no_grad():
        raw = network(images)
    return [raw] if isinstance(raw, Tensor) else [tensor for tensor in raw if tensor is not None]


@pytest.mark.parametrize("build", [small, ssd])
class TestUnfold:
    def test_evaluation_computes_what_it_did(self, build: Callable[[], nn.Module]) -> None:
        network = build().eval()
        fold(network)
        other = batches(3)[-1]  # also on pictures that it was not measured on
        before = [outputs(network, images) for images in (*batches(), other)]
        unfold_batch_norm(network, batches())
        after = [outputs(network, images) for images in (*batches(), other)]
        for old, new in zip(before, after, strict=True):
            for old_tensor, new_tensor in zip(old, new, strict=True):
                assert old_tensor.std() > 1e-3  # the comparison says something
                assert (new_tensor - old_tensor).abs().max() <= 1e-4 * old_tensor.abs().max()

    def test_training_starts_from_the_same_function(self, build: Callable[[], nn.Module]) -> None:
        """On the measured pictures as one batch, the batch's statistics are the running ones at every norm."""
        network = build().eval()
        fold(network)
        (images,) = batches(count=1, size=4)
        unfold_batch_norm(network, [images])
        evaluated = outputs(network, images)
        seen: dict[nn.Module, Tensor] = {}
        expected = {norm: (norm.running_mean.clone(), norm.running_var.clone()) for norm in norms_of(network)}
        handles = [
            norm.register_forward_pre_hook(lambda norm, inputs: seen.__setitem__(norm, inputs[0].clone()))
            for norm in expected
        ]
        trained = outputs(network.train(), images)
        for handle in handles:
            handle.remove()
        for norm, (mean, variance) in expected.items():
            x = seen[norm]
            scale = x.abs().max()
            torch.testing.assert_close(x.mean(dim=(0, 2, 3)), mean, rtol=1e-3, atol=1e-3 * float(scale))
            torch.testing.assert_close(
                x.var(dim=(0, 2, 3), unbiased=False), variance, rtol=1e-2, atol=1e-3 * float(scale) ** 2
            )
        for old, new in zip(evaluated, trained, strict=True):
            assert (new - old).abs().max() <= 2e-3 * old.abs().max()

    @pytest.mark.parametrize("training", [True, False])
    def test_mode_is_given_back_and_hooks_are_gone(self, build: Callable[[], nn.Module], training: bool) -> None:
        network = build().train(training)
        unfold_batch_norm(network, batches(count=1, size=2, side=32))
        assert network.training is training
        assert not any(norm._forward_pre_hooks for norm in norms_of(network))


def test_statistics_are_over_all_batches() -> None:
    network = nn.Sequential(nn.BatchNorm2d(3)).eval()
    parts = batches(count=3)
    unfold_batch_norm(network, iter(parts))
    together = torch.cat(parts)
    norm = network[0]
    torch.testing.assert_close(norm.running_mean, together.mean(dim=(0, 2, 3)))
    torch.testing.assert_close(norm.running_var, together.var(dim=(0, 2, 3), unbiased=False))


def test_channel_that_never_changes() -> None:
    network = nn.Sequential(nn.BatchNorm2d(3)).eval()
    images = torch.full((2, 3, 4, 4), 5.0)
    before = network(images).detach()
    unfold_batch_norm(network, [images])
    torch.testing.assert_close(network(images), before)
    assert all(parameter.isfinite().all() for parameter in network.parameters())
