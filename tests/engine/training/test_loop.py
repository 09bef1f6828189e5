from __future__ import annotations

import dataclasses
import itertools
import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from facekit.engine.training.loop import Batches, EpochSampler, Hooks, Learner, Progress, make_batches, train_one_epoch
from facekit.errors import FacekitError
from facekit.labels.picture_labels import PictureLabels
from facekit.models import build_model
from facekit.structures import RawOutputs
from facekit.template import (
    AugmentationSettings,
    Sgd,
    SquareCrop,
    Template,
    WholeFaceCrop,
    find_template,
    load_template,
)
from tests.engine.training.support import ellipse_pictures


def small_template(repeats: int = 1, max_gradient_norm: float | None = None) -> Template:
    template = load_template(find_template("yunet-n"))
    return dataclasses.replace(
        template,
        input=dataclasses.replace(template.input, size_hw=(64, 64)),
        # The whole pictures as they are: so few steps learn little of random crops.
        augmentation=AugmentationSettings(
            0, None, SquareCrop("square", (1.0,), attempts=1, empty_crop_probability=0), flip_probability=0.0
        ),
        training=dataclasses.replace(
            template.training,
            optimizer=Sgd("sgd", momentum=0.9, weight_decay=0.0),
            dataset_repeats=repeats,
            max_gradient_norm=max_gradient_norm,
        ),
    )


class Bench:
    """Four pictures in batches of two, a network, and what was reported."""

    def __init__(self, folder: Path, learning_rate: float = 0.01, momentum: float = 0.9, **changes: Any) -> None:
        torch.manual_seed(0)
        self.template = small_template(**changes)
        self.network: Any = build_model(self.template)
        self.batches = make_batches(ellipse_pictures(folder, 4), self.template, 2, workers=0, seed=0, pin_memory=False)
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=0.0, momentum=momentum)
        self.records: list[dict[str, Any]] = []
        self.progress = Progress(epoch=0, last_epoch=9, iteration=0)
        self.asked: list[tuple[int, int]] = []
        self.learning_rate = learning_rate

    def rate(self, epoch: int, iteration: int) -> float:
        self.asked.append((epoch, iteration))
        return self.learning_rate

    def epoch(self, number: int = 0, max_iterations: int | None = None) -> None:
        self.progress.start_epoch(number)
        learner = Learner(self.network, self.network, self.optimizer, self.template, self.rate)
        hooks = Hooks(report=self.records.append)
        train_one_epoch(learner, self.batches, self.progress, hooks, max_iterations)


class TestEpochSampler:
    def sampler(self, folder: Path, count: int, repeats: int = 1) -> tuple[EpochSampler, Batches]:
        pictures = ellipse_pictures(folder, 1) * count
        batches = make_batches(pictures, small_template(repeats), 2, workers=0, seed=3, pin_memory=False)
        return EpochSampler(batches.dataset), batches

    def test_covers_every_index_once(self, tmp_path: Path) -> None:
        sampler, _ = self.sampler(tmp_path, 7, repeats=2)
        indices = list(sampler)
        assert len(sampler) == 14
        assert sorted(indices) == list(range(14))
        assert indices != sorted(indices)

    def test_depends_on_the_epoch_alone(self, tmp_path: Path) -> None:
        sampler, batches = self.sampler(tmp_path, 20)
        first = list(sampler)
        torch.rand(5)
        assert list(sampler) == first
        batches.start_epoch(1)
        assert list(sampler) != first
        batches.start_epoch(0)
        assert list(sampler) == first

    @pytest.mark.parametrize(("count", "processes"), [(12, 3), (11, 3), (7, 3), (5, 2), (1, 4)])
    def test_processes_share(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, processes: int) -> None:
        """Batch by batch they have, all together, one process's pictures, none of them twice."""
        sampler, batches = self.sampler(tmp_path, count)
        alone, whole = list(sampler), 2 * processes if count > 1 else processes
        monkeypatch.setattr("facekit.engine.training.loop.world_size", lambda: processes)
        together: list[list[int]] = [[] for _ in range(math.ceil(count / whole))]
        for number in range(processes):
            monkeypatch.setattr("facekit.engine.training.loop.rank", lambda number=number: number)
            dealt = list(sampler)
            assert len(dealt) == len(sampler)
            assert len(batches) == len(together)
            sizes = [len(images) for images, _ in itertools.islice(batches, len(batches))]
            assert len(sizes) == len(together)
            assert sum(sizes) == len(dealt)
            for batch, size in zip(together, sizes, strict=True):
                batch += dealt[:size]
                del dealt[:size]
        for index, batch in enumerate(together):
            assert sorted(batch) == sorted(alone[index * whole :][:whole])
            assert batches.pictures(index) == len(batch)

    def test_goes_on_where_it_stopped(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The second of two processes, of five pictures in batches of two: two pictures, then none."""
        _, batches = self.sampler(tmp_path, 5)
        monkeypatch.setattr("facekit.engine.training.loop.world_size", lambda: 2)
        monkeypatch.setattr("facekit.engine.training.loop.rank", lambda: 1)
        batches.start_epoch(0, iteration=1)
        images, targets = next(iter(batches))
        assert images.shape == (0, 3, 64, 64)
        assert targets.batch_size == 0


class TestMakeBatches:
    def test_batch_is_no_larger_than_the_set(self, tmp_path: Path) -> None:
        batches = make_batches(ellipse_pictures(tmp_path, 3), small_template(), 16, workers=0, seed=0, pin_memory=False)
        assert len(batches) == 1
        ((images, targets),) = batches.loader
        assert images.shape == (3, 3, 64, 64)
        assert targets.batch_size == 3

    def test_pads_with_the_colour_that_the_network_sees_as_zeros(self, tmp_path: Path) -> None:
        """The mean is written in the network's channel order, pictures are BGR."""
        template = small_template()
        template = dataclasses.replace(
            template,
            input=dataclasses.replace(template.input, colour_order="rgb", mean=(123.675, 116.28, 103.53)),
            augmentation=dataclasses.replace(template.augmentation, crop=WholeFaceCrop("whole_face", (0.1,), 1)),
        )
        path = tmp_path / "wide.png"
        cv2.imwrite(str(path), np.full((64, 128, 3), 9, np.uint8))
        box = np.array([[20.0, 10, 50, 50]])
        picture = PictureLabels(path, (128, 64), box, np.zeros((1, 5, 2)), np.zeros(1, bool))
        ((images, targets),) = make_batches([picture], template, 1, workers=0, seed=0, pin_memory=False).loader
        assert images[0, :, 5, 5].tolist() == [9, 9, 9]
        assert images[0, :, 60, 30].tolist() == [104, 116, 124]
        assert targets.boxes_xyxy.tolist() == [[10, 5, 35, 30]]

    def test_workers_start_after_opencvs_threads_have_run(self, tmp_path: Path) -> None:
        """As when pictures are read for calibration before the training that follows: forks of threads can hang."""
        ellipse_pictures(tmp_path, 2)
        script = f"""
import sys
from pathlib import Path
import cv2
import numpy as np
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_loop import ellipse_pictures, make_batches, small_template
cv2.setNumThreads(4)
cv2.resize(np.zeros((2000, 2000, 3), np.uint8), (1500, 1500))
pictures = ellipse_pictures(Path({str(tmp_path)!r}), 2)
batches = make_batches(pictures, small_template(), 1, workers=2, seed=0, pin_memory=False)
print(sum(len(images) for images, _ in batches.loader))
"""
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == ["2"]


class TestTrainOneEpoch:
    def test_loss_falls(self, tmp_path: Path) -> None:
        bench = Bench(tmp_path, learning_rate=0.003, repeats=5)  # calm: at 0.01 some processors' rounding makes it rise
        bench.epoch(0, max_iterations=1)
        bench.epoch(1)
        bench.epoch(2)
        losses = [record["loss"] for record in bench.records]  # of step 1, and means of steps 2 to 11 and 12 to 21
        assert losses == sorted(losses, reverse=True)
        assert losses[-1] < 0.75 * losses[0]

    def test_iterations_and_rates(self, tmp_path: Path) -> None:
        bench = Bench(tmp_path)
        bench.epoch(0)
        bench.epoch(1)
        assert bench.progress.iteration == 4
        assert bench.asked == [(0, 0), (0, 1), (1, 2), (1, 3)]
        assert bench.optimizer.param_groups[0]["lr"] == 0.01

    def test_records(self, tmp_path: Path) -> None:
        bench = Bench(tmp_path, repeats=6)
        bench.epoch(2)
        assert [record["iteration"] for record in bench.records] == [10, 12]
        for record in bench.records:
            parts = ["class", "objectness", "box", "landmarks"]
            names = {"epoch", "iteration", "loss", "learning_rate", "images_per_s", "data_wait", "eta_s"}
            assert set(record) == names | {f"loss_{part}" for part in parts}
            assert record["epoch"] == 3
            assert record["learning_rate"] == 0.01
            assert record["images_per_s"] > 0
            assert record["loss"] == pytest.approx(sum(record[f"loss_{part}"] for part in parts))

    def test_stops_at_max_iterations(self, tmp_path: Path) -> None:
        bench = Bench(tmp_path, repeats=3)
        bench.epoch(max_iterations=1)
        assert bench.progress.iteration == 1
        assert [record["iteration"] for record in bench.records] == [1]

    def test_network_is_left_in_training(self, tmp_path: Path) -> None:
        bench = Bench(tmp_path)
        bench.network.eval()
        bench.epoch(max_iterations=1)
        assert bench.network.training

    def test_gradients_are_clipped(self, tmp_path: Path) -> None:
        bench = Bench(tmp_path, learning_rate=1.0, momentum=0.0, max_gradient_norm=0.25)
        before = nn.utils.parameters_to_vector(bench.network.parameters()).detach().clone()
        bench.epoch(max_iterations=1)
        step = nn.utils.parameters_to_vector(bench.network.parameters()).detach() - before
        assert step.norm().item() == pytest.approx(0.25, rel=1e-3)

    def test_pictures_without_faces(self, tmp_path: Path) -> None:
        bench = Bench(tmp_path)
        bench.batches.dataset.pictures = [  # type: ignore[misc]
            picture.take(np.zeros(1, bool)) for picture in bench.batches.dataset.pictures
        ]
        bench.epoch()
        assert math.isfinite(bench.records[-1]["loss"])
        assert bench.records[-1]["loss_box"] == 0

    def test_loss_that_is_no_number(self, tmp_path: Path) -> None:
        bench = Bench(tmp_path)
        with torch.no_grad():
            bench.network.backbone.model0.conv1.weight.fill_(torch.nan)
        with pytest.raises(
            FacekitError, match=r"The loss became nan at iteration 1 of the run, in epoch 1.*`base_learning_rate`"
        ):
            bench.epoch()
        assert bench.records == []

    def test_learning_rate_far_too_high(self, tmp_path: Path) -> None:
        bench = Bench(tmp_path, learning_rate=1e12, repeats=2)
        with pytest.raises(FacekitError, match=r"The loss became (nan|inf)"):
            bench.epoch()


class Plain(nn.Module):
    """A network without batch norm whose loss is a mean over pictures, with gradients to which each one matters."""

    head = SimpleNamespace(priors=lambda size_hw: SimpleNamespace(tensors=lambda device: None))

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.convolution = nn.Conv2d(3, 2, 3, stride=8)

    def forward(self, images: Tensor) -> RawOutputs:
        return RawOutputs(self.convolution(images / 255).flatten(2), torch.zeros(1), None, None)

    def losses(self, raw: RawOutputs, targets: Any, priors: Any) -> dict[str, Tensor]:
        return {"square": (raw.class_logits - 1).square().mean()}


class TestAccumulation:
    def trained(self, folder: Path, count: int, batch_size: int, accumulate: int) -> tuple[Tensor, list[int]]:
        """Two epochs; the weights, and the iterations behind which a step was made."""
        template = small_template(max_gradient_norm=0.5)
        settings = dataclasses.replace(template.training, accumulate=accumulate)
        template = dataclasses.replace(template, training=settings)
        batches = make_batches(ellipse_pictures(folder, count), template, batch_size, 0, seed=0, pin_memory=False)
        network: Any = Plain()
        optimizer = torch.optim.SGD(network.parameters(), lr=0.0, momentum=0.9)
        progress, steps = Progress(0, 2, 0), list[int]()
        hooks = Hooks(after_step=lambda: steps.append(progress.iteration))
        learner = Learner(network, network, optimizer, template, lambda *_: 0.1)
        for epoch in range(2):
            progress.start_epoch(epoch)
            train_one_epoch(learner, batches, progress, hooks)
        return nn.utils.parameters_to_vector(network.parameters()).detach(), steps

    def test_two_batches_of_four_are_one_of_eight(self, tmp_path: Path) -> None:
        whole, steps = self.trained(tmp_path, 8, 8, accumulate=1)
        assert steps == [1, 2]
        halves, steps = self.trained(tmp_path, 8, 4, accumulate=2)
        assert steps == [2, 4]
        torch.testing.assert_close(halves, whole, rtol=0, atol=1e-6)
        smaller, _ = self.trained(tmp_path, 8, 4, accumulate=1)
        assert (smaller - whole).abs().max() > 1e-4

    def test_an_epochs_last_step_has_what_is_left(self, tmp_path: Path) -> None:
        """Of six pictures, four and then two: batches of four do the same."""
        whole, _ = self.trained(tmp_path, 6, 4, accumulate=1)
        parts, steps = self.trained(tmp_path, 6, 2, accumulate=2)
        assert steps == [2, 3, 5, 6]
        torch.testing.assert_close(parts, whole, rtol=0, atol=1e-6)
