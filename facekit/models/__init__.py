"""Every architecture, one a file: to add one, write its file, name it in MODELS, and write a template."""

from __future__ import annotations

import difflib
from collections.abc import Callable

from torch import nn

from facekit.errors import FacekitError
from facekit.models.mobilenetv2_ssd import MobileNetV2SSD
from facekit.models.yunet import YuNet
from facekit.template import ModelSettings, Template

MODELS: dict[str, Callable[[ModelSettings], nn.Module]] = {
    "mobilenetv2_ssd": MobileNetV2SSD,
    "yunet": YuNet,
}


def build_model(template: Template) -> nn.Module:
    """The template's DetectorNetwork, freshly initialised. Raises FacekitError for an unknown architecture."""
    name = template.model.architecture
    if name not in MODELS:
        near = difflib.get_close_matches(name, MODELS, n=1, cutoff=0.0)[0]
        raise FacekitError(
            f"{template.model.options.file}: model.architecture: {name!r} is unknown; did you mean {near!r}? "
            f"Known: {', '.join(MODELS)}."
        )
    return MODELS[name](template.model)
