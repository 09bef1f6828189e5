from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn

from facekit.engine.training.frozen import freeze, keep_frozen_in_eval
from facekit.engine.training.options import TrainOptions
from facekit.engine.training.train import train
from facekit.errors import FacekitError
from facekit.models import build_model
from facekit.template import Template, TrainingSettings, find_template, load_template
from facekit.weights.torch_file import read_torch_file
from tests.engine.training.support import ellipse_pictures
from tests.engine.training.test_resume import small_template


def asked(**changes: object) -> Template:
    template = small_template()
    return dataclasses.replace(
        template,
        training=dataclasses.replace(template.training, epochs=1, ema_decay=0.5, **changes),  # type: ignore[arg-type]
    )


def settings_of(**changes: object) -> TrainingSettings:
    return dataclasses.replace(load_template(find_template("yunet-n")).training, **changes)  # type: ignore[arg-type]


class TestTraining:
    @pytest.mark.parametrize("which", ["state_dict", "stepped"])
    def test_frozen_parts_stay_and_the_rest_moves(self, tmp_path: Path, which: str) -> None:
        """Weights and buffers, of the weights that steps are made on and of their average."""
        torch.manual_seed(0)
        start = build_model(small_template()).state_dict()
        train(asked(frozen=("backbone", "bbox_head.multi_level_cls.0")), ellipse_pictures(tmp_path, 6), [],
              TrainOptions("yunet-n", save_checkpoints_to=tmp_path, workers=0, from_scratch=True))  # fmt: skip
        saved = read_torch_file(tmp_path / "latest.pth")
        state = saved["state_dict"] if which == "state_dict" else saved["extra"]["average"]["stepped"]
        moved = {name for name in start if not torch.equal(state[name], start[name])}
        assert not [name for name in moved if name.startswith(("backbone.", "bbox_head.multi_level_cls.0."))]
        assert any(name.startswith("bbox_head.multi_level_cls.1.") for name in moved)
        assert any(name.startswith("neck.") and name.endswith("running_mean") for name in moved)

    def test_frozen_batch_norms_keep_their_statistics_alone(self, tmp_path: Path) -> None:
        torch.manual_seed(0)
        start = build_model(small_template()).state_dict()
        options = TrainOptions("yunet-n", save_checkpoints_to=tmp_path, workers=0, from_scratch=True)
        train(asked(frozen_batch_norm=True), ellipse_pictures(tmp_path, 6), [], options)
        state = read_torch_file(tmp_path / "latest.pth")["extra"]["average"]["stepped"]
        moved = {name for name in start if not torch.equal(state[name], start[name])}
        assert moved
        assert not [name for name in moved if "running_" in name or "num_batches" in name]


class TestHoldStill:
    def test_modes(self) -> None:
        network = nn.Sequential(nn.Sequential(nn.BatchNorm2d(2), nn.Dropout()), nn.BatchNorm2d(2), nn.Dropout())
        network.train()
        keep_frozen_in_eval(network, settings_of(frozen=("0",)))
        assert [module.training for module in network.modules()] == [True, False, False, False, True, True]
        keep_frozen_in_eval(network, settings_of(frozen_batch_norm=True))
        assert [module.training for module in network.modules()] == [True, False, False, False, False, True]


class TestFreeze:
    def test_names_are_whole(self) -> None:
        network = nn.ModuleDict({"conv1": nn.Conv2d(1, 1, 1), "conv10": nn.Conv2d(1, 1, 1)})
        network["conv10"].sub = nn.Conv2d(1, 1, 1)
        freeze(network, ["conv1"])
        assert [parameter.requires_grad for parameter in network.parameters()] == [False] * 2 + [True] * 4

    @pytest.mark.parametrize("name", ["backbon", "", "backbone.model0.conv1.weight"])
    def test_unknown(self, name: str) -> None:
        with pytest.raises(
            FacekitError, match=r"training\.frozen: the network has no module .*backbone, neck, bbox_head"
        ):
            freeze(build_model(small_template()), [name])

    def test_nothing_left(self) -> None:
        with pytest.raises(FacekitError, match="nothing is left to train"):
            freeze(build_model(small_template()), ["backbone", "neck", "bbox_head"])
