"""MobileNetV2 (Sandler et al., CVPR 2018) from torchvision's blocks, in the shapes that torchvision lacks."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from torchvision.models.mobilenetv2 import InvertedResidual
from torchvision.ops import Conv2dNormActivation

from facekit.models.layers import Tapped

# Table 2 of the paper: expansion, channels, blocks, stride of the first block.
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
# Width 0.75, not rounded to eights; the stage of 120 keeps its resolution and the last block expands by 4.
TINY_STAGES = (
    (1, 12, 1, 1), (6, 18, 2, 2), (6, 24, 3, 2), (6, 48, 4, 2), (6, 72, 3, 1), (6, 120, 3, 1), (4, 360, 1, 1),
)  # fmt: skip


class MobileNetV2(Tapped):
    """Stem and 17 blocks under torchvision's numbering, with a 1x1 convolution also in the first block."""

    def __init__(self, taps: tuple[int, ...]) -> None:
        stem = Conv2dNormActivation(3, 32, stride=2, activation_layer=nn.ReLU6)
        super().__init__([stem, _unexpanded_block(32, 16), *_blocks(16, STAGES[1:])], taps)

    @staticmethod
    def from_torchvision(state: dict[str, Tensor]) -> dict[str, Tensor]:
        """torchvision's weights under our names; the first block's extra convolution then passes everything on."""
        renamed = {}
        for name, tensor in state.items():
            for theirs, ours in (("conv.0", "1"), ("conv.1", "2"), ("conv.2", "3")):
                name = name.replace(f"features.1.{theirs}.", f"features.1.{ours}.")
            renamed[name] = tensor
        # Its input has left a ReLU6 already: the identity, a norm that changes nothing, and a ReLU6 again.
        extra = Conv2dNormActivation(32, 32, kernel_size=1, activation_layer=nn.ReLU6)
        convolution, norm = cast(nn.Conv2d, extra[0]), cast(nn.BatchNorm2d, extra[1])
        nn.init.dirac_(convolution.weight)
        assert norm.running_var is not None
        norm.running_var.fill_(1 - norm.eps)
        return renamed | {f"features.1.0.{name}": tensor for name, tensor in extra.state_dict().items()}


class TinyMobileNetV2(Tapped):
    """The narrow MobileNetV2 of the tiny SSD: ReLU in place of ReLU6, and a batch norm of the picture itself."""

    def __init__(self, taps: tuple[int, ...]) -> None:
        stem = Conv2dNormActivation(3, 24, stride=2, activation_layer=nn.ReLU)
        super().__init__([stem, *_blocks(24, TINY_STAGES)], taps)
        self.input_norm = nn.BatchNorm2d(3)
        for module in self.modules():
            if isinstance(module, Conv2dNormActivation):
                module[2] = nn.ReLU(inplace=True)

    def forward(self, images: Tensor) -> list[Tensor]:
        return super().forward(self.input_norm(images))


def _blocks(channels: int, stages: tuple[tuple[int, int, int, int], ...]) -> list[nn.Module]:
    blocks: list[nn.Module] = []
    for expansion, out_channels, repeats, first_stride in stages:
        for repeat in range(repeats):
            stride = first_stride if repeat == 0 else 1
            blocks.append(InvertedResidual(channels, out_channels, stride, expansion))
            channels = out_channels
    return blocks


def _unexpanded_block(channels: int, out_channels: int) -> nn.Sequential:
    # The weights that we must read (trained from pytorchcv's network) have a 1x1 convolution here; torchvision's
    # InvertedResidual leaves it out when the expansion is 1.
    return nn.Sequential(
        Conv2dNormActivation(channels, channels, kernel_size=1, activation_layer=nn.ReLU6),
        Conv2dNormActivation(channels, channels, groups=channels, activation_layer=nn.ReLU6),
        nn.Conv2d(channels, out_channels, kernel_size=1, bias=False),
        nn.BatchNorm2d(out_channels),
    )
