"""Whole runs on a few small pictures. Started by torchrun, this file is one process of a run over several."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import mobilenet_v2

from facekit.engine.training import train as train_module
from facekit.engine.training.options import TrainOptions
from facekit.engine.training.train import train
from facekit.errors import FacekitError
from facekit.models import build_model
from facekit.template import AdamW, Template, find_template, load_template
from facekit.weights import imagenet
from facekit.weights.torch_file import read_torch_file
from tests.engine.training.support import ellipse_pictures


def small_template() -> Template:
    template = load_template(find_template("yunet-n"))
    return dataclasses.replace(
        template,
        input=dataclasses.replace(template.input, size_hw=(64, 64)),
        training=dataclasses.replace(template.training, batch_size=2, epochs=2),
    )


def lines_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]


def weights_of(path: Path) -> dict[str, Tensor]:
    return read_torch_file(path)["state_dict"]


def assert_equal_weights(one: Path, other: Path) -> None:
    weights, others = weights_of(one), weights_of(other)
    assert weights.keys() == others.keys()
    different = [name for name in weights if not torch.equal(weights[name], others[name])]
    assert not different, different


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an uninterrupted run of two epochs."""
    folder = tmp_path_factory.mktemp("run")
    pictures = ellipse_pictures(folder, 4)
    options = TrainOptions("yunet-n", save_checkpoints_to=folder / "out", tensorboard_dir=folder / "board", workers=0)
    assert train(small_template(), pictures, pictures[:2], options) == folder / "out" / "latest.pth"
    return folder


class TestUninterrupted:
    def test_files(self, run: Path) -> None:
        names = {path.name for path in (run / "out").iterdir()}
        assert names == {
            "latest.pth", "previous.pth", "best.pth", "epoch_1.pth", "epoch_2.pth", "log.jsonl", "run.json",
        }  # fmt: skip
        assert_equal_weights(run / "out" / "latest.pth", run / "out" / "epoch_2.pth")

    def test_checkpoints_say_how_far(self, run: Path) -> None:
        for epoch in (1, 2):
            meta = read_torch_file(run / "out" / f"epoch_{epoch}.pth")["meta"]
            assert (meta["template"], meta["epoch"], meta["iteration"]) == ("yunet-n", epoch, 2 * epoch)

    def test_weights_moved(self, run: Path) -> None:
        one, two = (weights_of(run / "out" / f"epoch_{epoch}.pth") for epoch in (1, 2))
        assert any(not torch.equal(one[name], two[name]) for name in one)
        assert all(tensor.isfinite().all() for tensor in two.values())

    def test_log(self, run: Path) -> None:
        lines = lines_of(run / "out")
        losses = [line for line in lines if "loss" in line]
        metrics = [line for line in lines if "ap" in line]
        assert [line["iteration"] for line in losses] == [2, 4]
        assert [line["epoch"] for line in metrics] == [1, 2]
        for line in losses:
            assert line["learning_rate"] > 0
            assert line["images_per_s"] > 0
            assert {"loss_class", "loss_objectness", "loss_box", "loss_landmarks"} <= set(line)
        for line in metrics:
            assert 0 <= line["ap"] <= 100
            assert "ap_64x64" in line

    def test_best_is_the_epoch_of_the_best_ap(self, run: Path) -> None:
        aps = [line["ap"] for line in lines_of(run / "out") if "ap" in line]
        best = 1 + aps.index(max(aps))
        assert_equal_weights(run / "out" / "best.pth", run / "out" / f"epoch_{best}.pth")

    def test_tensorboard(self, run: Path) -> None:
        assert list((run / "board").glob("events.out.tfevents.*"))


class TestResume:
    def test_ends_with_the_same_weights(self, run: Path, tmp_path: Path) -> None:
        pictures = ellipse_pictures(run, 4)
        options = TrainOptions(
            "yunet-n", save_checkpoints_to=tmp_path, resume_from=run / "out" / "epoch_1.pth", workers=0
        )
        train(small_template(), pictures, pictures[:2], options)
        assert_equal_weights(tmp_path / "latest.pth", run / "out" / "latest.pth")
        one, other = (read_torch_file(path / "latest.pth") for path in (tmp_path, run / "out"))
        assert one["meta"] == other["meta"]
        for number, state in one["optimizer"]["state"].items():
            assert torch.equal(state["momentum_buffer"], other["optimizer"]["state"][number]["momentum_buffer"])
        assert not (tmp_path / "epoch_1.pth").exists()

    def test_of_another_training_nothing_stays_in_its_folder(
        self, run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        shutil.copytree(run / "out", tmp_path / "out")
        options = TrainOptions("yunet-n", save_checkpoints_to=tmp_path / "out", epochs=1, max_iterations=1, workers=0)
        train(small_template(), ellipse_pictures(run, 4), [], options)
        left = {path.name for path in (tmp_path / "out" / "earlier-1").iterdir()}
        assert left == {path.name for path in (run / "out").iterdir()}
        assert not (tmp_path / "out" / "best.pth").exists()  # which eval would take for this one's
        assert {line["epoch"] for line in lines_of(tmp_path / "out")} == {1}
        assert f"lies in {tmp_path / 'out' / 'earlier-1'} now" in caplog.text
        again = dataclasses.replace(options, load_weights=tmp_path / "out" / "latest.pth")
        with pytest.raises(FacekitError, match=r"latest\.pth"):  # what it reads it doesn't move
            train(small_template(), ellipse_pictures(run, 4), [], again)

    def test_going_back_sets_aside_what_was_saved_behind(
        self, run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The best of the longer course would be replaced by a worse one, and epochs by those of another course."""
        folder = tmp_path / "out"
        shutil.copytree(run / "out", folder)
        shutil.copy(folder / "epoch_2.pth", folder / "best.pth")
        (folder / "epoch_9.pth").write_bytes(b"damaged")  # nobody goes on from it
        before = {path.name: path.read_bytes() for path in folder.glob("*.pth")}
        options = TrainOptions(
            "yunet-n", save_checkpoints_to=folder, resume_from=folder / "epoch_1.pth", epochs=2, max_iterations=1,
            workers=0, base_learning_rate=1e-7,
        )  # fmt: skip
        pictures = ellipse_pictures(run, 4)
        train(small_template(), pictures, pictures[:2], options)
        moved = {path.name: path.read_bytes() for path in (folder / "earlier-1").iterdir()}
        assert {"best.pth", "epoch_2.pth", "latest.pth"} <= set(moved) <= set(before) - {"epoch_1.pth", "epoch_9.pth"}
        assert all(moved[name] == before[name] for name in moved)
        assert "what was saved there behind epoch_1.pth (latest.pth, " in caplog.text
        assert (folder / "epoch_1.pth").read_bytes() == before["epoch_1.pth"]
        # From the newest nothing is behind.
        train(small_template(), pictures, [], dataclasses.replace(options, resume_from=folder / "latest.pth", epochs=3))
        assert not (folder / "earlier-2").exists()

    def test_another_validation_set_and_template_are_told(
        self, run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        shutil.copytree(run / "out", tmp_path / "out")
        pictures = ellipse_pictures(run, 4)
        template = small_template()
        template = dataclasses.replace(
            template, augmentation=dataclasses.replace(template.augmentation, min_face_size=5)
        )
        options = TrainOptions(
            "yunet-n", save_checkpoints_to=tmp_path / "out", resume_from=tmp_path / "out" / "latest.pth", epochs=3,
            workers=0, max_iterations=2,
        )  # fmt: skip
        with caplog.at_level("INFO", "facekit"):
            train(template, pictures, pictures[2:3], options)
        assert (tmp_path / "out" / "earlier-1" / "best.pth").is_file() and "start: " in caplog.text
        assert (tmp_path / "out" / "best.pth").is_file()
        assert "the template (augmentation.min_face_size)" in caplog.text

    def test_nothing_left_to_train(self, run: Path, tmp_path: Path) -> None:
        options = TrainOptions(
            "yunet-n", save_checkpoints_to=tmp_path, resume_from=run / "out" / "latest.pth", workers=0
        )
        assert train(small_template(), ellipse_pictures(run, 4), [], options) is None
        assert list(tmp_path.iterdir()) == []

    def test_one_more_epoch(self, run: Path, tmp_path: Path) -> None:
        options = TrainOptions(
            "yunet-n", save_checkpoints_to=tmp_path, resume_from=run / "out" / "latest.pth", epochs=3, workers=0
        )
        train(small_template(), ellipse_pictures(run, 4), [], options)
        meta = read_torch_file(tmp_path / "latest.pth")["meta"]
        assert (meta["epoch"], meta["iteration"]) == (3, 6)

    def test_weights_alone_start_at_the_beginning(self, run: Path, tmp_path: Path) -> None:
        options = TrainOptions(
            "yunet-n",
            save_checkpoints_to=tmp_path,
            load_weights=run / "out" / "latest.pth",
            epochs=1,
            max_iterations=1,
            workers=0,
        )
        train(small_template(), ellipse_pictures(run, 4), [], options)
        meta = read_torch_file(tmp_path / "latest.pth")["meta"]
        assert (meta["epoch"], meta["iteration"]) == (1, 1)

    def test_not_both(self, run: Path, tmp_path: Path) -> None:
        latest = run / "out" / "latest.pth"
        with pytest.raises(FacekitError, match=r"`resume_from` .* or `load_weights` .* not both"):
            train(
                small_template(),
                [],
                [],
                TrainOptions("yunet-n", save_checkpoints_to=tmp_path, resume_from=latest, load_weights=latest),
            )


class TestOptimizers:
    def with_adamw(self) -> Template:
        template = small_template()
        return dataclasses.replace(
            template,
            training=dataclasses.replace(
                template.training, optimizer=AdamW("adamw", weight_decay=5e-4), base_learning_rate=1e-3
            ),
        )

    def test_adamw_goes_on_as_if_never_stopped(self, run: Path, tmp_path: Path) -> None:
        template, pictures = self.with_adamw(), ellipse_pictures(run, 4)
        train(template, pictures, [], TrainOptions("yunet-n", save_checkpoints_to=tmp_path / "whole", workers=0))
        first = tmp_path / "whole" / "epoch_1.pth"
        train(
            template,
            pictures,
            [],
            TrainOptions("yunet-n", save_checkpoints_to=tmp_path / "rest", resume_from=first, workers=0),
        )
        assert_equal_weights(tmp_path / "rest" / "latest.pth", tmp_path / "whole" / "latest.pth")
        state = read_torch_file(tmp_path / "rest" / "latest.pth")["optimizer"]["state"]
        assert {int(entry["step"]) for entry in state.values()} == {4}

    def test_resume_with_another_optimizer(self, run: Path, tmp_path: Path) -> None:
        first = run / "out" / "epoch_1.pth"
        with pytest.raises(FacekitError, match=r"epoch_1\.pth: its optimiser can't go on .*\(AdamW\).*`load_weights="):
            train(
                self.with_adamw(),
                ellipse_pictures(run, 4),
                [],
                TrainOptions("yunet-n", save_checkpoints_to=tmp_path, resume_from=first, workers=0),
            )
        assert not list(tmp_path.glob("*.pth"))

    def test_load_weights_with_another_optimizer(self, run: Path, tmp_path: Path) -> None:
        first = run / "out" / "epoch_1.pth"
        options = TrainOptions(
            "yunet-n", save_checkpoints_to=tmp_path, load_weights=first, max_iterations=1, epochs=1, workers=0
        )
        train(self.with_adamw(), ellipse_pictures(run, 4), [], options)
        assert (tmp_path / "latest.pth").is_file()


class TestStart:
    """Weights to begin with where none are given."""

    @pytest.fixture
    def template(self) -> Template:
        template = load_template(find_template("face-detection-0200"))
        return dataclasses.replace(
            template,
            input=dataclasses.replace(template.input, size_hw=(64, 64)),
            training=dataclasses.replace(template.training, batch_size=2, epochs=1, base_learning_rate=1e-9),
        )

    @pytest.fixture
    def published(self, monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
        """What torchvision would fetch."""
        torch.manual_seed(8)
        state = mobilenet_v2().state_dict()
        monkeypatch.setattr(imagenet, "_bring", lambda weights, name: Path("fetched.pth"))
        monkeypatch.setattr(imagenet, "_read", lambda path: state)
        return state

    NAME = "features.17.conv.2.weight"

    def backbone_after(self, folder: Path, template: Template, **flags: Any) -> Tensor:
        """A deep convolution of it after one step that hardly moves anything."""
        train(
            template,
            ellipse_pictures(folder, 4),
            [],
            TrainOptions("yunet-n", save_checkpoints_to=folder, workers=0, max_iterations=1, **flags),
        )
        return weights_of(folder / "latest.pth")[f"backbone.{self.NAME}"]

    def test_imagenet_backbone(
        self, tmp_path: Path, template: Template, published: dict[str, Tensor], caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level("INFO", "facekit"):
            trained = self.backbone_after(tmp_path, template)
        torch.testing.assert_close(trained, published[self.NAME], rtol=0, atol=1e-5)
        assert "The backbone starts from torchvision's MobileNet_V2_Weights.IMAGENET1K_V1" in caplog.text

    def test_from_scratch(
        self, tmp_path: Path, template: Template, published: dict[str, Tensor], caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level("INFO", "facekit"):
            trained = self.backbone_after(tmp_path, template, from_scratch=True)
        assert (trained - published[self.NAME]).abs().max() > 0.01
        assert "Training starts from random weights." in caplog.text

    def test_given_weights_are_kept(self, tmp_path: Path, template: Template, published: dict[str, Tensor]) -> None:
        random = self.backbone_after(tmp_path, template, from_scratch=True)
        (tmp_path / "more").mkdir()
        loaded = self.backbone_after(tmp_path / "more", template, load_weights=tmp_path / "latest.pth")
        torch.testing.assert_close(loaded, random, rtol=0, atol=1e-5)

    def test_offline_goes_on(
        self, tmp_path: Path, template: Template, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def refuse(*_: object) -> None:
            raise OSError("Network is unreachable")

        monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
        monkeypatch.setattr("facekit.weights.imagenet.download", refuse)
        with caplog.at_level("INFO", "facekit"):
            self.backbone_after(tmp_path, template)
        assert "Network is unreachable" in caplog.text
        assert "Training starts from random weights." in caplog.text

    def test_first_process_alone_fetches(
        self, tmp_path: Path, template: Template, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object) -> None:
            raise AssertionError

        monkeypatch.setattr("facekit.engine.training.train.load_imagenet_backbone", fail)
        monkeypatch.setattr("facekit.engine.training.train.rank", lambda: 1)
        train(
            template,
            ellipse_pictures(tmp_path, 4),
            [],
            TrainOptions("yunet-n", save_checkpoints_to=tmp_path, workers=0, max_iterations=1),
        )

    @pytest.mark.parametrize("flag", ["resume_from", "load_weights"])
    def test_from_scratch_with_weights(self, run: Path, tmp_path: Path, flag: str) -> None:
        flags: dict[str, Any] = {flag: run / "out" / "latest.pth"}
        with pytest.raises(FacekitError, match=r"`from_scratch` starts from random weights: .*latest\.pth"):
            train(
                small_template(),
                [],
                [],
                TrainOptions("yunet-n", save_checkpoints_to=tmp_path / "out", from_scratch=True, **flags),
            )
        assert not (tmp_path / "out").exists()


def build_double(template: Template) -> nn.Module:
    """Of float64: in batches as small as these, batch norms turn the rounding of float32 into other weights."""
    network = build_model(template).double()
    network.register_forward_pre_hook(lambda _, images: (images[0].double(),))
    return network


COUNTS = (8, 7, 5)  # of pictures, for the second step of two processes: two each; two and one; one and none


def train_whole_batches(folder: Path, out: Path, count: int, batch_size: int) -> None:
    """One epoch of two steps."""
    pictures = ellipse_pictures(folder, count)
    options = TrainOptions(
        "yunet-n",
        save_checkpoints_to=out,
        epochs=1,
        batch_size=batch_size,
        base_learning_rate=0.01,
        workers=0,
        precision="fp32",
    )
    train(small_template(), pictures, pictures[:3], options)


@pytest.fixture(scope="module")
def by_two_processes(project_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder a count: its pictures, and what two processes have made of them in its "two"."""
    folder = tmp_path_factory.mktemp("processes")
    for count in COUNTS:
        (folder / str(count)).mkdir()
        ellipse_pictures(folder / str(count), count)  # before two would write them at once
    done = subprocess.run(
        [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
            __file__, str(folder),
        ],
        capture_output=True, text=True, timeout=240, check=False,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(project_dir)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.parametrize("count", COUNTS)
def test_two_processes_are_one_with_the_whole_batch(
    by_two_processes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr("facekit.engine.training.train.build_model", build_double)
    train_whole_batches(tmp_path, tmp_path / "one", count, batch_size=4)
    two_dir = by_two_processes / str(count) / "two"
    assert {path.name for path in two_dir.iterdir()} == {
        "latest.pth", "best.pth", "epoch_1.pth", "log.jsonl", "run.json",
    }  # fmt: skip
    (loss, metrics), (other_loss, other_metrics) = map(lines_of, (tmp_path / "one", two_dir))
    for key in ("loss", "loss_class", "loss_objectness", "loss_box", "loss_landmarks"):
        assert other_loss[key] == pytest.approx(loss[key], rel=1e-6)
    assert other_metrics["ap"] == pytest.approx(metrics["ap"])
    one, two = (weights_of(folder / "latest.pth") for folder in (tmp_path / "one", two_dir))
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-5, atol=1e-7, msg=lambda text, n=name: f"{n}: {text}")


if __name__ == "__main__":
    train_module.build_model = build_double
    for pictures in COUNTS:
        train_whole_batches(
            Path(sys.argv[1], str(pictures)), Path(sys.argv[1], str(pictures), "two"), pictures, batch_size=2
        )
