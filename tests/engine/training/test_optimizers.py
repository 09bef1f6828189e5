from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from facekit.engine.training.optimizers import make_optimizer, restore_optimizer
from facekit.errors import FacekitError
from facekit.template import AdamW, Sgd

SGD, ADAMW = Sgd("sgd", momentum=0.9, weight_decay=0.01), AdamW("adamw", weight_decay=0.01)
BOTH = pytest.mark.parametrize("settings", [SGD, ADAMW], ids=lambda settings: settings.kind)
SOURCE = Path("runs/latest.pth")


def network_of(width: int = 4, layers: int = 1) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, width), *(nn.Linear(width, width) for _ in range(layers)))


def take_steps(network: nn.Module, optimizer: torch.optim.Optimizer, count: int = 3) -> None:
    """As the loop does: the rate is set before every step."""
    images = torch.rand(8, 3, generator=torch.Generator().manual_seed(1))
    for _ in range(count):
        for group in optimizer.param_groups:
            group["lr"] = 0.1
        optimizer.zero_grad()
        network(images).square().mean().backward()
        optimizer.step()


def trained(settings: Sgd | AdamW, **shape: int) -> tuple[nn.Module, dict[str, Any]]:
    """A network after three steps, and its optimiser's state."""
    network = network_of(**shape)
    optimizer = make_optimizer(network, settings)
    take_steps(network, optimizer)
    return network, optimizer.state_dict()


class TestMake:
    @BOTH
    def test_waits_for_its_rate(self, settings: Sgd | AdamW) -> None:
        network = network_of()
        before = copy.deepcopy(network.state_dict())
        optimizer = make_optimizer(network, settings)
        network(torch.rand(2, 3)).sum().backward()
        optimizer.step()
        assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())

    def test_sgd_by_hand(self) -> None:
        weight = nn.Parameter(torch.tensor([2.0]))
        optimizer = make_optimizer(nn.ParameterList([weight]), SGD)
        expected, speed = 2.0, 0.0
        for gradient in (1.0, 3.0):
            optimizer.param_groups[0]["lr"] = 0.1
            weight.grad = torch.tensor([gradient])
            optimizer.step()
            speed = 0.9 * speed + gradient + 0.01 * expected
            expected -= 0.1 * speed
        assert weight.item() == pytest.approx(expected)

    def test_adamw_by_hand(self) -> None:
        weight = nn.Parameter(torch.tensor([2.0]))
        optimizer = make_optimizer(nn.ParameterList([weight]), ADAMW)
        optimizer.param_groups[0]["lr"] = 0.1
        weight.grad = torch.tensor([7.0])
        optimizer.step()
        # Decay is apart from the gradient, whose first step is the rate itself whatever its size.
        assert weight.item() == pytest.approx(2.0 * (1 - 0.1 * 0.01) - 0.1)

    @BOTH
    def test_takes_all_parameters(self, settings: Sgd | AdamW) -> None:
        network = network_of(layers=2)
        (group,) = make_optimizer(network, settings).param_groups
        assert len(group["params"]) == 6


class TestRestore:
    @BOTH
    def test_goes_on_as_if_never_stopped(self, settings: Sgd | AdamW) -> None:
        network, state = trained(settings)
        other = copy.deepcopy(network)
        optimizer = make_optimizer(other, settings)
        restore_optimizer(optimizer, state, SOURCE)
        take_steps(other, optimizer)

        uninterrupted = network_of()
        take_steps(uninterrupted, make_optimizer(uninterrupted, settings), count=6)
        for one, two in zip(other.parameters(), uninterrupted.parameters(), strict=True):
            assert torch.equal(one, two)

    @BOTH
    def test_template_decides_the_rest(self, settings: Sgd | AdamW) -> None:
        network, state = trained(settings)
        changed: Sgd | AdamW = Sgd("sgd", 0.5, 0.3) if settings is SGD else AdamW("adamw", 0.3)
        optimizer = make_optimizer(network, changed)
        restore_optimizer(optimizer, state, SOURCE)
        assert optimizer.param_groups[0]["weight_decay"] == 0.3
        assert optimizer.param_groups[0].get("momentum") == (0.5 if settings is SGD else None)
        assert optimizer.param_groups[0]["lr"] == 0
        take_steps(network, optimizer)

    @BOTH
    def test_that_never_made_a_step(self, settings: Sgd | AdamW) -> None:
        network = network_of()
        optimizer = make_optimizer(network, settings)
        restore_optimizer(optimizer, make_optimizer(network_of(), settings).state_dict(), SOURCE)
        take_steps(network, optimizer)

    def test_trained_without_momentum(self) -> None:
        network, state = trained(Sgd("sgd", momentum=0.0, weight_decay=0.0))
        state["state"] = {number: {"momentum_buffer": None} for number in range(4)}  # as older PyTorch saves it
        optimizer = make_optimizer(network, SGD)
        restore_optimizer(optimizer, state, SOURCE)
        take_steps(network, optimizer)


class TestRefused:
    def complaint(self, network: nn.Module, settings: Sgd | AdamW, state: dict[str, Any]) -> str:
        optimizer = make_optimizer(network, settings)
        with pytest.raises(FacekitError) as caught:
            restore_optimizer(optimizer, state, SOURCE)
        assert not optimizer.state
        text = str(caught.value)
        assert "runs/latest.pth: its optimiser" in text
        assert "`load_weights=runs/latest.pth`" in text and "training.optimizer" in text
        return text

    def test_another_kind(self) -> None:
        network, sgd_state = trained(SGD)
        text = self.complaint(network, ADAMW, sgd_state)
        assert "(AdamW): a parameter's state is momentum_buffer, expected exp_avg, exp_avg_sq, step" in text
        network, adamw_state = trained(ADAMW)
        assert "(SGD)" in self.complaint(network, SGD, adamw_state)

    @BOTH
    def test_other_shapes(self, settings: Sgd | AdamW) -> None:
        _, state = trained(settings, width=5)
        assert "of parameter 0 is (5, 3), expected (4, 3)" in self.complaint(network_of(), settings, state)

    @BOTH
    def test_other_count(self, settings: Sgd | AdamW) -> None:
        _, state = trained(settings, layers=2)
        assert "it is one of 6 parameters, expected 4" in self.complaint(network_of(), settings, state)

    @BOTH
    @pytest.mark.parametrize(
        "spoil",
        [
            lambda state: state.clear(),
            lambda state: state.pop("state"),
            lambda state: state.update(state=[1, 2]),
            lambda state: state.update(param_groups=7),
            lambda state: state["param_groups"][0].pop("params"),
            lambda state: state["state"].update({0: None}),
            lambda state: state["state"].update({9: state["state"][0]}),
            lambda state: state["state"].update({"0": state["state"].pop(0)}),
        ],
    )
    def test_damaged(self, settings: Sgd | AdamW, spoil: Callable[[dict[str, Any]], Any]) -> None:
        network, state = trained(settings)
        spoil(state)
        assert "damaged" in self.complaint(network, settings, state)

    @pytest.mark.parametrize("value", [0.5, "text", None, torch.zeros(2), torch.zeros(4, 3)])
    def test_something_else_for_a_tensor(self, value: float | str | Tensor | None) -> None:
        network, state = trained(ADAMW)
        for name in ("step", "exp_avg"):
            spoilt = copy.deepcopy(state)
            spoilt["state"][0][name] = value
            if name == "step" or not isinstance(value, Tensor) or value.ndim == 1:
                assert f"{name} of parameter 0 is" in self.complaint(network, ADAMW, spoilt)
