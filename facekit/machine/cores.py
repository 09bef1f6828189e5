"""How many cores a process may really use: its affinity and its control group's quota, not what the machine has."""

from __future__ import annotations

import os
from pathlib import Path

CGROUP_ROOT = Path("/sys/fs/cgroup")


def usable_cores() -> int:
    """At least 1. A container with a quota of one core on a machine of two gives 1: with two threads each would wait
    for the other's share, and detection takes twice the time."""
    try:
        affinity = len(os.sched_getaffinity(0))
    except AttributeError:  # no such thing on this system
        affinity = os.cpu_count() or 1
    quota = core_quota()
    return max(1, affinity if quota is None else min(affinity, int(quota)))


def core_quota() -> float | None:
    """Cores that the process's control group is given, which may be a fraction; None: no limit is known."""
    return _quota(Path("/proc/self/cgroup"), CGROUP_ROOT)


def _quota(membership: Path, root: Path) -> float | None:
    """The least quota, in cores, of this process's control group and those above it; None: no limit is known."""
    try:
        lines = membership.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    quotas = []
    for line in lines:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers == "":  # version 2: one tree
            read, base = _quota_v2, root
        elif "cpu" in controllers.split(","):
            read, base = _quota_v1, root / "cpu"
        else:
            continue
        folder = base / path.lstrip("/")
        # In a container the path is often that of the host, and the root is the container's own group.
        quotas += [read(level) for level in (folder, *folder.parents) if level == base or base in level.parents]
    known = [quota for quota in quotas if quota is not None]
    return min(known, default=None)


def _quota_v2(folder: Path) -> float | None:
    try:
        limit, period = (folder / "cpu.max").read_text(encoding="utf-8").split()[:2]
        return None if limit == "max" else int(limit) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _quota_v1(folder: Path) -> float | None:
    try:
        limit = int((folder / "cpu.cfs_quota_us").read_text(encoding="utf-8"))
        period = int((folder / "cpu.cfs_period_us").read_text(encoding="utf-8"))
        return limit / period if limit > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None
