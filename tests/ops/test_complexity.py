from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facekit.models import build_model
from facekit.ops.complexity import LayerCost, count_macs, count_parameters, layer_costs
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
        norm = nn.BatchNorm2d(4)
        network = nn.Sequential(nn.Conv2d(3, 4, 1), norm)
        network.train()
        count_macs(network, (4, 4))
        assert network.training
        assert norm.running_mean is not None
        assert torch.equal(norm.running_mean, torch.zeros(4))

    @pytest.mark.parametrize("count", [count_macs, layer_costs])
    def test_network_stays_as_it_is_when_it_fails(self, count: Callable[[nn.Module, tuple[int, int]], Any]) -> None:
        network = nn.Sequential(nn.BatchNorm2d(3), nn.MaxPool2d(4))
        network[0].eval()
        with pytest.raises(RuntimeError):
            count(network, (2, 2))
        assert network.training and not network[0].training
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())

    @pytest.mark.parametrize(
        ("layer", "an_element"),
        [
            (nn.ReLU(), 1), (nn.ReLU(inplace=True), 1), (nn.ReLU6(), 1), (nn.ReLU6(inplace=True), 1),
            (nn.LeakyReLU(), 1), (nn.LeakyReLU(inplace=True), 1), (nn.PReLU(), 1), (nn.ELU(), 1),
            (nn.BatchNorm2d(3), 2), (nn.BatchNorm2d(3, affine=False), 1),
            (nn.GroupNorm(3, 3), 2), (nn.GroupNorm(3, 3, affine=False), 1),
            (nn.MaxPool2d(2), 0), (nn.AvgPool2d(2), 0), (nn.AdaptiveMaxPool2d(1), 0),
            (nn.AdaptiveAvgPool2d(1), 0), (nn.AdaptiveAvgPool2d(2), 0),
            (nn.Hardswish(), 0), (nn.Hardsigmoid(), 0), (nn.SiLU(), 0), (nn.Sigmoid(), 0), (nn.Softmax(dim=1), 0),
            (nn.Upsample(scale_factor=2.0), 0),
        ],
    )  # fmt: skip
    def test_an_element_of_the_input(self, layer: nn.Module, an_element: int) -> None:
        assert count_macs(layer, (4, 6)) == an_element * 3 * 4 * 6

    @pytest.mark.parametrize("bias", [True, False])
    def test_linear(self, bias: bool) -> None:
        network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 5, 7, bias=bias))
        assert count_macs(network, (4, 5)) == 7 * (3 * 4 * 5 + bias)

    def test_linear_at_every_position(self) -> None:
        assert count_macs(nn.Linear(5, 7), (4, 5)) == 3 * 4 * 7 * (5 + 1)

    def test_transposed_convolution(self) -> None:
        network = nn.ConvTranspose2d(3, 8, kernel_size=2, stride=2)
        assert count_macs(network, (4, 5)) == 4 * 5 * 3 * 8 * 4 + 8 * 10 * 8


class _TwoLevels(nn.Module):
    """A head over two levels, with work and a parameter that belong to no layer."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(2))
        self.head = nn.Conv2d(3, 4, kernel_size=1)
        self.act = nn.Hardswish()
        self.nothing = nn.Identity()
        self.norm = nn.GroupNorm(2, 4)
        self.only_in_training = nn.Conv2d(4, 2, kernel_size=1, bias=False)

    def forward(self, images: Tensor) -> list[Tensor]:
        levels = [images, F.max_pool2d(images, kernel_size=2)]
        first, second = (self.nothing(self.act(self.head(level))) * self.scale[0] for level in levels)
        return [F.relu(self.norm(first)), F.interpolate(second, scale_factor=2.0)]


class TestLayerCosts:
    def test_row_by_row(self) -> None:
        positions, pooled = 4 * 6, 2 * 3
        assert layer_costs(_TwoLevels(), (4, 6)) == [
            LayerCost("", "_TwoLevels", (), 2, 4 * positions),  # the ReLU; the pool is free
            LayerCost("head", "Conv2d", (4, 4, 6), 3 * 4 + 4, 4 * (3 + 1) * (positions + pooled)),
            LayerCost("act", "Hardswish", (4, 4, 6), 0, 0),
            LayerCost("norm", "GroupNorm", (4, 4, 6), 8, 2 * 4 * positions),
            LayerCost("only_in_training", "Conv2d", (), 8, 0),
        ]

    def test_work_goes_to_the_nearest_module(self) -> None:
        class Block(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.conv = nn.Conv2d(3, 2, kernel_size=1, bias=False)

            def forward(self, x: Tensor) -> Tensor:
                return F.leaky_relu(self.conv(x))

        assert layer_costs(nn.Sequential(nn.Sequential(Block()), nn.MaxPool2d(2)), (2, 2)) == [
            LayerCost("0.0", "Block", (2, 2, 2), 0, 8),
            LayerCost("0.0.conv", "Conv2d", (2, 2, 2), 6, 24),
            LayerCost("1", "MaxPool2d", (2, 1, 1), 0, 0),
        ]

    def test_shared_and_frozen_parameters(self) -> None:
        network = nn.Sequential(*(nn.Conv2d(3, 3, kernel_size=1) for _ in range(3)))
        network[1].weight = network[0].weight
        network[2].weight.requires_grad_(False)
        assert [row.parameters for row in layer_costs(network, (1, 1))] == [12, 3, 3]
        assert count_parameters(network) == 18

    def test_network_of_one_layer(self) -> None:
        assert layer_costs(nn.Conv2d(3, 2, 1), (4, 4)) == [LayerCost("", "Conv2d", (2, 4, 4), 8, 16 * 2 * 4)]

    @pytest.mark.parametrize("name", ["face-detection-0200", "yunet-n"])
    def test_rows_sum_to_the_totals(self, name: str) -> None:
        network = network_of(name)
        rows = layer_costs(network, (64, 96))
        assert sum(row.macs for row in rows) == count_macs(network, (64, 96))
        assert sum(row.parameters for row in rows) == count_parameters(network)
        assert len({row.name for row in rows}) == len(rows)


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
