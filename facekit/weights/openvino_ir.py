"""Weights from the Open Model Zoo's IRs, whose tensors have no names worth the word: found by their place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from facekit.errors import FacekitError
from facekit.models import build_model
from facekit.template import Template
from facekit.weights.openvino_graph import IrConvolution, IrGraph, open_ir

SCALE_TOLERANCE = 0.01  # of 16-bit weights that differ between levels by one factor


def read_ir(source: Path, template: Template) -> dict[str, Tensor]:
    """A state_dict of the template's network, batch norms folded away. Raises FacekitError for an IR that is missing,
    damaged, or another network's."""
    readers = {"ssd": _read_ssd, "fcos": _read_fcos}
    if template.model.architecture not in readers:
        raise FacekitError(
            f"{source}: no OpenVINO IR is published for {template.name!r} to import from. Give its .pth checkpoint."
        )
    state = _State(open_ir(source, template), template)
    try:
        readers[template.model.architecture](state)
    except LookupError as error:  # a branch that leads nowhere, or is not there
        raise state.misfit(f"has no place for {error}") from error
    return state.tensors


class _State:
    """The state_dict while it is filled."""

    def __init__(self, graph: IrGraph, template: Template) -> None:
        self.graph = graph
        self.template = template
        self.network = build_model(template)
        self.modules = dict(self.network.named_modules())
        self.tensors = {
            name: tensor for name, tensor in self.network.state_dict().items() if name.endswith("num_batches_tracked")
        }
        self.used: set[str] = set()

    def misfit(self, reason: str) -> FacekitError:
        return FacekitError(
            f"{self.graph.source}: {reason}: not the graph of {self.template.name}. Is this its Open Model Zoo IR?"
        )

    def convolution_names(self, prefix: str) -> list[str]:
        return [n for n, m in self.modules.items() if isinstance(m, nn.Conv2d) and n.startswith(prefix)]

    def put(self, name: str, convolution: IrConvolution) -> None:
        """The convolution's weights, and a norm behind it: a batch norm that passes everything on and adds the folded
        bias, or the group norm as it is."""
        self.used.add(convolution.name)
        module = self.modules[name]
        if module.weight.shape != convolution.weight.shape:
            raise self.misfit(f"{convolution.name} has weights {convolution.weight.shape}, expected "
                              f"{tuple(module.weight.shape)} ({name})")  # fmt: skip
        self.tensors[f"{name}.weight"] = torch.from_numpy(convolution.weight)
        bias = torch.from_numpy(convolution.bias)
        parent, _, index = name.rpartition(".")
        follower = f"{parent}.{int(index) + 1}" if index.isdigit() else ""
        norm = self.modules.get(follower)
        if isinstance(norm, nn.BatchNorm2d):
            self._put_affine(follower, norm, torch.ones_like(bias), bias)
            bias = torch.zeros_like(bias)
        elif isinstance(norm, nn.GroupNorm):
            if convolution.group_norm is None:
                raise self.misfit(f"{convolution.name} has no group norm behind it")
            scale, shift = convolution.group_norm
            self.tensors |= {f"{follower}.weight": torch.from_numpy(scale), f"{follower}.bias": torch.from_numpy(shift)}
        if isinstance(module.bias, nn.Parameter):
            self.tensors[f"{name}.bias"] = bias

    def _put_affine(self, name: str, norm: nn.BatchNorm2d, gain: Tensor, offset: Tensor) -> None:
        """A batch norm that computes gain * x + offset."""
        self.tensors[f"{name}.weight"] = gain
        self.tensors[f"{name}.bias"] = offset
        self.tensors[f"{name}.running_mean"] = torch.zeros_like(gain)
        self.tensors[f"{name}.running_var"] = torch.full_like(gain, 1 - norm.eps)

    def put_backbone(self, convolutions: list[IrConvolution]) -> None:
        """A chain, in its order; the first convolution turned to the template's colour order and scale."""
        names = self.convolution_names("backbone.")
        if len(names) != len(convolutions):
            raise self.misfit(f"{len(convolutions)} backbone convolutions, expected {len(names)}")
        for name, convolution in zip(names, convolutions, strict=True):
            self.put(name, convolution)
        graph, settings = self.graph, self.template.input
        # The graph's channels, as its first convolution sees them, against the template's.
        turned = graph.is_reversed != (settings.colour_order == "rgb")
        gain, offset = (
            torch.from_numpy(np.ascontiguousarray(values[::-1] if turned else values))
            for values in (graph.input_gain, graph.input_offset)
        )
        first = f"{names[0]}.weight"
        if turned:
            self.tensors[first] = self.tensors[first].flip(1)
        gain = gain * torch.tensor(settings.std)
        input_norm = self.modules.get("backbone.input_norm")
        if isinstance(input_norm, nn.BatchNorm2d):
            self._put_affine("backbone.input_norm", input_norm, gain, offset)
        elif any(settings.mean) or offset.any():
            raise self.misfit("shifts the picture's colours")
        else:
            self.tensors[first] = self.tensors[first] * gain.view(1, 3, 1, 1)

    def branch_towards(self, convolution: IrConvolution) -> Iterator[list[IrConvolution]]:
        """The chains that start at a convolution and end where nothing else follows or ways part."""
        for following in self.graph.consumers(convolution):
            chain = [following]
            while len(after := self.graph.consumers(chain[-1])) == 1:
                chain.append(after[0])
            yield chain


def _read_ssd(state: _State) -> None:
    """A chain with two convolutions on each branch of the head: the level is known by the channels that a branch reads,
    class and box by those that it writes."""
    state.tensors["loss_log_variances"] = torch.zeros(2)  # no part of a deployed graph; learnt anew
    convolutions = state.graph.convolutions
    upstream = {name for convolution in convolutions.values() for name in convolution.feeds_on}
    ends = [each for each in convolutions.values() if each.name not in upstream and each.feeds_on]
    starts = [convolutions[end.feeds_on[0]] for end in ends]
    heads = {convolution.name for convolution in (*ends, *starts)}
    for start, end in zip(starts, ends, strict=True):
        prefix = _branch_name(state, start, end)
        state.put(f"{prefix}.0", start)
        state.put(f"{prefix}.3", end)
    state.put_backbone([convolution for convolution in convolutions.values() if convolution.name not in heads])


def _branch_name(state: _State, start: IrConvolution, end: IrConvolution) -> str:
    for kind in ("box", "class"):
        for level in range(len(state.template.model.prior_sizes_wh)):
            prefix = f"{kind}_heads.{level}"
            reads, writes = state.modules[f"{prefix}.0"], state.modules[f"{prefix}.3"]
            assert isinstance(reads, nn.Conv2d) and isinstance(writes, nn.Conv2d)
            if (reads.out_channels, writes.out_channels) == (len(start.bias), len(end.bias)):
                return prefix
    raise state.misfit(f"{end.name} has {len(end.bias)} outputs, which fit no branch of the head")


def _read_fcos(state: _State) -> None:
    """A chain, a pyramid on it, and a head that the graph repeats for each level."""
    graph = state.graph
    laterals = _pyramid_inputs(state)
    outside = _downstream(graph, laterals)
    state.put_backbone([each for each in graph.convolutions.values() if each.name not in outside])
    levels = _pyramid_outputs(state, laterals)
    box_weights = []
    for number, level in enumerate(levels):
        state.put(f"neck.fpn_convs.{number}", level)
        for branch in state.branch_towards(level):
            if branch[0].weight.shape[0] == level.weight.shape[0]:  # the next extra level
                continue
            box_weights += _read_tower(state, branch)
    if len(box_weights) != len(levels):
        raise state.misfit(f"{len(box_weights)} box branches, expected {len(levels)}")
    _put_scaled_boxes(state, box_weights)


def _pyramid_inputs(state: _State) -> list[IrConvolution]:
    """The 1x1 laterals, finest level first: known by the channels of the taps that they read."""
    wanted = [state.modules[name].weight.shape for name in state.convolution_names("neck.lateral_convs.")]
    found = [
        [each for each in state.graph.convolutions.values() if each.weight.shape == tuple(shape)] for shape in wanted
    ]
    if any(len(matches) != 1 for matches in found):
        raise state.misfit("no pyramid on the expected taps")
    for number, (lateral,) in enumerate(found):
        state.put(f"neck.lateral_convs.{number}", lateral)
    return [lateral for (lateral,) in found]


def _downstream(graph: IrGraph, starts: list[IrConvolution]) -> set[str]:
    """The names of these convolutions and all that feed on them."""
    names = {start.name for start in starts}
    for convolution in graph.convolutions.values():  # upstream first: one pass is enough
        if names & set(convolution.feeds_on):
            names.add(convolution.name)
    return names


def _pyramid_outputs(state: _State, laterals: list[IrConvolution]) -> list[IrConvolution]:
    """The 3x3 convolutions of the pyramid, finest level first, and the extra levels that follow the coarsest."""
    channels = len(laterals[0].bias)
    outputs = [each for each in state.graph.convolutions.values() if each.weight.shape == (channels, channels, 3, 3)]
    on_laterals = [each for each in outputs if set(each.feeds_on) <= {lateral.name for lateral in laterals}]
    # A level feeds on its own lateral and on all the coarser ones.
    levels = sorted(on_laterals, key=lambda each: -len(each.feeds_on))
    while following := [each for each in outputs if levels and each.feeds_on == (levels[-1].name,)]:
        levels.append(following[0])
    if len(levels) != len(state.template.model.prior_sizes_wh):
        raise state.misfit(f"{len(levels)} levels in its pyramid, expected {len(state.template.model.prior_sizes_wh)}")
    return levels


def _read_tower(state: _State, branch: list[IrConvolution]) -> list[IrConvolution]:
    """Puts one level's tower, and the class and centre-ness behind it; returns its box convolution if it has one."""
    ends = [] if len(branch) > 4 else state.graph.consumers(branch[-1])
    kind = "class" if ends else "box"
    for index, convolution in enumerate(branch[:4]):
        _put_shared(state, f"bbox_head.{kind}_tower.{3 * index}", convolution)
    if kind == "box":
        return branch[4:]
    # A score is class times centre-ness, in that order.
    for classes, centres in state.graph.products:
        sides = [[each for each in ends if each.name in names] for names in (classes, centres)]
        if [len(side) for side in sides] == [1, 1] and sides[0] != sides[1]:
            _put_shared(state, "bbox_head.class_conv", sides[0][0])
            _put_shared(state, "bbox_head.centre_ness_conv", sides[1][0])
            return []
    raise state.misfit("no product of class and centre-ness")


def _put_shared(state: _State, name: str, convolution: IrConvolution) -> None:
    """A convolution that all levels have in common."""
    known = state.tensors.get(f"{name}.weight")
    if known is not None and not np.array_equal(known.numpy(), convolution.weight):
        raise state.misfit(f"{convolution.name} has other weights than the same convolution of another level")
    state.put(name, convolution)


def _put_scaled_boxes(state: _State, boxes: list[IrConvolution]) -> None:
    """One convolution and a factor a level, which the graph has multiplied: level 0 keeps its weights."""
    first = np.append(boxes[0].weight, boxes[0].bias)
    for level, convolution in enumerate(boxes):
        weights = np.append(convolution.weight, convolution.bias)
        scale = float(weights @ first / (first @ first))
        if np.abs(weights - scale * first).max() > SCALE_TOLERANCE * np.abs(weights).max():
            raise state.misfit(f"{convolution.name} is no multiple of {boxes[0].name}")
        state.used.add(convolution.name)
        state.tensors[f"bbox_head.scales.{level}"] = torch.tensor(scale)
    state.put("bbox_head.box_conv", boxes[0])
