"""Batch norms folded into convolutions change no output, in any architecture."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from facekit.targets.writing.folding import folded
from facekit.template import find_template, load_template
from tests.targets.support import lively_network

NAMES = (
    "yunet-n", "ultralight-rfb-320", "retinaface-mobilenetv1-0.25", "face-detection-0200", "face-detection-0205",
    "scrfd-0.5g", "tiny-ssd-300",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_nothing_changes(name: str) -> None:
    network = lively_network(load_template(find_template(name)))
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    without = folded(network)
    images = torch.rand(2, 3, 96, 128) - 0.5
    with torch.no_grad():
        for got, expected in zip(without(images), network(images), strict=True):
            assert (got is None) == (expected is None)
            if expected is not None:
                assert expected.std() > 1e-3
                torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in without.modules())
    assert sum(isinstance(module, nn.BatchNorm2d) for module in network.modules()) == norms


def test_norms_elsewhere_multiply_and_add() -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(4)
    norm.running_mean, norm.running_var = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([0.5, 1.0, 2.0, 4.0])
    nn.init.uniform_(norm.weight, 0.5, 2)
    nn.init.uniform_(norm.bias, -1, 1)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), norm).eval()
    without = folded(network)
    images = torch.rand(1, 3, 8, 8)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in without.modules())
    torch.testing.assert_close(without(images), network(images))
