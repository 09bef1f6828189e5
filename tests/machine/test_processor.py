from __future__ import annotations

from pathlib import Path

import pytest

from facekit.machine import processor

X86 = "processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: fpu avx avx2 fma avx512f amx_int8\n\nmodel name\t: Another\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd asimddp i8mm\n"


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(processor, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(processor, "MEMORY_LIMITS", (tmp_path / "memory.max",))
    return tmp_path


def test_x86(proc: Path) -> None:
    (proc / "cpuinfo").write_text(X86)
    assert processor.cpu_name() == "Some CPU"
    assert processor.instruction_sets() == ("AVX", "FMA", "AVX2", "AVX-512", "AMX INT8")


def test_arm(proc: Path) -> None:
    (proc / "cpuinfo").write_text(ARM)
    assert processor.instruction_sets() == ("NEON", "dot product", "INT8 matrices")


def test_another_system(proc: Path) -> None:
    assert processor.cpu_name() and processor.instruction_sets() == () and processor.memory_bytes() is None


@pytest.mark.parametrize(("limit", "expected"), [("max\n", 8 << 30), ("1073741824\n", 1 << 30)])
def test_memory_is_the_least_limit(proc: Path, limit: str, expected: int) -> None:
    (proc / "meminfo").write_text("MemFree: 5 kB\nMemTotal:       8388608 kB\n")
    (proc / "memory.max").write_text(limit)
    assert processor.memory_bytes() == expected


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo 'A100, 81920 MiB, 550.54'; echo 'T4, 15360 MiB, 550.54'",
         ("A100, 81920 MiB, 550.54", "T4, 15360 MiB, 550.54")),
        ("echo 'NVIDIA-SMI has failed'; exit 9", ()),
        ("sleep 20", ()),
    ],
)  # fmt: skip
def test_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, expected: tuple[str, ...]) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.setattr(processor, "NVIDIA_SMI_S", 0.5)
    assert processor.gpus() == expected


def test_no_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert processor.gpus() == ()
