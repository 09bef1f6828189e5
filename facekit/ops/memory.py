"""Large tensors without page faults."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_LARGEST = 2**31 - 1


def keep_freed_memory() -> None:
    """Asks glibc to keep freed blocks for the next tensor of that size instead of giving them back to the kernel.

    Each step of training frees and asks for the same hundreds of megabytes; by default every block above 32 MiB is
    mapped and zeroed anew, which took over half of a step's time. No effect where the C library is another.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST)
        mallopt(_M_TRIM_THRESHOLD, _LARGEST)
