"""Runs that are interrupted end with the weights of one that is not. Started as a script, this file is one process of
a run over several."""

from __future__ import annotations

import dataclasses
import logging
import os
import random
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from facekit.engine.training import train as train_module
from facekit.engine.training import validation
from facekit.engine.training.checkpoints import newest_checkpoint
from facekit.engine.training.options import TrainOptions
from facekit.engine.training.train import train
from facekit.errors import FacekitError, Interrupted
from facekit.ops.pixels import normalise
from facekit.template import Template, find_template, load_template
from facekit.weights.torch_file import read_torch_file
from tests.engine.training.support import ellipse_pictures

INTERVAL = 3


def small_template() -> Template:
    """Nine iterations an epoch, two epochs."""
    template = load_template(find_template("yunet-n"))
    return dataclasses.replace(
        template,
        input=dataclasses.replace(template.input, size_hw=(64, 64)),
        training=dataclasses.replace(
            template.training, batch_size=2, epochs=2, dataset_repeats=3, base_learning_rate=1e-3
        ),
    )


def state_of(folder: Path) -> dict[str, Any]:
    return read_torch_file(folder / "latest.pth")


def assert_same_end(one: Path, other: Path) -> None:
    """Weights, momenta, random states and what the checkpoint says of itself."""
    first, second = state_of(one), state_of(other)
    different = [
        name for name, tensor in first["state_dict"].items() if not torch.equal(tensor, second["state_dict"][name])
    ]
    assert not different, different
    assert first["digest"] == second["digest"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of pictures; beneath, in out/, an uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole")
    pictures = ellipse_pictures(folder, 6)
    train(
        small_template(), pictures, pictures[:2], TrainOptions("yunet-n", save_checkpoints_to=folder / "out", workers=0)
    )
    return folder


class Killed(Exception):
    """Ends a run in this process with nothing saved any more."""


@pytest.fixture
def kill_behind(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Sets the number of checkpoints within epochs after which a run dies."""
    save, left = train_module.save_latest, [10**9]

    def save_and_die(*args: Any) -> None:
        save(*args)
        left[0] -= 1
        if left[0] == 0:
            raise Killed

    monkeypatch.setattr(train_module, "save_latest", save_and_die)

    def set_left(saves: int) -> None:
        left[0] = saves

    yield set_left


class TestMidEpoch:
    @pytest.mark.parametrize(("saves", "position"), [(1, (0, 3, 3)), (3, (0, 9, 9)), (5, (1, 6, 15))])
    def test_ends_as_if_never_killed(
        self, whole: Path, tmp_path: Path, kill_behind: Callable[[int], None], saves: int, position: tuple[int, ...]
    ) -> None:
        pictures, out = ellipse_pictures(whole, 6), tmp_path / "out"
        kill_behind(saves)
        options = TrainOptions("yunet-n", save_checkpoints_to=out, checkpoint_interval=INTERVAL, workers=0)
        with pytest.raises(Killed):
            train(small_template(), pictures, pictures[:2], options)
        meta = state_of(out)["meta"]
        assert (meta["epoch"], meta["epoch_iteration"], meta["iteration"]) == position
        train(small_template(), pictures, pictures[:2], dataclasses.replace(options, resume_from=out))
        assert_same_end(out, whole / "out")

    def test_finished_batches_are_not_read_again(
        self, whole: Path, tmp_path: Path, kill_behind: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pictures, out = ellipse_pictures(whole, 6), tmp_path / "out"
        kill_behind(2)
        options = TrainOptions("yunet-n", save_checkpoints_to=out, checkpoint_interval=INTERVAL, workers=0, epochs=1)
        with pytest.raises(Killed):
            train(small_template(), pictures, [], options)
        read: list[int] = []
        item = train_module.make_batches.__globals__["TrainingSet"].__getitem__

        def count(self: Any, index: int) -> Any:
            read.append(index)
            return item(self, index)

        monkeypatch.setattr("facekit.engine.training.loop.TrainingSet.__getitem__", count)
        train(small_template(), pictures, [], dataclasses.replace(options, resume_from=out))
        assert len(read) == 3 * 2  # nine iterations of two pictures, six of them done

    def test_random_numbers_go_on(
        self, tmp_path: Path, kill_behind: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Of a network that draws some, as those that drop paths do."""

        def noisy(images_bgr: Tensor, settings: Any) -> Tensor:
            images = normalise(images_bgr, settings)
            return images + torch.rand(1) if torch.is_grad_enabled() else images

        monkeypatch.setattr("facekit.engine.training.loop.normalise", noisy)
        pictures = ellipse_pictures(tmp_path, 6)
        options = TrainOptions(
            "yunet-n", save_checkpoints_to=tmp_path / "whole", checkpoint_interval=INTERVAL, workers=0
        )
        train(small_template(), pictures, pictures[:2], options)
        kill_behind(4)
        options = dataclasses.replace(options, save_checkpoints_to=tmp_path / "out")
        with pytest.raises(Killed):
            train(small_template(), pictures, pictures[:2], options)
        torch.rand(7)
        train(small_template(), pictures, pictures[:2], dataclasses.replace(options, resume_from=tmp_path / "out"))
        assert_same_end(tmp_path / "out", tmp_path / "whole")

    def test_evaluation_does_not_matter(self, whole: Path, tmp_path: Path) -> None:
        pictures = ellipse_pictures(whole, 6)
        train(small_template(), pictures, [], TrainOptions("yunet-n", save_checkpoints_to=tmp_path, workers=0))
        one, other = state_of(tmp_path), state_of(whole / "out")
        assert all(torch.equal(one["state_dict"][name], other["state_dict"][name]) for name in one["state_dict"])
        assert torch.equal(one["extra"]["random"][0]["cpu"], other["extra"]["random"][0]["cpu"])

    def test_another_batch_size_goes_on_at_the_same_picture(
        self, whole: Path, tmp_path: Path, kill_behind: Callable[[int], None], caplog: pytest.LogCaptureFixture
    ) -> None:
        pictures = ellipse_pictures(whole, 6)
        kill_behind(1)
        options = TrainOptions(
            "yunet-n", save_checkpoints_to=tmp_path, checkpoint_interval=INTERVAL, workers=0, epochs=1
        )
        with pytest.raises(Killed):
            train(small_template(), pictures, [], options)
        caplog.clear()
        with caplog.at_level(logging.WARNING, "facekit"):
            more = dataclasses.replace(options, resume_from=tmp_path, batch_size=1, checkpoint_interval=None)
            train(small_template(), pictures, [], more)
        assert "batch size 2, and this run has 1: its weights won't be an uninterrupted run's" in caplog.text
        # Six of 18 pictures were done in three iterations; twelve are left.
        assert state_of(tmp_path)["meta"]["iteration"] == 3 + 12

    def test_warmup_is_settled_at_the_start(self, whole: Path, tmp_path: Path) -> None:
        pictures = ellipse_pictures(whole, 6)
        assert state_of(whole / "out")["meta"]["training"]["warmup_iterations"] == 18 // 10
        options = TrainOptions(
            "yunet-n", save_checkpoints_to=tmp_path, resume_from=whole / "out", epochs=40, max_iterations=1, workers=0
        )
        template = small_template()
        template = dataclasses.replace(template, training=dataclasses.replace(template.training, epochs=40))
        train(template, pictures, [], dataclasses.replace(options, epochs=3))
        assert state_of(tmp_path)["meta"]["training"]["warmup_iterations"] == 18 // 10

    def test_zero_iterations_are_left_of_the_epoch(
        self, whole: Path, tmp_path: Path, kill_behind: Callable[[int], None]
    ) -> None:
        pictures = ellipse_pictures(whole, 6)
        kill_behind(3)
        options = TrainOptions(
            "yunet-n", save_checkpoints_to=tmp_path, checkpoint_interval=INTERVAL, workers=2, epochs=1
        )
        with pytest.raises(Killed):
            train(small_template(), pictures, [], options)
        train(small_template(), pictures, [], dataclasses.replace(options, resume_from=tmp_path))
        assert state_of(tmp_path)["meta"]["iteration"] == 9


class TestDamaged:
    """A folder of epoch_1, epoch_2 = latest, previous = epoch_1."""

    @pytest.fixture
    def folder(self, whole: Path, tmp_path: Path) -> Path:
        for name in ("epoch_1.pth", "epoch_2.pth", "latest.pth", "previous.pth"):
            (tmp_path / name).write_bytes((whole / "out" / name).read_bytes())
        return tmp_path

    def flip(self, path: Path) -> None:
        with zipfile.ZipFile(path) as archive:
            numbers = max((archive.read(entry) for entry in archive.infolist()), key=len)
        data = bytearray(path.read_bytes())
        data[data.index(numbers) + len(numbers) // 2] ^= 1  # not of the padding between entries, which means nothing
        path.write_bytes(data)

    def cut(self, path: Path) -> None:
        path.write_bytes(path.read_bytes()[:-100])

    def newest(self, folder: Path) -> str:
        return newest_checkpoint(folder, small_template())[0].name

    def test_whole(self, folder: Path) -> None:
        assert self.newest(folder) == "latest.pth"

    def overwrite(self, path: Path) -> None:
        path.write_text("nonsense\n")

    def replace(self, path: Path) -> None:
        path.write_text("<!doctype html><title>404</title>")

    @pytest.mark.parametrize("how", ["flip", "cut", "overwrite", "replace"])
    def test_passed_over_with_a_warning(self, folder: Path, caplog: pytest.LogCaptureFixture, how: str) -> None:
        getattr(self, how)(folder / "latest.pth")
        assert self.newest(folder) == "previous.pth"
        assert f"Passed over: {folder / 'latest.pth'}: " in caplog.text
        (folder / "previous.pth").write_bytes(b"")
        assert self.newest(folder) == "epoch_2.pth"

    def test_epochs_count_as_numbers(self, folder: Path) -> None:
        (folder / "latest.pth").unlink()
        (folder / "previous.pth").unlink()
        (folder / "epoch_10.pth").write_bytes((folder / "epoch_1.pth").read_bytes())
        (folder / "epoch_last.pth").touch()
        assert self.newest(folder) == "epoch_10.pth"

    def test_none_is_whole(self, folder: Path) -> None:
        for path in folder.iterdir():
            self.cut(path)
        with pytest.raises(FacekitError, match=r"no checkpoint there is whole"):
            self.newest(folder)

    def test_empty(self, tmp_path: Path) -> None:
        with pytest.raises(FacekitError, match=r"there is no checkpoint .*anew without `resume_from`"):
            self.newest(tmp_path)

    def test_another_detectors_is_not_passed_over(self, folder: Path) -> None:
        with pytest.raises(FacekitError, match="made for template 'yunet-n'"):
            newest_checkpoint(folder, load_template(find_template("face-detection-0200")))

    def test_run_goes_on_from_the_one_before(self, whole: Path, folder: Path) -> None:
        self.flip(folder / "latest.pth")
        pictures = ellipse_pictures(whole, 6)
        train(
            small_template(),
            pictures,
            pictures[:2],
            TrainOptions("yunet-n", save_checkpoints_to=folder, resume_from=folder, workers=0),
        )
        assert_same_end(folder, whole / "out")


class TestNotFinite:
    def spoil(self, monkeypatch: pytest.MonkeyPatch, iteration: int) -> list[Tensor]:
        """Makes the pictures of that iteration infinite; returns a list of what was fed."""
        fed: list[Tensor] = []

        def spoilt(images_bgr: Tensor, settings: Any) -> Tensor:
            fed.append(images_bgr)
            return normalise(images_bgr, settings) * (torch.inf if len(fed) == iteration else 1)

        monkeypatch.setattr("facekit.engine.training.loop.normalise", spoilt)
        return fed

    def test_batch_is_written_aside_and_the_checkpoint_is_from_before(
        self, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fed = self.spoil(monkeypatch, 5)
        options = TrainOptions("yunet-n", save_checkpoints_to=tmp_path, checkpoint_interval=1, workers=0)
        with pytest.raises(FacekitError, match=r"became nan at iteration 5 of the run.*nonfinite_batch\.pth"):
            train(small_template(), ellipse_pictures(whole, 6), [], options)
        batch = read_torch_file(tmp_path / "nonfinite_batch.pth")
        assert torch.equal(batch["images_bgr"], fed[4])
        assert (batch["epoch"], batch["iteration"], batch["iterations_since"]) == (1, 5, 0)
        assert set(batch["losses"]) == {"class", "objectness", "box", "landmarks"}
        assert len(batch["pictures"]) == 2 and all(Path(name).is_file() for name in batch["pictures"])
        assert batch["targets"]["boxes_xyxy"].shape[1] == 4
        assert 0 < batch["parameters_norm"] < np.inf
        saved = state_of(tmp_path)
        assert saved["meta"]["iteration"] == 4
        assert all(tensor.isfinite().all() for tensor in saved["state_dict"].values())

    def test_spoilt_weights_are_not_saved(self, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where the losses are looked at late, as on a GPU: here never before the tenth step."""
        self.spoil(monkeypatch, 5)
        monkeypatch.setattr("facekit.engine.training.loop._look", lambda *_: None)
        options = TrainOptions("yunet-n", save_checkpoints_to=tmp_path, checkpoint_interval=1, workers=0)
        with pytest.raises(FacekitError, match="no finite numbers behind iteration 9, and were not saved"):
            train(small_template(), ellipse_pictures(whole, 6), [], options)
        assert state_of(tmp_path)["meta"]["iteration"] == 4


class TestKilledProcess:
    """Of a real process, by signals that reach its reading processes too."""

    def start(self, folder: Path, out: Path, workers: int) -> subprocess.Popen[str]:
        command = [sys.executable, __file__, str(folder), str(out), str(workers)]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
        deadline = time.monotonic() + 120
        while not (out / "latest.pth").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        return process

    def test_kill_9(self, whole: Path, tmp_path: Path) -> None:
        workers = 2
        process = self.start(whole, tmp_path / "out", workers)
        time.sleep(random.uniform(0, 0.5))
        process.kill()
        process.communicate()
        pictures = ellipse_pictures(whole, 6)
        options = TrainOptions(
            "yunet-n", save_checkpoints_to=tmp_path / "out", resume_from=tmp_path / "out", workers=workers
        )
        train(small_template(), pictures, pictures[:2], options)  # nothing is left to do if it was fast
        assert_same_end(tmp_path / "out", whole / "out")

    @pytest.mark.parametrize(("number", "workers", "code"), [(signal.SIGINT, 2, 130), (signal.SIGTERM, 0, 143)])
    def test_saves_at_a_signal(
        self, whole: Path, tmp_path: Path, number: signal.Signals, workers: int, code: int
    ) -> None:
        out = tmp_path / "out"
        process = self.start(whole, out, workers)
        os.killpg(process.pid, number)
        _, errors = process.communicate(timeout=120)
        assert process.returncode == code, errors
        assert "Traceback" not in errors
        position = state_of(out)["meta"]
        assert f"Stopped by {number.name} behind iteration {position['iteration']}" in errors
        assert f"`resume_from={out}`" in errors
        pictures = ellipse_pictures(whole, 6)
        train(
            small_template(),
            pictures,
            pictures[:2],
            TrainOptions("yunet-n", save_checkpoints_to=out, resume_from=out, workers=0),
        )
        assert_same_end(out, whole / "out")


def test_signal_during_the_evaluation(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = ellipse_pictures(whole, 6)
    evaluate = validation.evaluate_labelled

    def stop(detector: Any, val_pictures: Any, on_picture: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return evaluate(detector, val_pictures, on_picture)

    monkeypatch.setattr(validation, "evaluate_labelled", stop)
    with pytest.raises(Interrupted) as caught:
        train(
            small_template(), pictures, pictures[:2], TrainOptions("yunet-n", save_checkpoints_to=tmp_path, workers=0)
        )
    assert caught.value.exit_code == 143
    meta = state_of(tmp_path)["meta"]
    assert (meta["epoch"], meta["epoch_iteration"], meta["iteration"]) == (0, 9, 9)
    assert not (tmp_path / "epoch_1.pth").exists()
    monkeypatch.undo()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    train(
        small_template(),
        pictures,
        pictures[:2],
        TrainOptions("yunet-n", save_checkpoints_to=tmp_path, resume_from=tmp_path, workers=0),
    )
    assert (tmp_path / "epoch_1.pth").exists()
    assert_same_end(tmp_path, whole / "out")


def test_all_processes_stop_after_the_same_step(tmp_path: Path) -> None:
    """One of two is told to stop."""
    ellipse_pictures(tmp_path, 6)
    done = subprocess.run(
        [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
            __file__, str(tmp_path), str(tmp_path / "out"), "0", "stop one",
        ],
        capture_output=True, text=True, timeout=240, check=False, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    assert done.stderr.count("Stopped by SIGTERM behind iteration 3, ") == 2, done.stderr[-3000:]
    saved = state_of(tmp_path / "out")
    assert saved["meta"]["iteration"] == 3
    assert len(saved["extra"]["random"]) == 2


def main(folder: Path, out: Path, workers: int, stop_one: bool) -> int:
    if stop_one and os.environ["RANK"] == "1":
        advance = train_module.Progress.advance

        def advance_and_ask(self: Any) -> None:
            advance(self)
            if self.iteration == 2:  # known to all before the third step
                os.kill(os.getpid(), signal.SIGTERM)

        train_module.Progress.advance = advance_and_ask  # type: ignore[method-assign]
    pictures = ellipse_pictures(folder, 6)
    try:
        train(
            small_template(),
            pictures,
            pictures[:2],
            TrainOptions("yunet-n", save_checkpoints_to=out, checkpoint_interval=1, workers=workers),
        )
    except Interrupted as stop:
        sys.stderr.write(f"{stop}\n")
        return stop.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), len(sys.argv) > 4))
