"""Other systems' weights under our names, every tensor accounted for; the format is recognised, not asked for."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from facekit.checkpoint import Checkpoint, load_state, new_meta, parse_checkpoint, read_torch_file
from facekit.errors import FacekitError
from facekit.models import build_model
from facekit.template import TEMPLATES_DIR, Template, load_template

# pytorchcv's MobileNetV2 counts blocks by stage and unit; ours by torchvision's running number after the stem.
_PYTORCHCV_UNITS_BEFORE_STAGE = {1: 0, 2: 1, 3: 3, 4: 6, 5: 13}
_PYTORCHCV_PARTS = {
    "conv1.conv": "conv.0.0",
    "conv1.bn": "conv.0.1",
    "conv2.conv": "conv.1.0",
    "conv2.bn": "conv.1.1",
    "conv3.conv": "conv.2",
    "conv3.bn": "conv.3",
}


def load_weights(source: Path, template: Template) -> Checkpoint:
    """Our own checkpoint or any foreign file of the template's detector, as a Checkpoint.

    A foreign one carries the template's epoch count, so that --resume-from with more epochs trains on, and no optimiser
    state. Raises FacekitError for anything that does not fit whole.
    """
    if source.suffix in (".xml", ".bin"):
        return _import_ir(source, template)
    content = read_torch_file(source)
    ours = parse_checkpoint(content, source, template)
    if ours is not None:
        return ours
    state_dict = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state_dict, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state_dict.items()
    ):
        raise FacekitError(f"{source}: holds no state_dict of tensors. Expected a checkpoint of {template.name}.")
    _refuse_another_templates_snapshot(source, template)
    rename = _TORCH_NAMES[template.model.architecture]
    renamed: dict[str, Tensor] = {}
    for name, tensor in state_dict.items():
        ours_name = rename(name.removeprefix("module."))
        if ours_name in renamed:
            raise FacekitError(f"{source}: holds {ours_name} twice, once as {name}. Which one is meant? Take one out.")
        renamed[ours_name] = tensor
    return _accounted(renamed, source, template, batch_norm_folded=False)


def _accounted(state_dict: dict[str, Tensor], source: Path, template: Template, batch_norm_folded: bool) -> Checkpoint:
    network = build_model(template)
    load_state(network, state_dict, f"{source} (for template {template.name})")
    meta: dict[str, Any] = new_meta(template, epoch=template.training.epochs, iteration=0)
    meta |= {"imported_from": source.name, "batch_norm_folded": batch_norm_folded}
    return Checkpoint(meta, network.state_dict())


def _refuse_another_templates_snapshot(source: Path, template: Template) -> None:
    # The SSD templates' weights fit each other's networks and mean different priors: only the digest tells them apart.
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    for path in sorted(TEMPLATES_DIR.glob("*/template.yaml")):
        other = load_template(path)
        published = {file.sha256 for snapshot in other.snapshot for file in snapshot.files}
        if digest in published and other.name != template.name:
            raise FacekitError(
                f"{source}: these are the published weights of {other.name!r}, not of {template.name!r}. "
                f"Use --template {other.name} or its work dir."
            )


def _mobilenetv2_ssd_name(name: str) -> str:
    """Names of the OpenVINO templates' checkpoints (pytorchcv backbone, mmdetection head)."""
    if match := re.fullmatch(r"backbone\.features\.init_block\.(conv|bn)\.(\w+)", name):
        return f"backbone.features.0.{0 if match[1] == 'conv' else 1}.{match[2]}"
    if match := re.fullmatch(r"backbone\.features\.stage([1-5])\.unit(\d+)\.(conv\d\.(?:conv|bn))\.(\w+)", name):
        block = _PYTORCHCV_UNITS_BEFORE_STAGE[int(match[1])] + int(match[2])
        part = _PYTORCHCV_PARTS.get(match[3], match[3])
        if block == 1:  # a plain sequence in our backbone, without torchvision's `conv` around it
            part = part.removeprefix("conv.")
        return f"backbone.features.{block}.{part}.{match[4]}"
    if match := re.fullmatch(r"bbox_head\.(reg|cls)_convs\.(.+)", name):
        return f"{'box' if match[1] == 'reg' else 'class'}_heads.{match[2]}"
    return "loss_log_variances" if name == "bbox_head.loss_weights" else name


_TORCH_NAMES: dict[str, Callable[[str], str]] = {
    "mobilenetv2_ssd": _mobilenetv2_ssd_name,
    "yunet": lambda name: name,  # ours are the published names
}


INT64_MIN = -(2**63)  # where ONNX's slice ends that runs backwards through everything


@dataclass(frozen=True)
class _IrConvolution:
    """A convolution of an OpenVINO graph with the batch norm that was folded into it."""

    weight: NDArray[np.float32]  # (O, I / groups, kh, kw)
    bias: NDArray[np.float32]  # (O,)
    feeds_on: tuple[str, ...]  # names of the nearest convolutions upstream
    name: str


def _import_ir(source: Path, template: Template) -> Checkpoint:
    if template.model.architecture != "mobilenetv2_ssd":
        raise FacekitError(
            f"{source}: no OpenVINO IR is published for {template.name!r} to import from. Give its .pth checkpoint."
        )
    convolutions = _read_convolutions(_open_ir(source, template), source, template)
    upstream = {name for convolution in convolutions.values() for name in convolution.feeds_on}
    branch_ends = [
        convolution
        for convolution in convolutions.values()
        if convolution.name not in upstream and convolution.feeds_on
    ]
    branch_starts = [convolutions[end.feeds_on[0]] for end in branch_ends]
    heads = {convolution.name for convolution in (*branch_ends, *branch_starts)}
    backbone = [convolution for convolution in convolutions.values() if convolution.name not in heads]

    network = build_model(template)
    state = {name: tensor for name, tensor in network.state_dict().items() if name.endswith("num_batches_tracked")}
    state["loss_log_variances"] = torch.zeros(2)  # no part of a deployed graph; learnt anew
    modules = _convolution_names(network)
    backbone_names = [name for name in modules if name.startswith("backbone.")]
    if len(backbone_names) != len(backbone):
        raise FacekitError(
            f"{source}: {len(backbone)} backbone convolutions, expected {len(backbone_names)} for {template.name}. "
            f"Is this the IR of face-detection-0200, -0202 or -0204?"
        )
    for name, convolution in zip(backbone_names, backbone, strict=True):
        _put_folded(state, network, name, convolution)
    for start, end in zip(branch_starts, branch_ends, strict=True):
        prefix = _head_prefix(start, end, template, source)
        _put_folded(state, network, f"{prefix}.0", start)
        _put_folded(state, network, f"{prefix}.3", end)
    return _accounted(state, source, template, batch_norm_folded=True)


def _head_prefix(start: _IrConvolution, end: _IrConvolution, template: Template, source: Path) -> str:
    """Which of our branches it is: the level by the channels it reads, class or box by the channels it writes."""
    level = {96: 0, 320: 1}.get(len(start.bias), -1)
    priors = [len(sizes) for sizes in template.model.prior_sizes_wh]
    for kind, columns in (("box", 4), ("class", 2)):
        if level >= 0 and len(end.bias) == columns * priors[level]:
            return f"{kind}_heads.{level}"
    raise FacekitError(f"{source}: {end.name}: {len(end.bias)} outputs fit no branch of {template.name}'s head.")


def _convolution_names(network: nn.Module) -> list[str]:
    return [name for name, module in network.named_modules() if isinstance(module, nn.Conv2d)]


def _put_folded(state: dict[str, Tensor], network: nn.Module, name: str, convolution: _IrConvolution) -> None:
    """The convolution's weights, and a batch norm behind it that passes everything on and adds the folded bias."""
    state[f"{name}.weight"] = torch.from_numpy(convolution.weight)
    bias = torch.from_numpy(convolution.bias)
    parent, _, index = name.rpartition(".")
    follower = f"{parent}.{int(index) + 1}"
    norm = dict(network.named_modules()).get(follower)
    if isinstance(norm, nn.BatchNorm2d):
        state[f"{follower}.weight"] = torch.ones_like(bias)
        state[f"{follower}.bias"] = bias
        state[f"{follower}.running_mean"] = torch.zeros_like(bias)
        state[f"{follower}.running_var"] = torch.full_like(bias, 1 - norm.eps)
        bias = torch.zeros_like(bias)
    if isinstance(network.get_submodule(name).bias, nn.Parameter):
        state[f"{name}.bias"] = bias


def _open_ir(source: Path, template: Template) -> Any:
    """The openvino.Model, refused where it takes pictures of another size than the template's."""
    import openvino as ov

    xml, weights = source.with_suffix(".xml"), source.with_suffix(".bin")
    for part in (xml, weights):
        if not part.is_file():
            raise FacekitError(f"{part}: there is no such file; an OpenVINO IR is a pair of .xml and .bin.")
    try:
        model = ov.Core().read_model(xml, weights)
    except RuntimeError as error:
        raise FacekitError(f"{xml}: not an OpenVINO IR that can be read, or its .bin is cut off.") from error
    height, width = template.input.size_hw
    shapes = [value.partial_shape for value in model.inputs]
    if len(shapes) != 1 or shapes[0] not in [ov.PartialShape([batch, 3, height, width]) for batch in (1, -1)]:
        takes = " and ".join(str(shape) for shape in shapes) or "nothing"
        raise FacekitError(
            f"{xml}: takes {takes}, template {template.name!r} [1,3,{height},{width}] (batch, channels, h, w): "
            f"another detector's weights."
        )
    return model


def _read_convolutions(model: Any, source: Path, template: Template) -> dict[str, _IrConvolution]:
    """All convolutions by name, upstream first, the first one turned to the template's colour order and scale."""
    convolutions: dict[str, _IrConvolution] = {}
    upstream: dict[str, tuple[str, ...]] = {}
    for node in model.get_ordered_ops():
        name, kind = node.get_friendly_name(), node.get_type_name()
        sources = [value.get_source_output().get_node() for value in node.inputs()]
        before = tuple(dict.fromkeys(n for s in sources for n in upstream.get(s.get_friendly_name(), ())))
        upstream[name] = before
        if kind not in ("Convolution", "GroupConvolution"):
            continue
        weight = _constant(sources[1], source)
        if kind == "GroupConvolution":
            weight = weight.reshape(-1, *weight.shape[2:])
        if not convolutions:
            # Ours divides by the template's std before the first convolution, whatever the graph does.
            scale, reversed_channels = _preprocessing(sources[0], source)
            weight = weight * scale * np.float32(template.input.std[0])
            if template.input.colour_order == "rgb" and not reversed_channels:
                weight = weight[:, ::-1]
        weight = np.ascontiguousarray(weight, dtype=np.float32)
        convolutions[name] = _IrConvolution(weight, _bias(node, len(weight), source), before, name)
        upstream[name] = (name,)
    return convolutions


def _preprocessing(node: Any, source: Path) -> tuple[float, bool]:
    """What the picture is multiplied with before it leaves `node`, and whether its channels are reversed."""
    scale, is_reversed = 1.0, False
    while (kind := node.get_type_name()) != "Parameter":
        name, sources = node.get_friendly_name(), [value.get_source_output().get_node() for value in node.inputs()]
        constants = [_constant(each, source).reshape(-1).tolist() for each in sources[1:]]
        if kind == "Multiply" and len(set(constants[0])) == 1:
            scale *= constants[0][0]
        elif (kind, constants) in (("Gather", [[2, 1, 0], [1]]), ("Slice", [[-1], [INT64_MIN], [-1], [1]])):
            is_reversed = not is_reversed
        elif kind != "Convert":
            raise FacekitError(
                f"{source}: {name}: does {kind} to the picture, which can't be imported. Give an IR that only scales "
                f"it and reverses its channels, as those of the Open Model Zoo."
            )
        node = sources[0]
    return scale, is_reversed


def _bias(node: Any, channels: int, source: Path) -> NDArray[np.float32]:
    consumers = [target.get_node() for target in node.output(0).get_target_inputs()]
    if len(consumers) == 1 and consumers[0].get_type_name() == "Add":
        bias = _constant(consumers[0].input(1).get_source_output().get_node(), source).reshape(-1)
        if len(bias) == channels:
            return np.ascontiguousarray(bias)
    return np.zeros(channels, dtype=np.float32)


def _constant(node: Any, source: Path) -> NDArray[np.float32]:
    """The value of a constant behind the conversions that a 16-bit IR puts after it."""
    kind = node.get_type_name()
    if kind == "Constant":
        return np.array(node.data, dtype=np.float32)
    if kind not in ("Convert", "Reshape", "Gather"):
        raise FacekitError(
            f"{source}: {node.get_friendly_name()}: a weight that is computed by {kind}, as in a compressed graph. "
            f"Give the IR that it was made from."
        )
    value = _constant(node.input(0).get_source_output().get_node(), source)
    if kind == "Reshape":
        return value.reshape(tuple(node.output(0).shape))
    if kind == "Gather":
        indices = _constant(node.input(1).get_source_output().get_node(), source).astype(int)
        axis = int(_constant(node.input(2).get_source_output().get_node(), source))
        return np.take(value, indices, axis=axis)
    return value
