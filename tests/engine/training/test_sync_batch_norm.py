"""In one process; tests/engine/training/test_train.py has a training over two."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from facekit.engine.training.sync_batch_norm import CpuSyncBatchNorm2d, synchronise_batch_norms


def networks() -> tuple[nn.Module, nn.Module]:
    """The same with torch's batch norms, and with ours."""
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.BatchNorm2d(4, eps=0.1, momentum=0.3), nn.ReLU()))
    nn.init.uniform_(plain[1][0].weight)  # type: ignore[index,arg-type]
    nn.init.normal_(plain[1][0].bias)  # type: ignore[index,arg-type]
    synchronised = copy.deepcopy(plain)
    synchronise_batch_norms(synchronised, torch.device("cpu"))
    return plain, synchronised


def test_computes_what_torchs_does() -> None:
    plain, ours = networks()
    for _ in range(2):
        images = 3 + torch.randn(5, 3, 8, 7)
        outputs = [network(images) for network in (plain, ours)]
        for output in outputs:
            output.square().sum().backward()
        torch.testing.assert_close(outputs[1], outputs[0])
    for (name, wanted), found in zip(plain.named_parameters(), ours.parameters(), strict=True):
        torch.testing.assert_close(found.grad, wanted.grad, rtol=1e-4, atol=1e-3, msg=name)
    torch.testing.assert_close(dict(ours.state_dict()), dict(plain.state_dict()))
    torch.testing.assert_close(ours.eval()(images), plain.eval()(images))


def test_keeps_weights_and_names() -> None:
    plain, _ = networks()
    parameters, names = list(plain.parameters()), list(plain.state_dict())
    plain.eval()
    synchronise_batch_norms(plain, torch.device("cpu"))
    assert all(one is other for one, other in zip(plain.parameters(), parameters, strict=True))
    assert list(plain.state_dict()) == names
    norms = [module for module in plain.modules() if isinstance(module, nn.BatchNorm2d)]
    assert [type(norm) for norm in norms] == [CpuSyncBatchNorm2d]
    assert not norms[0].training


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_dtype_is_kept(dtype: torch.dtype) -> None:
    images = torch.randn(4, 2, 3, 3, dtype=dtype)
    assert CpuSyncBatchNorm2d(2)(images).dtype == dtype


def test_no_pictures_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other process has a mean of 2 over 4 values."""
    sums = iter((torch.tensor([8.0, 4.0]), torch.tensor([12.0])))
    monkeypatch.setattr("facekit.engine.training.sync_batch_norm.sum_over_processes", lambda value: value + next(sums))
    norm = CpuSyncBatchNorm2d(1, momentum=1.0)
    assert norm(torch.zeros(0, 1, 2, 2)).shape == (0, 1, 2, 2)
    assert (norm.running_mean.item(), norm.running_var.item()) == (2, 4)  # type: ignore[union-attr]
