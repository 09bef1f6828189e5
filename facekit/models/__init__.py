"""Every architecture, one a file: to add one, write its file, name it in MODELS, and write a template."""

from __future__ import annotations

import difflib
from collections.abc import Callable

from torch import nn

from facekit.errors import FacekitError
from facekit.models.atss import ATSS
from facekit.models.fcos import FCOS
from facekit.models.retinaface import RetinaFace
from facekit.models.scrfd import SCRFD
from facekit.models.ssd import SSD
from facekit.models.ultralight import UltraLight
from facekit.models.yunet import YuNet
from facekit.template import ModelSettings, Template

MODELS: dict[str, Callable[[ModelSettings], nn.Module]] = {
    "atss": ATSS,
    "fcos": FCOS,
    "retinaface": RetinaFace,
    "scrfd": SCRFD,
    "ssd": SSD,
    "ultralight": UltraLight,
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
