"""MobileNetV2 (Sandler et al., CVPR 2018) from torchvision's blocks, with the first block's expansion kept."""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models.mobilenetv2 import InvertedResidual
from torchvision.ops import Conv2dNormActivation

# Table 2 of the paper: expansion, channels, blocks, stride of the first block.
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


class MobileNetV2(nn.Module):
    """Stem and 17 blocks, features[0] to features[17] under torchvision's numbering."""

    def __init__(self, taps: tuple[int, ...]) -> None:
        super().__init__()
        self.taps = taps
        layers: list[nn.Module] = [Conv2dNormActivation(3, 32, stride=2, activation_layer=nn.ReLU6)]
        channels = 32
        for expansion, out_channels, blocks, first_stride in STAGES:
            for block in range(blocks):
                stride = first_stride if block == 0 else 1
                if expansion == 1:
                    layers.append(_unexpanded_block(channels, out_channels))
                else:
                    layers.append(InvertedResidual(channels, out_channels, stride, expansion))
                channels = out_channels
        self.features = nn.Sequential(*layers[: max(taps) + 1])

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) normalised images -> the outputs of the tapped blocks."""
        outputs = []
        for index, layer in enumerate(self.features):
            images = layer(images)
            if index in self.taps:
                outputs.append(images)
        return outputs


def _unexpanded_block(channels: int, out_channels: int) -> nn.Module:
    # The weights that we must read (trained from pytorchcv's network) have a 1x1 convolution here; torchvision's
    # InvertedResidual leaves it out when the expansion is 1.
    return nn.Sequential(
        Conv2dNormActivation(channels, channels, kernel_size=1, activation_layer=nn.ReLU6),
        Conv2dNormActivation(channels, channels, groups=channels, activation_layer=nn.ReLU6),
        nn.Conv2d(channels, out_channels, kernel_size=1, bias=False),
        nn.BatchNorm2d(out_channels),
    )
