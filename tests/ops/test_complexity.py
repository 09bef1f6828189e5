from __future__ import annotations

import pytest
import torch
from torch import nn

from facekit.models import build_model
from facekit.ops.complexity import count_macs, count_parameters
from facekit.template import find_template, load_template


def network_of(name: str) -> nn.Module:
    return build_model(load_template(find_template(name)))


class TestByHand:
    def test_convolution_with_bias(self) -> None:
        network = nn.Conv2d(3, 8, kernel_size=3, padding=1)
        assert count_parameters(network) == 3 * 8 * 9 + 8
        assert count_macs(network, (10, 20)) == 10 * 20 * 8 * (3 * 9 + 1)

    def test_depthwise_with_stride(self) -> None:
        network = nn.Conv2d(3, 3, kernel_size=3, stride=2, padding=1, groups=3, bias=False)
        assert count_macs(network, (10, 20)) == 5 * 10 * 3 * 9

    def test_frozen_parameters_are_not_learnt(self) -> None:
        network = nn.Conv2d(3, 8, kernel_size=1)
        network.weight.requires_grad_(False)
        assert count_parameters(network) == 8

    def test_network_stays_as_it_is(self) -> None:
        network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        network.train()
        count_macs(network, (4, 4))
        assert network.training
        assert torch.equal(network[1].running_mean, torch.zeros(4))


class TestPublishedTable:
    @pytest.mark.parametrize(
        ("name", "side", "gflops"),
        [("face-detection-0200", 256, 0.82), ("face-detection-0202", 384, 1.84), ("face-detection-0204", 448, 2.52)],
    )
    def test_ssd(self, name: str, side: int, gflops: float) -> None:
        assert load_template(find_template(name)).input.size_hw == (side, side)
        network = network_of(name)
        assert count_parameters(network) == pytest.approx(1.83e6, rel=0.01)
        assert 2e-9 * count_macs(network, (side, side)) == pytest.approx(gflops, rel=0.01)

    def test_yunet_n(self) -> None:
        network = network_of("yunet-n")
        assert count_parameters(network) == 75_856
        assert count_macs(network, (320, 320)) == pytest.approx(149e6, rel=0.01)

    @pytest.mark.parametrize("name", ["face-detection-0200", "face-detection-0202", "face-detection-0204", "yunet-n"])
    def test_the_templates_say_the_same(self, name: str) -> None:
        template = load_template(find_template(name))
        published = {metric.key: metric.value for metric in template.metrics}
        network = network_of(name)
        assert count_parameters(network) == pytest.approx(published["size"] * 1e6, rel=0.01)
        assert 2e-9 * count_macs(network, template.input.size_hw) == pytest.approx(published["complexity"], rel=0.01)
