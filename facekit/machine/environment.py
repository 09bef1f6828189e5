"""What a run's figures depend on beside its flags: versions and the machine."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Annotated, Any

import cv2
import numpy as np

from facekit import __version__
from facekit.base.installation import checkout_dir
from facekit.base.schema import Range
from facekit.machine.processor import cpu_name

if TYPE_CHECKING:
    import torch

RUNTIMES = ("onnxruntime", "openvino", "pycocotools")


@dataclass(frozen=True)
class Environment:
    """Weights are bit-equal only where these are."""

    facekit: str
    git_revision: str  # empty where facekit comes from no git repository; "-dirty" with changes
    python: str
    torch: str  # empty, as torchvision, where it took no part
    torchvision: str
    numpy: str
    opencv: str
    device: str  # cpu, or the GPU's name
    processes: Annotated[int, Range(1, 4096)]
    cpu: str
    cores: Annotated[int, Range(0, 1_000_000)]  # that this process may use
    threads: Annotated[int, Range(0, 1_000_000)]  # of torch; 0 where it took no part

    def differences(self, now: Environment) -> list[str]:
        """What differs, as `torch 2.14.1 -> 2.15.0`."""
        pairs = ((part.name, getattr(self, part.name), getattr(now, part.name)) for part in dataclasses.fields(self))
        return [f"{name} {before} -> {after}" for name, before, after in pairs if before != after]


def environment(device: torch.device | str = "cpu") -> Environment:
    """Of this process, which computes on `device`. Imports no torch: without it, a detector runs as well."""
    torch: Any = sys.modules.get("torch")
    torchvision_version, processes, device_name = "", 1, "cpu"
    if torch is not None:
        from facekit.machine.processes import world_size

        with suppress(metadata.PackageNotFoundError):  # asked without importing it, which takes seconds
            torchvision_version = metadata.version("torchvision")
        processes = world_size()
        kind = torch.device(device)
        device_name = torch.cuda.get_device_name(kind) if kind.type == "cuda" else "cpu"
    return Environment(
        facekit=__version__,
        git_revision=_git_revision(),
        python=platform.python_version(),
        torch=str(torch.__version__) if torch is not None else "",
        torchvision=torchvision_version,
        numpy=np.__version__,
        opencv=cv2.__version__,
        device=device_name,
        processes=processes,
        cpu=cpu_name(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        threads=torch.get_num_threads() if torch is not None else 0,
    )


def describe(found: Environment) -> str:
    """The machine in a line."""
    threads = [f"{found.threads} threads"] if found.threads else []
    parts = [found.cpu, f"{found.cores} cores", *threads, platform.system()]
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
    checkout = checkout_dir()
    if checkout is None:
        return _installed_revision()
    if not (checkout / ".git").exists():  # or git would take a repository further up
        return ""
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):  # no git here
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _installed_revision() -> str:
    """Of `pip install git+https://...`, which notes it (PEP 610)."""
    with suppress(metadata.PackageNotFoundError, ValueError, AttributeError):
        origin = json.loads(metadata.distribution("facekit").read_text("direct_url.json") or "{}")
        return str(origin.get("vcs_info", {}).get("commit_id", ""))
    return ""
