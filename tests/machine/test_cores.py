from __future__ import annotations

import os
from pathlib import Path

import pytest

from facekit.machine import cores


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


class TestQuota:
    def test_version_2(self, tmp_path: Path) -> None:
        write(tmp_path / "membership", "0::/user/job\n")
        write(tmp_path / "root/user/job/cpu.max", "150000 100000\n")
        assert cores._quota(tmp_path / "membership", tmp_path / "root") == 1.5

    def test_the_least_of_all_levels_counts(self, tmp_path: Path) -> None:
        write(tmp_path / "membership", "0::/user/job\n")
        write(tmp_path / "root/user/job/cpu.max", "max 100000\n")
        write(tmp_path / "root/user/cpu.max", "100000 100000\n")
        write(tmp_path / "root/cpu.max", "400000 100000\n")
        assert cores._quota(tmp_path / "membership", tmp_path / "root") == 1.0

    def test_in_a_container_the_root_is_its_own_group(self, tmp_path: Path) -> None:
        write(tmp_path / "membership", "0::/../../docker/abc\n")
        write(tmp_path / "root/cpu.max", "50000 100000\n")
        assert cores._quota(tmp_path / "membership", tmp_path / "root") == 0.5

    def test_version_1(self, tmp_path: Path) -> None:
        write(tmp_path / "membership", "4:memory:/a\n3:cpu,cpuacct:/a\n")
        write(tmp_path / "root/cpu/a/cpu.cfs_quota_us", "200000\n")
        write(tmp_path / "root/cpu/a/cpu.cfs_period_us", "100000\n")
        assert cores._quota(tmp_path / "membership", tmp_path / "root") == 2.0

    @pytest.mark.parametrize("text", ["max 100000", "", "x y", "100000 0", "100000"])
    def test_no_limit_is_known(self, tmp_path: Path, text: str) -> None:
        write(tmp_path / "membership", "0::/\n")
        write(tmp_path / "root/cpu.max", text)
        assert cores._quota(tmp_path / "membership", tmp_path / "root") is None

    def test_no_such_files(self, tmp_path: Path) -> None:
        assert cores._quota(tmp_path / "membership", tmp_path / "root") is None


@pytest.mark.parametrize(("affinity", "quota", "usable"), [
    (8, None, 8), (8, 1.0, 1), (8, 1.9, 1), (8, 0.5, 1), (2, 16.0, 2),
])  # fmt: skip
def test_affinity_and_quota(monkeypatch: pytest.MonkeyPatch, affinity: int, quota: float | None, usable: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(affinity)), raising=False)
    monkeypatch.setattr(cores, "_quota", lambda *_: quota)
    assert cores.usable_cores() == usable


def test_runtimes_take_no_more_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    from facekit import Detector
    from facekit.targets import onnx as target

    seen = []
    session = target.onnxruntime.InferenceSession

    def spy(weights: object, options: object, **more: object) -> object:
        seen.append(options.intra_op_num_threads)  # type: ignore[attr-defined]
        return session(weights, options, **more)

    monkeypatch.setattr(target.onnxruntime, "InferenceSession", spy)
    monkeypatch.setattr(target, "usable_cores", lambda: 1)
    Detector.bundled()
    Detector.bundled(threads=2)
    assert seen == [1, 2]
