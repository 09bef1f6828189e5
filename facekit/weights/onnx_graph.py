"""SCRFD's weights from its published ONNX files: the only form that they are to be had in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from facekit.base.extras import optional_packages
from facekit.errors import FacekitError
from facekit.models import build_model
from facekit.template import Template
from facekit.weights.onnx_file import check_onnx_file

WANTED = "Give SCRFD-500M with batch norms and landmarks: nine outputs (scores, boxes, landmarks of three strides)."


def read_onnx(source: Path, template: Template) -> dict[str, Tensor]:
    """A state_dict of the template's network, batch norms folded away.

    The convolutions stand in the file in the order of our modules: backbone, neck, and level by level the head. Raises
    FacekitError for a file that is missing, damaged, or another network's; also for SCRFD without landmarks.
    """
    if template.model.architecture != "scrfd":
        raise FacekitError(
            f"{source}: weights are read from ONNX for scrfd alone. Give {template.name} its .pth checkpoint; to "
            f"measure or run an exported .onnx, give it to eval.py or visualize.py."
        )
    convolutions = _convolutions(source)
    network = build_model(template)
    modules = [(name, module) for name, module in network.named_modules() if isinstance(module, nn.Conv2d)]
    shapes = [tuple(module.weight.shape) for _, module in modules]
    if [tuple(weight.shape) for weight, _ in convolutions] != shapes:
        raise FacekitError(
            f"{source}: its {len(convolutions)} convolutions are not the {len(shapes)} of {template.name}. {WANTED}"
        )
    state = network.state_dict()
    for (name, module), (weight, bias) in zip(modules, convolutions, strict=True):
        state[f"{name}.weight"] = weight
        if module.bias is not None:
            state[f"{name}.bias"] = bias
            continue
        parent, _, index = name.rpartition(".")
        follower = f"{parent}.{int(index) + 1}"
        norm = network.get_submodule(follower)
        assert isinstance(norm, nn.BatchNorm2d)
        state[f"{follower}.weight"] = torch.ones_like(bias)
        state[f"{follower}.bias"] = bias
        state[f"{follower}.running_mean"] = torch.zeros_like(bias)
        state[f"{follower}.running_var"] = torch.full_like(bias, 1 - norm.eps)
    return state


def _convolutions(source: Path) -> list[tuple[Tensor, Tensor]]:
    """Weight and bias of each, in the file's order."""
    with optional_packages():
        import onnx
    from google.protobuf.message import DecodeError

    check_onnx_file(source)
    try:
        graph = onnx.load(source).graph  # tensors in files beside it, too, which were looked at
        values = {each.name: onnx.numpy_helper.to_array(each) for each in graph.initializer}
    except (DecodeError, OSError, ValueError, TypeError, AttributeError, KeyError, RuntimeError) as error:
        raise FacekitError(f"{source}: not an ONNX file that can be read. Bring the file again.") from error
    found = []
    for node in graph.node:
        if node.op_type == "Conv":
            names = list(node.input[1:])
            if len(names) != 2 or not all(name in values for name in names):
                raise FacekitError(
                    f"{source}: {node.name or node.output[0]}: a convolution without weights or bias of its own: "
                    f"another network. {WANTED}"
                )
            found.append(tuple(torch.from_numpy(np.array(values[name], dtype=np.float32)) for name in names))
    return [(weight, bias) for weight, bias in found]
