"""What the machine is made of, as far as detectors care: instruction sets, memory, GPUs."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

CPUINFO, MEMINFO = Path("/proc/cpuinfo"), Path("/proc/meminfo")
MEMORY_LIMITS = (  # of a container, version 2 and 1 of control groups
    Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)  # fmt: skip
NVIDIA_SMI_S = 10.0  # a driver that hangs must not hang us
# Those that the runtimes have kernels for, from the least to the fastest, as Linux names them on x86 and on Arm.
INSTRUCTION_SETS = {
    "sse4_2": "SSE4.2", "avx": "AVX", "f16c": "F16C", "fma": "FMA", "avx2": "AVX2", "avx512f": "AVX-512",
    "avx_vnni": "AVX-VNNI", "avx512_vnni": "AVX-512 VNNI", "avx512_bf16": "AVX-512 BF16",
    "avx512_fp16": "AVX-512 FP16", "amx_int8": "AMX INT8", "amx_bf16": "AMX BF16",
    "asimd": "NEON", "asimdhp": "FP16", "asimddp": "dot product", "i8mm": "INT8 matrices", "bf16": "BF16", "sve": "SVE",
}  # fmt: skip


def cpu_name() -> str:
    """As the system calls it; its architecture where it has no name."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def instruction_sets() -> tuple[str, ...]:
    """Of INSTRUCTION_SETS, in their order; none where the system doesn't say."""
    flags = set((_cpuinfo("flags") or _cpuinfo("Features")).split())
    return tuple(words for flag, words in INSTRUCTION_SETS.items() if flag in flags)


def _cpuinfo(key: str) -> str:
    """The first processor's; empty where there is no such file or key."""
    try:
        with CPUINFO.open(encoding="utf-8") as file:
            return next((line.partition(":")[2].strip() for line in file if line.split(":")[0].strip() == key), "")
    except OSError:  # another system
        return ""


def memory_bytes() -> int | None:
    """That this process may use: the machine's, or a container's limit below it; None: not known."""
    sizes = []
    try:
        with MEMINFO.open(encoding="utf-8") as file:
            sizes = [1024 * int(line.split()[1]) for line in file if line.startswith("MemTotal:")]
    except (OSError, ValueError, IndexError):  # another system
        pass
    for path in MEMORY_LIMITS:
        try:
            sizes.append(int(path.read_text(encoding="utf-8")))
        except (OSError, ValueError):  # no such group, or `max`
            continue
    return min(sizes, default=None)


def gpus() -> tuple[str, ...]:
    """Names of NVIDIA's GPUs with memory and driver, as its own program lists them; none without it."""
    command = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=NVIDIA_SMI_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return tuple(line.strip() for line in done.stdout.splitlines() if line.strip()) if done.returncode == 0 else ()
