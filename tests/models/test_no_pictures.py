from __future__ import annotations

from pathlib import Path

import pytest
import torch

from facekit.models import build_model
from facekit.ops.pixels import normalise
from facekit.template import TEMPLATES_DIR, load_template
from facekit.training_data.training_set import no_samples


@pytest.mark.parametrize("path", sorted(TEMPLATES_DIR.glob("*/template.yaml")), ids=lambda path: path.parent.name)
def test_process_without_a_picture_takes_part(path: Path) -> None:
    """Its losses change nothing, and every weight has a gradient, which the processes average."""
    template = load_template(path)
    network = build_model(template).train()
    images, targets = no_samples(template.input.size_hw)
    raw = network(normalise(images, template.input))
    losses = network.losses(raw, targets, network.head.priors(template.input.size_hw).tensors())
    torch.stack(list(losses.values())).sum().backward()
    assert all(loss == 0 for loss in losses.values())
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    assert all(gradient is not None for gradient in gradients.values())
    gradients.pop("loss_log_variances", None)  # 0.5 * s of each loss is learnt from no pictures, too
    assert all(gradient.eq(0).all() for gradient in gradients.values())  # type: ignore[union-attr]
