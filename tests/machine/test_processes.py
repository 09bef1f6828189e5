from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from facekit.machine.launch import launch_over_gpus
from facekit.machine.processes import adopt_slurm, first_node, lost_process, processes_started
from facekit.machine.reductions import mean_over_processes

SET = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
ASKED = (
    *SET, "SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", "SLURM_NODELIST", "SLURM_JOB_ID", "SLURM_STEP_NUM_TASKS",
    "SLURM_STEP_NODELIST",
)  # fmt: skip


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ASKED:
        monkeypatch.setenv(name, "")  # to be brought back, whatever the code sets
        monkeypatch.delenv(name)


def adopted(monkeypatch: pytest.MonkeyPatch, **variables: str) -> dict[str, str] | None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return {name: os.environ[name] for name in SET} if adopt_slurm() else None


class TestSlurm:
    @pytest.mark.parametrize(
        ("nodes", "first"),
        [
            ("node1", "node1"), ("a,b", "a"), ("node[01-04]", "node01"), ("gpu[07,09-12],login1", "gpu07"),
            ("rack3-[2,5]-ib", "rack3-2-ib"), ("10.0.0.7,10.0.0.8", "10.0.0.7"),
        ],
    )  # fmt: skip
    def test_first_node(self, nodes: str, first: str) -> None:
        assert first_node(nodes) == first

    def test_task(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found = adopted(
            monkeypatch, SLURM_PROCID="5", SLURM_NTASKS="8", SLURM_LOCALID="1", SLURM_NODELIST="node[01-04]",
            SLURM_JOB_ID="123456",
        )  # fmt: skip
        assert found == {
            "WORLD_SIZE": "8", "RANK": "5", "LOCAL_RANK": "1", "MASTER_ADDR": "node01", "MASTER_PORT": "18456"
        }  # fmt: skip

    def test_step_and_address_come_first(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A step may have fewer tasks than its job."""
        found = adopted(
            monkeypatch, SLURM_PROCID="0", SLURM_NTASKS="8", SLURM_STEP_NUM_TASKS="2", SLURM_NODELIST="a,b",
            SLURM_STEP_NODELIST="b", MASTER_PORT="7",
        )  # fmt: skip
        assert found is not None
        assert (found["WORLD_SIZE"], found["MASTER_ADDR"], found["MASTER_PORT"]) == ("2", "b", "7")

    @pytest.mark.parametrize(
        "variables",
        [
            {}, {"SLURM_NTASKS": "4"}, {"SLURM_PROCID": "0", "SLURM_NTASKS": "1"},
            {"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "WORLD_SIZE": "2"},
        ],
    )  # fmt: skip
    def test_nothing_to_adopt(self, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
        assert adopted(monkeypatch, **variables) is None
        assert "RANK" not in os.environ


class TestMeanOverProcesses:
    @pytest.mark.parametrize(("least", "mean"), [(0.0, 1.5), (1.0, 1.5), (7.0, 3.5)])
    def test_two_processes(self, monkeypatch: pytest.MonkeyPatch, least: float, mean: float) -> None:
        """One has 1, the other 2."""
        monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
        monkeypatch.setattr("torch.distributed.get_world_size", lambda: 2)
        monkeypatch.setattr("torch.distributed.all_reduce", lambda value: value.add_(2))
        value = torch.tensor(1.0, requires_grad=True)
        found = mean_over_processes(value, least)
        assert found.item() == mean
        assert not found.requires_grad
        assert value.item() == 1

    def test_alone(self) -> None:
        assert mean_over_processes(torch.tensor(3)).item() == 3
        assert mean_over_processes(torch.tensor(0), least=1).item() == 1


class TestLostProcess:
    def test_of_several(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
        monkeypatch.setattr("torch.distributed.get_world_size", lambda: 2)
        monkeypatch.setattr("torch.distributed.get_rank", lambda: 1)
        error = lost_process(RuntimeError("[pair.cc:5] Connection closed by peer\nmore"), "Start again.")
        assert str(error).startswith("Process 1 of 2: another one ended")
        assert "closed by peer)" in str(error)
        assert str(error).endswith("Start again.")
        assert lost_process(RuntimeError("shapes don't match"), "Start again.") is None

    def test_alone(self) -> None:
        assert lost_process(RuntimeError("Connection closed by peer"), "") is None


def test_a_process_alone_needs_no_torch() -> None:
    code = (
        "import sys\n"
        "from facekit.machine.processes import gather_over_processes, is_one_of_several, leave_processes, rank\n"
        "assert (rank(), is_one_of_several(), gather_over_processes(5)) == (0, False, [5])\n"
        "leave_processes()\n"
        "assert 'torch' not in sys.modules\n"
    )
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM", "WORLD_SIZE"))}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_presets_count_slurms_tasks_on_the_cpu_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under srun with --gpu-num 0: torchrun's variables are set before anybody counts processes."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    for name, value in (("SLURM_PROCID", "0"), ("SLURM_NTASKS", "4"), ("SLURM_NODELIST", "node1")):
        monkeypatch.setenv(name, value)
    assert launch_over_gpus(0, True, ["train"]) is False
    assert os.environ["WORLD_SIZE"] == "4"
    assert processes_started() == 4
