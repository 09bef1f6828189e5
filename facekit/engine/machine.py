"""What a figure was measured with: versions and the machine."""

from __future__ import annotations

import os
import platform
import re
from importlib import metadata
from pathlib import Path

from facekit import __version__

PACKAGES = ("torch", "torchvision", "numpy", "opencv-python", "onnxruntime", "openvino", "pycocotools")


def versions() -> dict[str, str]:
    """Of facekit, Python, and what computes; packages that are not there are left out."""
    found = {"facekit": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def describe_machine() -> str:
    """The processor, how much of it, and the GPU where there is one."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parts = [_processor(), f"{cores} cores", f"{torch.get_num_threads()} threads", platform.system()]
    if torch.cuda.is_available():
        parts.insert(0, torch.cuda.get_device_name())
    return ", ".join(parts)


def _processor() -> str:
    try:
        match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        match = None
    return match[1].strip() if match else platform.processor() or platform.machine()
