"""The model of docs/adding-a-model.md is built, trained and exported as it stands there."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from facekit.models import MODELS, build_model
from facekit.structures import Targets
from facekit.targets.writing.export import ExportSettings, export_weights
from facekit.template import load_template
from facekit.weights.checkpoint import Checkpoint, new_meta, save_checkpoint
from tests.docs.support import block

NAME = "facekit.models.four_convolutions"


def test_the_example_of_a_model_learns_and_exports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "four_convolutions.py").write_text(block("docs/adding-a-model.md", "model file"))
    (tmp_path / "template.yaml").write_text(block("docs/adding-a-model.md", "model template"))
    spec = importlib.util.spec_from_file_location(NAME, tmp_path / "four_convolutions.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, NAME, module)
    spec.loader.exec_module(module)
    monkeypatch.setitem(MODELS, "four_convolutions", "FourConvolutions")
    template = load_template(tmp_path / "template.yaml")

    torch.manual_seed(0)
    network: Any = build_model(template)
    published = {metric.key: metric.value for metric in template.metrics}
    assert sum(weight.numel() for weight in network.parameters()) / 1e6 == pytest.approx(published["size"], rel=0.01)
    priors = network.head.priors(template.input.size_hw).tensors()
    targets = Targets(
        torch.tensor([[40.0, 40.0, 90.0, 90.0]]), torch.tensor([0]), torch.zeros(1, 10), torch.tensor([False]), 1
    )
    image = torch.zeros(1, 3, 128, 128)
    image[:, :, 40:90, 40:90] = 1
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
    losses = []
    for _ in range(30):
        loss = sum(network.losses(network(image), targets, priors).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    save_checkpoint(tmp_path / "latest.pth", Checkpoint(new_meta(template, 1, 30), network.state_dict()))
    (path,) = export_weights(tmp_path / "latest.pth", template, tmp_path / "export", ExportSettings(("onnx",))).files
    assert path.name == "model.onnx"
