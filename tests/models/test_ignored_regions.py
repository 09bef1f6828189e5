"""Crowds teach no detector anything: neither that there is a face nor that there is none."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from facekit.ops.ignored import in_ignored_regions
from facekit.structures import RawOutputs, Targets
from tests.models.test_losses import TEMPLATES, architecture_of, one_face, seeded, silent

SIDE = 128
FACE, REGION = [8.0, 8.0, 56.0, 56.0], [64.0, 64.0, 120.0, 120.0]
BY_ARCHITECTURE = {architecture_of(name): name for name in reversed(TEMPLATES)}  # of each its first template


def class_gradients(network: object, targets: Targets) -> tuple[Tensor, Tensor]:
    """Of all class and objectness logits, (A,) each their largest; and which priors lie in the region."""
    priors = network.head.priors((SIDE, SIDE)).tensors()  # type: ignore[attr-defined]
    raw: RawOutputs = silent(network, priors)
    losses = network.losses(raw, targets, priors)  # type: ignore[attr-defined]
    (losses["class"] + losses.get("objectness", 0)).backward()
    gradient = torch.zeros(len(priors.cxcywh))
    for part in (raw.class_logits, raw.objectness_logits):
        if part is not None and part.grad is not None:
            gradient = gradient + part.grad.abs().reshape(len(gradient), -1).sum(dim=1)
    middles = priors
    if architecture_of_network(network) == "yunet":
        moved = torch.cat([priors.cxcywh[:, :2] + priors.strides[:, None] / 2, priors.cxcywh[:, 2:]], dim=1)
        middles = priors._replace(cxcywh=moved)
    region = torch.tensor([[0.0, *REGION]])
    return gradient, in_ignored_regions(targets._replace(ignored=region), middles)[0]


def architecture_of_network(network: object) -> str:
    return type(network).__module__.rpartition(".")[2]


@pytest.mark.parametrize("architecture", sorted(BY_ARCHITECTURE))
def test_no_prior_in_an_ignored_region_is_background(architecture: str) -> None:
    network = seeded(BY_ARCHITECTURE[architecture])
    # Many negatives a positive, so that mining reaches the region: all are equally hard here.
    targets = one_face(FACE)
    without, region = class_gradients(network, targets)
    ignoring, _ = class_gradients(network, targets._replace(ignored=torch.tensor([[0.0, *REGION]])))
    assert region.any() and not region.all()
    assert (ignoring[region] == 0).all()
    assert (ignoring[~region] > 0).any()
    if architecture in ("atss", "fcos", "scrfd", "yunet"):  # all priors teach background there
        assert (without[region] > 0).all()
        assert torch.equal(ignoring[~region], without[~region])


@pytest.mark.parametrize("architecture", ["ssd", "retinaface", "ultralight"])
def test_the_hardest_negatives_are_not_taken_from_a_region(architecture: str) -> None:
    network = seeded(BY_ARCHITECTURE[architecture])
    head = network.head
    priors = head.priors((SIDE, SIDE)).tensors()
    ignored = torch.tensor([[0.0, *REGION]])
    region = in_ignored_regions(one_face(FACE)._replace(ignored=ignored), priors)[0]
    gradients = []
    for targets in (one_face(FACE), one_face(FACE)._replace(ignored=ignored)):
        raw = silent(network, priors)
        with torch.no_grad():
            raw.class_logits[0, region, head.face_column] = 5.0  # sure of faces there
        network.losses(raw, targets, priors)["class"].backward()
        assert raw.class_logits.grad is not None
        gradients.append(raw.class_logits.grad[0].abs().sum(dim=1))
    assert (gradients[0][region] > 0).any()
    assert (gradients[1][region] == 0).all()
    assert int((gradients[0] > 0).sum()) == int((gradients[1] > 0).sum())  # others take their place


@pytest.mark.parametrize("architecture", sorted(BY_ARCHITECTURE))
def test_a_labelled_face_within_a_crowd_is_learnt(architecture: str) -> None:
    network = seeded(BY_ARCHITECTURE[architecture])
    priors = network.head.priors((SIDE, SIDE)).tensors()
    everything = torch.tensor([[0.0, 0, 0, SIDE, SIDE]])
    raw = silent(network, priors)
    losses = network.losses(raw, one_face(FACE)._replace(ignored=everything), priors)
    losses["box"].backward()
    assert raw.box_deltas.grad is not None and (raw.box_deltas.grad != 0).any()
