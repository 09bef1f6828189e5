"""Every architecture, one a file: to add one, write its file, name it in MODELS, and write a template."""

from __future__ import annotations

import difflib
import importlib

from facekit.base.reading import shown
from facekit.base.schema import place
from facekit.errors import FacekitError
from facekit.models.detector_network import DetectorNetwork
from facekit.ops.head import declared_head
from facekit.template import Template

# File of this folder: class in it. Only the one that is asked for is imported: torchvision, which some build on, takes
# longer to import than PyTorch itself.
MODELS = {
    "atss": "ATSS",
    "fcos": "FCOS",
    "retinaface": "RetinaFace",
    "scrfd": "SCRFD",
    "ssd": "SSD",
    "ultralight": "UltraLight",
    "yunet": "YuNet",
}


MAX_PRIORS = 4_000_000  # of an input of the template's size


def build_model(template: Template) -> DetectorNetwork:
    """The template's network, freshly initialised. Raises FacekitError for an unknown architecture, and for
    keys of the template that don't fit each other."""
    name, file = template.model.architecture, template.model.options.file
    if name not in MODELS:
        near = difflib.get_close_matches(name, MODELS, n=1, cutoff=0.0)[0]
        raise FacekitError(
            f"{place(file, 'model.architecture')}: {shown(name)!r} is unknown; did you mean {near!r}? "
            f"Known: {', '.join(MODELS)}."
        )
    architecture = getattr(importlib.import_module(f"{__name__}.{name}"), MODELS[name])
    try:
        network: DetectorNetwork = architecture(template.model)
    except ValueError as error:
        raise FacekitError(f"{place(file, 'model')}: {error}") from error
    check_sizes(network, template)
    return network


def check_sizes(network: DetectorNetwork, template: Template, for_training: bool = False) -> None:
    """Raises FacekitError, naming the key, for sizes of pictures that the network can't be fed with: in evaluation,
    which pads them, or in training, which doesn't."""
    file, rule, head = template.model.options.file, template.evaluation, declared_head(template.model)
    side = network.size_multiple
    is_padded = rule.size_multiple % side == 0
    if not rule.feeds_one_size and not is_padded:
        raise FacekitError(
            f"{place(file, 'evaluation.size_multiple')}: expected a multiple of {side} for "
            f"{template.model.architecture}, got {rule.size_multiple}."
        )
    if (not is_padded or for_training) and any(length % side for length in template.input.size_hw):
        raise FacekitError(
            f"{place(file, 'input.size_hw')}: expected multiples of {side} for {template.model.architecture}, got "
            f"{list(template.input.size_hw)}."
        )
    cells = [rows * columns for rows, columns in head.cells(template.input.size_hw)]
    priors = sum(each * count for each, count in zip(cells, head.priors_a_cell, strict=True))
    if priors > MAX_PRIORS:
        raise FacekitError(
            f"{place(file, 'model.prior_sizes_wh')}: {priors} priors for an input of {list(template.input.size_hw)}, "
            f"expected at most {MAX_PRIORS}."
        )
