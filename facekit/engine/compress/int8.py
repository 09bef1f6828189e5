"""INT8: ranges from calibration pictures, kept trainable for quantisation-aware fine-tuning."""

from __future__ import annotations

from collections.abc import Sequence

from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, QuantizationParameters
from torch import Tensor, nn

from facekit.targets.nncf_ import nncf
from facekit.targets.writing.graph import quiet_tracing
from facekit.template import QuantizationSettings


def quantize(network: nn.Module, calibration: Sequence[Tensor], settings: QuantizationSettings) -> nn.Module:
    """A quantised copy of the network; calibration: normalised pictures (1, 3, H, W), as evaluation feeds them."""
    float_patterns = [f".*{name}.*" for name in settings.float_layers]
    with quiet_tracing():
        quantized: nn.Module = nncf.quantize(
            network.eval(),
            nncf.Dataset(calibration),
            subset_size=len(calibration),
            preset=nncf.QuantizationPreset.MIXED,
            ignored_scope=nncf.IgnoredScope(patterns=float_patterns) if float_patterns else None,
            advanced_parameters=AdvancedQuantizationParameters(
                # It shifts the outputs of small depthwise networks; fine-tuning corrects the biases itself.
                disable_bias_correction=True,
                # A scale a channel would cost the smallest networks a tenth of their size.
                activations_quantization_params=QuantizationParameters(per_channel=False),
            ),
        )
    return quantized
