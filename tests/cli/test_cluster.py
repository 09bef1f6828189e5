"""Several processes, as clusters start them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from facekit.weights.torch_file import read_torch_file
from tests.cli.support import YUNET, fails, labelled, run, train, written


class TestResumeFromAuto:
    def test_begins_then_goes_on(
        self, capsys: pytest.CaptureFixture[str], pictures: Path, tmp_path: Path, ssd_weights: Path
    ) -> None:
        """The weights to begin with are for the first start alone."""
        out = tmp_path / "out"
        args = train(ssd_weights, pictures, out, "--resume-from", "auto")
        assert run(*args) == 0
        assert "holds no checkpoint to go on from: starting anew" in capsys.readouterr().err
        assert run(*args, "--epochs", 2) == 0
        assert "epochs 2 to 2" in capsys.readouterr().err
        assert written(out) == ["epoch_1.pth", "epoch_2.pth", "latest.pth", "previous.pth"]
        assert run(*args, "--epochs", 2) == 0
        assert "nothing to train" in capsys.readouterr().err

    def test_nothing_whole_is_left(self, capsys: pytest.CaptureFixture[str], pictures: Path, tmp_path: Path) -> None:
        """To start anew would overwrite what somebody may yet save."""
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "latest.pth").write_bytes(b"torn")
        text = fails(capsys, *train(None, pictures, tmp_path / "out", "--resume-from", "auto"))
        assert "no checkpoint there is whole" in text


def start_task(number: int, port: int, pictures: Path, out: Path, epochs: int) -> subprocess.Popen[str]:
    """One of two tasks, as srun starts them."""
    variables = {
        "SLURM_PROCID": str(number), "SLURM_NTASKS": "2", "SLURM_LOCALID": str(number), "SLURM_JOB_ID": "7",
        "SLURM_NODELIST": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    command = [
        sys.executable, "-m", "facekit", "train", "--template", YUNET, *labelled("train", pictures),
        "--save-checkpoints-to", out, "--batch-size", 1, "--workers", 0, "--epochs", epochs, "--max-iterations", 1,
        "--resume-from", "auto",
    ]  # fmt: skip
    return subprocess.Popen(
        [str(part) for part in command], env={**os.environ, **variables}, stderr=subprocess.PIPE, text=True
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_slurm_tasks_one_is_killed_and_all_start_again(pictures: Path, tmp_path: Path) -> None:
    out, port = tmp_path / "out", free_port()
    tasks = [start_task(number, port, pictures, out, epochs=10_000) for number in range(2)]
    try:
        waited_until = time.monotonic() + 120
        while not (out / "epoch_2.pth").exists() and time.monotonic() < waited_until:
            time.sleep(0.1)
        tasks[1].send_signal(signal.SIGKILL)
        text = tasks[0].communicate(timeout=60)[1]
    finally:
        for task in tasks:
            task.kill()
            task.communicate()
    assert tasks[0].returncode == 1
    assert "Process 0 of 2: another one ended" in text
    assert f"--resume-from {out}" in text
    assert "Traceback" not in text

    done = read_torch_file(out / "latest.pth")["meta"]["epoch"]
    port = free_port()
    tasks = [start_task(number, port, pictures, out, done + 1) for number in range(2)]
    texts = [task.communicate(timeout=120)[1] for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0], texts
    assert f"epochs {done + 1} to {done + 1}, 1 iterations each, batch 1 x 2 process(es)" in texts[0]
    assert "Training" not in texts[1]
    assert (out / f"epoch_{done + 1}.pth").exists()


def test_processes_share_an_evaluation(
    capsys: pytest.CaptureFixture[str], drawn_dir: Path, drawn_weights: Path, tmp_path: Path
) -> None:
    """Six pictures each; the figures are those of one process, and one process says them."""

    def arguments(name: str) -> list[str]:
        return [str(part) for part in (
            "eval", "--template", YUNET, "--load-weights", drawn_weights, "--test-ann-files",
            drawn_dir / "annotations.json", "--test-data-roots", drawn_dir, "--save-metrics-to", tmp_path / name,
            "--save-output-to", tmp_path / f"{name} drawn",
        )]  # fmt: skip

    def figures(name: str, text: str) -> dict[str, float]:
        assert text.count("AP @ [IoU=0.50:0.95]") == 1
        metrics = yaml.safe_load((tmp_path / name).read_text())["metrics"]
        return {row["key"]: row["value"] for row in metrics if not row["key"].startswith("latency")}

    # As torchrun starts them.
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "facekit", *arguments("two.yaml")], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, env={**os.environ, "CUDA_VISIBLE_DEVICES": "", **group, "RANK": rank, "LOCAL_RANK": rank},
        )
        for rank in ("0", "1")
    ]  # fmt: skip
    assert run(*arguments("one.yaml")) == 0
    alone = figures("one.yaml", capsys.readouterr().out)
    texts = [process.communicate(timeout=240) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], texts
    together = figures("two.yaml", texts[0][0] + texts[1][0])
    assert together == pytest.approx(alone)
    assert alone["ap"] > 10
    assert written(tmp_path / "one.yaml drawn" / "labelled") == written(tmp_path / "two.yaml drawn" / "labelled")
