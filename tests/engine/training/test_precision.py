from __future__ import annotations

import copy
import dataclasses
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from facekit.engine.training import precision
from facekit.engine.training.precision import autocast_dtype, compile_network, cpu_multiplies_bf16
from facekit.errors import FacekitError
from facekit.models import build_model
from facekit.ops.pixels import normalise
from facekit.structures import RawOutputs, Targets
from facekit.template import find_template, load_template

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


class TestAutocastDtype:
    @pytest.mark.parametrize(
        ("name", "capable", "dtype"),
        [
            ("auto", True, torch.bfloat16),
            ("auto", False, None),
            ("fp32", True, None),
            ("bf16", True, torch.bfloat16),
            ("bf16", False, torch.bfloat16),
        ],
    )
    def test_on_a_cpu(self, monkeypatch: pytest.MonkeyPatch, name: str, capable: bool, dtype: Any) -> None:
        monkeypatch.setattr(precision, "cpu_multiplies_bf16", lambda: capable)
        assert autocast_dtype(name, CPU) == dtype

    @pytest.mark.parametrize(
        ("name", "capable", "dtype"),
        [
            ("auto", True, torch.bfloat16),
            ("auto", False, torch.float16),
            ("fp32", True, None),
            ("fp16", True, torch.float16),
            ("bf16", False, torch.bfloat16),
        ],
    )
    def test_on_a_gpu(self, monkeypatch: pytest.MonkeyPatch, name: str, capable: bool, dtype: Any) -> None:
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: capable)
        assert autocast_dtype(name, CUDA) == dtype

    def test_half_precision_needs_a_gpu(self) -> None:
        with pytest.raises(FacekitError, match=r"`precision=fp16`: .* needs a GPU\. Give auto, bf16 or fp32"):
            autocast_dtype("fp16", CPU)

    def test_says_that_it_will_be_slow(self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
        monkeypatch.setattr(precision, "cpu_multiplies_bf16", lambda: False)
        with caplog.at_level(logging.WARNING):
            autocast_dtype("bf16", CPU)
        assert "fp32 is faster" in caplog.text

    @pytest.mark.parametrize(
        ("flags", "capable"), [("avx512f avx512_bf16", True), ("amx_tile amx_bf16", True), ("avx2 avx512f", False)]
    )
    def test_reads_the_processors_abilities(self, monkeypatch: pytest.MonkeyPatch, flags: str, capable: bool) -> None:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(flags.split(), True))
        assert cpu_multiplies_bf16() == capable


def batch(size_hw: tuple[int, int]) -> tuple[torch.Tensor, Targets]:
    """Two pictures of noise, a face in the first."""
    images = torch.randint(0, 256, (2, 3, *size_hw), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    boxes_xyxy = torch.tensor([[10.0, 12, 50, 60]])
    return images, Targets(boxes_xyxy, torch.tensor([0]), torch.full((1, 10), 30.0), torch.tensor([True]), 2)


def gradients(network: Any, forward: Any, template: Any, dtype: torch.dtype | None) -> tuple[float, torch.Tensor]:
    """The loss, and all gradients in one row."""
    images, targets = batch(template.input.size_hw)
    pixels = normalise(images, template.input).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
        raw = forward(pixels)
    raw = RawOutputs._make(None if tensor is None else tensor.float() for tensor in raw)
    losses = network.losses(raw, targets, network.head.priors(template.input.size_hw).tensors())
    loss = sum(losses.values())
    loss.backward()
    found = [parameter.grad.flatten() for parameter in network.parameters() if parameter.grad is not None]
    return loss.item(), torch.cat(found)


def small(name: str) -> Any:
    template = load_template(find_template(name))
    return dataclasses.replace(template, input=dataclasses.replace(template.input, size_hw=(96, 96)))


@pytest.mark.parametrize("name", ["face-detection-0200", "face-detection-0205", "scrfd-0.5g", "yunet-n"])
def test_bf16_learns_in_the_same_direction(name: str) -> None:
    """With fixed batch norms: those of few cells turn any rounding into another gradient, in float32, too."""
    template = small(name)
    torch.manual_seed(0)
    network: Any = build_model(template).to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    twin = copy.deepcopy(network)
    loss, exact = gradients(network, network, template, None)
    loss_16, rough = gradients(twin, twin, template, torch.bfloat16)
    assert all(parameter.dtype == torch.float32 for parameter in twin.parameters())
    assert loss_16 == pytest.approx(loss, rel=0.02)
    assert torch.cosine_similarity(exact, rough, dim=0) > 0.95


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_loss_falls(dtype: torch.dtype | None) -> None:
    torch.manual_seed(0)
    template = small("yunet-n")
    network: Any = build_model(template)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.003, momentum=0.9)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        losses.append(gradients(network, network, template, dtype)[0])
        optimizer.step()
    assert losses[-1] < losses[0] / 2


class TestCompile:
    def test_without_a_compiler(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.delenv("CXX", raising=False)
        with pytest.raises(FacekitError, match=r"`compile`: needs a C\+\+ compiler.*leave `compile` out"):
            compile_network(nn.Identity(), CPU)

    def test_the_compiler_that_is_named_is_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CXX", "no-such-compiler")
        with pytest.raises(FacekitError, match="no-such-compiler"):
            compile_network(nn.Identity(), CPU)

    def test_shares_its_weights(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Compiled without generating code: that takes a minute."""
        monkeypatch.setattr(precision.shutil, "which", lambda name: name)
        monkeypatch.setattr(torch, "compile", lambda network, dynamic: torch._dynamo.optimize("eager")(network))
        template = small("yunet-n")
        torch.manual_seed(0)
        network: Any = build_model(template)
        twin = copy.deepcopy(network)
        compiled = compile_network(network, CPU)
        assert gradients(network, compiled, template, None)[1].equal(gradients(twin, twin, template, None)[1])
        assert [*network.state_dict()] == [*twin.state_dict()]
