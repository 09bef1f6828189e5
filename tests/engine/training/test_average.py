from __future__ import annotations

import torch
from torch import nn

from facekit.engine.training.average import WeightAverage


def network_of() -> nn.Module:
    torch.manual_seed(2)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def test_is_what_a_loop_by_hand_gives() -> None:
    network = network_of()
    average = WeightAverage(network, 0.3)
    wanted = {name: tensor.double() for name, tensor in network.state_dict().items()}
    # 1/10, 2/11, 3/12, 4/13, then 5/14 > 0.3.
    for decay in (0.1, 2 / 11, 0.25, 0.3, 0.3):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(torch.randn_like(parameter))
        network(torch.randn(2, 3, 8, 8))  # which moves the batch norm's statistics
        average.update()
        for name, tensor in network.state_dict().items():
            wanted[name] = decay * wanted[name] + (1 - decay) * tensor
    got = average.network.state_dict()
    assert got["1.num_batches_tracked"] == 5
    del got["1.num_batches_tracked"]
    for name, tensor in got.items():
        torch.testing.assert_close(tensor.double(), wanted[name], rtol=1e-5, atol=1e-6)
    assert average.steps == 5


def test_starts_as_a_copy_and_leaves_the_source_alone() -> None:
    network = network_of()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    average = WeightAverage(network, 0.9)
    with torch.no_grad():
        for parameter in average.network.parameters():
            assert not parameter.requires_grad
            parameter.add_(1)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert not average.network.training and network.training


def test_what_stands_still_stays_bit_by_bit() -> None:
    network = network_of()
    average = WeightAverage(network, 0.998)
    for _ in range(20):
        average.update()
    assert all(torch.equal(tensor, network.state_dict()[name]) for name, tensor in average.network.state_dict().items())


def test_a_share_of_the_start_stays() -> None:
    network, others = network_of(), network_of()
    start = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    kept, plain = WeightAverage(network, 0.6, start_share=0.25), WeightAverage(network, 0.6)
    for _ in range(4):
        with torch.no_grad():
            for parameter, other in zip(network.parameters(), others.parameters(), strict=True):
                parameter.add_(other + 0.5)
        network(torch.randn(2, 3, 8, 8))
        kept.update()
        plain.update()
    got, moved = kept.network.state_dict(), plain.network.state_dict()
    assert int(got.pop("1.num_batches_tracked")) == 4
    for name, tensor in got.items():
        assert not torch.allclose(moved[name], start[name], atol=0.1)
        torch.testing.assert_close(tensor, 0.25 * start[name] + 0.75 * moved[name])
