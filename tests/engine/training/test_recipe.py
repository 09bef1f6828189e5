"""Averaged weights, batches accumulated for a step, cosine and frozen parts together, in whole runs. Started as a
script, this file is one process of a run over two."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from facekit.engine.training import train as train_module
from facekit.engine.training import validation
from facekit.engine.training.options import TrainOptions
from facekit.engine.training.train import train
from facekit.errors import FacekitError, Interrupted
from facekit.machine.processes import rank
from facekit.template import CosineDecay, Template
from facekit.weights.checkpoint import save_checkpoint
from facekit.weights.load import load_weights
from facekit.weights.torch_file import read_torch_file
from tests.engine.training.support import ellipse_pictures
from tests.engine.training.test_resume import (
    Killed,
    assert_same_end,
    kill_behind,  # noqa: F401 - a fixture
    small_template,
    state_of,
)


def full_template(**changes: Any) -> Template:
    """Two epochs of nine iterations: steps of 2, 2, 2, 2 and 1 batches."""
    template = small_template()
    settings: dict[str, Any] = {
        "ema_decay": 0.7, "accumulate": 2, "schedule": CosineDecay("cosine", 0.1), "frozen": ("backbone.model0",),
    }  # fmt: skip
    return dataclasses.replace(template, training=dataclasses.replace(template.training, **(settings | changes)))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of pictures; beneath, in out/, an uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole")
    pictures = ellipse_pictures(folder, 6)
    train(
        full_template(), pictures, pictures[:2], TrainOptions("yunet-n", save_checkpoints_to=folder / "out", workers=0)
    )
    return folder


class TestResume:
    @pytest.mark.parametrize(("saves", "position"), [(1, (0, 4, 4)), (3, (0, 9, 9)), (4, (1, 4, 13))])
    def test_ends_as_if_never_killed(
        self, whole: Path, tmp_path: Path, kill_behind: Callable[[int], None], saves: int, position: tuple[int, ...]  # noqa: F811
    ) -> None:  # fmt: skip
        """Checkpoints stand behind steps alone: every third iteration, or the next that ends one."""
        pictures = ellipse_pictures(whole, 6)
        kill_behind(saves)
        options = TrainOptions("yunet-n", save_checkpoints_to=tmp_path, checkpoint_interval=3, workers=0)
        with pytest.raises(Killed):
            train(full_template(), pictures, pictures[:2], options)
        meta = state_of(tmp_path)["meta"]
        assert (meta["epoch"], meta["epoch_iteration"], meta["iteration"]) == position
        train(full_template(), pictures, pictures[:2], dataclasses.replace(options, resume_from=tmp_path))
        assert_same_end(tmp_path, whole / "out")

    def test_a_signal_waits_for_the_step(
        self, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:  # fmt: skip
        monkeypatch.setattr("facekit.engine.training.train.StopSignals", lambda: AskedToStop())
        with pytest.raises(Interrupted):
            train(
                full_template(accumulate=4),
                ellipse_pictures(whole, 6),
                [],
                TrainOptions("yunet-n", save_checkpoints_to=tmp_path, workers=0),
            )
        assert state_of(tmp_path)["meta"]["iteration"] == 4

    def test_cosine_ends_where_the_run_was_to_end(self, whole: Path, tmp_path: Path) -> None:
        """More epochs go on at the final rate."""
        options = TrainOptions("yunet-n", save_checkpoints_to=tmp_path, workers=0, resume_from=whole / "out", epochs=3)
        train(full_template(), ellipse_pictures(whole, 6), [], options)
        assert '"learning_rate": 0.0001,' in (tmp_path / "log.jsonl").read_text().splitlines()[0]

    def test_into_a_template_without_average(self, whole: Path, tmp_path: Path) -> None:
        """Goes on with the weights that the momentum belongs to."""
        options = TrainOptions(
            "yunet-n",
            save_checkpoints_to=tmp_path,
            workers=0,
            resume_from=whole / "out",
            epochs=3,
            base_learning_rate=1e-30,
        )
        train(full_template(ema_decay=None), ellipse_pictures(whole, 6), [], options)
        stepped = state_of(whole / "out")["extra"]["average"]["stepped"]
        names = [name for name in stepped if name.startswith("bbox_head") and name.endswith("weight")]
        state = state_of(tmp_path)["state_dict"]
        # At no learning rate only weight decay of nothing is left.
        assert all(torch.allclose(state[name], stepped[name], rtol=0, atol=1e-12) for name in names)

    def test_damaged_average(self, whole: Path, tmp_path: Path) -> None:
        checkpoint = load_weights(whole / "out" / "epoch_1.pth", full_template())
        checkpoint.extra["average"] = {"steps": "many"}
        save_checkpoint(tmp_path / "latest.pth", checkpoint)
        with pytest.raises(FacekitError, match="no checkpoint there is whole"):
            train(
                full_template(),
                ellipse_pictures(whole, 6),
                [],
                TrainOptions("yunet-n", save_checkpoints_to=tmp_path, workers=0, resume_from=tmp_path),
            )


class TestStartShare:
    def test_ends_as_if_never_killed(
        self, whole: Path, tmp_path: Path, kill_behind: Callable[[int], None], drawn_weights: Path  # noqa: F811
    ) -> None:  # fmt: skip
        """And with that share of the start in what a run without it would give."""
        pictures, kept = ellipse_pictures(whole, 6), full_template(start_share=0.25)
        options = TrainOptions("yunet-n", save_checkpoints_to=tmp_path / "out", load_weights=drawn_weights, workers=0)
        train(kept, pictures, [], options)
        killed = dataclasses.replace(options, save_checkpoints_to=tmp_path / "killed", checkpoint_interval=3)
        kill_behind(4)
        with pytest.raises(Killed):
            train(kept, pictures, [], killed)
        resumed = dataclasses.replace(killed, load_weights=None, resume_from=tmp_path / "killed")
        train(kept, pictures, [], resumed)
        assert_same_end(tmp_path / "killed", tmp_path / "out")
        train(full_template(), pictures, [], dataclasses.replace(options, save_checkpoints_to=tmp_path / "plain"))
        start = load_weights(drawn_weights, kept).state_dict
        got, plain = (state_of(tmp_path / name)["state_dict"] for name in ("out", "plain"))
        for name, tensor in got.items():
            if tensor.is_floating_point():
                torch.testing.assert_close(tensor, torch.lerp(plain[name], start[name], 0.25), rtol=1e-4, atol=1e-5)

    def test_of_nothing(self, tmp_path: Path) -> None:
        with pytest.raises(FacekitError, match=r"start_share: 0\.25 of the weights that the run starts from"):
            train(
                full_template(start_share=0.25), ellipse_pictures(tmp_path, 2), [],
                TrainOptions("yunet-n", save_checkpoints_to=tmp_path / "out", workers=0),
            )  # fmt: skip

    def test_a_checkpoint_without_a_start(
        self, whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:  # fmt: skip
        options = TrainOptions("yunet-n", save_checkpoints_to=tmp_path, workers=0, resume_from=whole / "out", epochs=3)
        train(full_template(start_share=0.25), ellipse_pictures(whole, 6), [], options)
        assert "holds no weights that its run started from" in caplog.text

    def test_a_damaged_start(self, whole: Path, tmp_path: Path) -> None:
        checkpoint = load_weights(whole / "out" / "epoch_1.pth", full_template())
        checkpoint.extra["average"]["start"] = {"backbone": torch.zeros(2)}
        save_checkpoint(tmp_path / "latest.pth", checkpoint)
        with pytest.raises(FacekitError, match=r"extra\.average\.start: the weights don't fit"):
            load_weights(tmp_path / "latest.pth", full_template())


class TestCheckpoints:
    def test_hold_both_and_are_read_as_the_average(self, whole: Path) -> None:
        saved = state_of(whole / "out")
        average, stepped = saved["state_dict"], saved["extra"]["average"]["stepped"]
        assert saved["extra"]["average"]["steps"] == 10
        assert any(not torch.equal(average[name], stepped[name]) for name in average)
        loaded = load_weights(whole / "out" / "latest.pth", full_template()).state_dict
        assert all(torch.equal(loaded[name], average[name]) for name in average)

    def test_average_is_what_is_evaluated(
        self, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:  # fmt: skip
        seen = []

        def note(detector: Any, *_: Any) -> list[Any]:
            network = detector.backend.network
            seen.append({name: tensor.clone() for name, tensor in network.state_dict().items()})
            return []

        monkeypatch.setattr(validation, "evaluate_labelled", note)
        pictures = ellipse_pictures(whole, 6)
        train(
            full_template(),
            pictures,
            pictures[:1],
            TrainOptions("yunet-n", save_checkpoints_to=tmp_path, workers=0, epochs=1),
        )
        (evaluated,) = seen
        average = state_of(tmp_path)["state_dict"]
        assert all(torch.equal(evaluated[name], average[name]) for name in average)

    def test_one_step_is_mostly_its_own_average(self, whole: Path, tmp_path: Path) -> None:
        """A tenth of the start, nine tenths of the first step's end."""
        pictures = ellipse_pictures(whole, 6)
        template = full_template(frozen=(), accumulate=1)
        train(
            template,
            pictures,
            [],
            TrainOptions("yunet-n", save_checkpoints_to=tmp_path, workers=0, epochs=1, max_iterations=1),
        )
        saved = state_of(tmp_path)
        name = "backbone.model0.bn1.running_mean"  # which starts as 0
        stepped = saved["extra"]["average"]["stepped"][name]
        assert stepped.abs().max() > 0
        torch.testing.assert_close(saved["state_dict"][name], 0.9 * stepped)


class AskedToStop(contextlib.nullcontext[None]):
    """In place of signals."""

    received = 15


def test_two_processes_have_the_same_average(tmp_path: Path) -> None:
    ellipse_pictures(tmp_path, 6)
    done = subprocess.run(
        [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
            __file__, str(tmp_path), str(tmp_path / "out"),
        ],
        capture_output=True, text=True, timeout=240, check=False,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = (read_torch_file(tmp_path / f"average_{number}.pth") for number in range(2))
    assert one.keys() == two.keys() and any("running_mean" in name for name in one)
    assert not [name for name in one if not torch.equal(one[name], two[name])]
    saved = state_of(tmp_path / "out")["state_dict"]
    assert all(torch.equal(saved[name], one[name]) for name in one)


def main(folder: Path, out: Path) -> None:
    evaluate = train_module._Run._evaluate

    def note_and_evaluate(self: Any) -> Any:
        torch.save(self.state.average.network.state_dict(), folder / f"average_{rank()}.pth")
        return evaluate(self)

    train_module._Run._evaluate = note_and_evaluate  # type: ignore[method-assign]
    train(
        full_template(),
        ellipse_pictures(folder, 6),
        [],
        TrainOptions("yunet-n", save_checkpoints_to=out, epochs=1, workers=0),
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
