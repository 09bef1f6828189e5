"""What a run's figures depend on beside its flags: versions and the machine."""

from __future__ import annotations

import dataclasses
import os
import platform
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import cv2
import numpy as np
import torch
import torchvision

from facekit import __version__
from facekit.machine.processes import world_size

RUNTIMES = ("onnxruntime", "openvino", "pycocotools")
PROJECT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Environment:
    """Weights are bit-equal only where these are."""

    facekit: str
    git_revision: str  # empty where facekit was not installed from a git work tree; "-dirty" with changes
    python: str
    torch: str
    torchvision: str
    numpy: str
    opencv: str
    device: str  # cpu, or the GPU's name
    processes: int
    cpu: str
    cores: int  # that this process may use
    threads: int  # of torch

    def differences(self, now: Environment) -> list[str]:
        """What differs, as `torch 2.14.1 -> 2.15.0`."""
        pairs = ((part.name, getattr(self, part.name), getattr(now, part.name)) for part in dataclasses.fields(self))
        return [f"{name} {before} -> {after}" for name, before, after in pairs if before != after]


def environment(device: torch.device) -> Environment:
    """Of this process."""
    return Environment(
        facekit=__version__,
        git_revision=_git_revision(),
        python=platform.python_version(),
        torch=str(torch.__version__),
        torchvision=str(torchvision.__version__),
        numpy=np.__version__,
        opencv=cv2.__version__,
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        processes=world_size(),
        cpu=_cpu(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        threads=torch.get_num_threads(),
    )


def describe(found: Environment) -> str:
    """The machine in a line."""
    parts = [found.cpu, f"{found.cores} cores", f"{found.threads} threads", platform.system()]
    return ", ".join(parts if found.device == "cpu" else [found.device, *parts])


def versions(found: Environment) -> dict[str, str]:
    """Of all that computes, the deployment runtimes too; packages that are not there are left out."""
    known = {
        "facekit": found.facekit,
        "git": found.git_revision,
        "python": found.python,
        "torch": found.torch,
        "torchvision": found.torchvision,
        "numpy": found.numpy,
        "opencv": found.opencv,
    }
    for package in RUNTIMES:
        with suppress(metadata.PackageNotFoundError):
            known[package] = metadata.version(package)
    return {name: version for name, version in known.items() if version}


def _git_revision() -> str:
    if not (PROJECT / ".git").exists():
        return ""
    command = ["git", "-C", str(PROJECT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):  # no git here
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:  # another system
        pass
    return platform.processor() or platform.machine()
