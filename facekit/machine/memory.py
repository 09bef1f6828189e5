"""Large tensors without page faults."""

from __future__ import annotations

import ctypes
import mmap
import sys
from pathlib import Path
from typing import Any

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_LARGEST = 2**31 - 1
RESIDENT_LIMIT = 1000 << 20  # bytes; PyTorch alone takes 700 MiB


def keep_freed_memory() -> None:
    """Asks glibc to keep freed blocks for the next tensor of that size instead of giving them back to the kernel.

    Each step of training frees and asks for the same hundreds of megabytes; by default every block above 32 MiB is
    mapped and zeroed anew, which took over half of a step's time. No effect where the C library is another.
    """
    mallopt = _of_glibc("mallopt")
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST)
        mallopt(_M_TRIM_THRESHOLD, _LARGEST)


def give_back_freed_memory(resident_limit: int = RESIDENT_LIMIT) -> None:
    """Hands what is free back to the kernel where the process holds more bytes than that: pictures of many sizes leave
    gaps that the next one doesn't fit into, so that a long evaluation grows to twice what it needs; frames that one
    thread makes and another frees do so, too."""
    trim = _of_glibc("malloc_trim")
    if trim is not None and _resident_bytes() > resident_limit:
        trim(0)


def _of_glibc(name: str) -> Any:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE
