"""The doctor command: what facekit finds on this machine, whether it works, what is missing and what brings it."""

from __future__ import annotations

import dataclasses
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Any, Literal

from facekit.base.extras import PACKAGES, explain_import_error
from facekit.base.options import command_options, option, takes
from facekit.errors import FacekitError

BASE_PACKAGES = ("numpy", "cv2", "onnxruntime", "yaml", "click", "tqdm")
LEAST_FREE_BYTES = 2 << 30
TRIED_SIDE, TRIED_RUNS = 320, 5  # of the picture that the bundled detector is tried with
GIB = 1 << 30


@command_options
class DoctorOptions:
    """Options of looking around."""

    json: bool = option("For programs.", default=False)


@dataclass(frozen=True)
class Package:
    """One package that facekit uses."""

    name: str  # as it is imported
    version: str | None  # None: not installed
    extra: str  # of facekit's, that brings it; empty: the base install
    needed_for: str

    @property
    def command(self) -> str:
        """What installs it."""
        return f'pip install "facekit[{self.extra}]"' if self.extra else "pip install --force-reinstall facekit"


@dataclass(frozen=True)
class Finding:
    """Something that is wrong, or could be better."""

    level: Literal["error", "warning"]
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.level}: {self.what} {self.remedy}"


@dataclass(frozen=True)
class Diagnosis:
    """What was found."""

    facekit: str
    folder: str  # where the package lies
    python: str
    executable: str
    system: str
    cpu: str
    instruction_sets: tuple[str, ...]
    cores: int  # that this process may use: affinity and quota
    machine_cores: int
    core_quota: float | None  # of the control group; None: no limit
    memory_bytes: int | None
    gpus: tuple[str, ...]
    onnx_providers: tuple[str, ...]  # what ONNX Runtime can run on
    packages: tuple[Package, ...]
    detect_ms: float | None  # the bundled detector, a picture of TRIED_SIDE squared, all cores; None: it failed
    cache: str
    cache_bytes: int
    free_bytes: int | None
    findings: tuple[Finding, ...]

    @property
    def is_well(self) -> bool:
        """Whether the base install works; missing extras are no illness."""
        return not any(finding.level == "error" for finding in self.findings)

    @property
    def missing(self) -> dict[str, list[Package]]:
        """What is not installed, by the command that brings it."""
        rows: dict[str, list[Package]] = {}
        for package in self.packages:
            if package.version is None:
                rows.setdefault(package.command, []).append(package)
        return rows

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        rows = [
            dataclasses.asdict(package) | {"command": None if package.version else package.command}
            for package in self.packages
        ]
        return dataclasses.asdict(self) | {"packages": rows, "is_well": self.is_well}

    def text(self) -> str:
        """As the command line prints it."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        quota = "" if self.core_quota is None else f", quota {self.core_quota:g}"
        memory = "unknown" if self.memory_bytes is None else f"{self.memory_bytes / GIB:.1f} GiB"
        free = "unknown" if self.free_bytes is None else f"{self.free_bytes / GIB:.1f} GiB free"
        tried = "does not run" if self.detect_ms is None else f"runs, {self.detect_ms:.1f} ms a picture of "
        rows = [
            ("facekit", f"{self.facekit}, {self.folder}"),
            ("Python", f"{self.python}, {self.executable}"),
            ("system", self.system),
            ("processor", self.cpu),
            ("", ", ".join(self.instruction_sets) or "instruction sets unknown"),
            ("cores", f"{self.cores} to use; the machine has {self.machine_cores}{quota}"),
            ("memory", memory),
            *(("GPU", gpu) for gpu in self.gpus or ("none of NVIDIA's",)),
            ("ONNX Runtime on", ", ".join(name.removesuffix("ExecutionProvider") for name in self.onnx_providers)),
            ("detector", tried if self.detect_ms is None else f"{tried}{TRIED_SIDE}x{TRIED_SIDE}, {self.cores} cores"),
            ("cache", f"{self.cache}, {self.cache_bytes / (1 << 20):.1f} MiB"),
            ("disk", free),
        ]
        yield from (f"{name:<16} {value}".rstrip() for name, value in rows)
        yield from ("", "Packages")
        width = max(len(package.name) for package in self.packages)
        for package in self.packages:
            if package.version is not None:
                yield f"  {package.name:<{width}}  {package.version}"
        if self.missing:
            yield from ("", "Not installed")
        for command, packages in self.missing.items():
            needed = "; ".join(dict.fromkeys(package.needed_for for package in packages))
            yield f"  {', '.join(package.name for package in packages)}: {needed}"
            yield f"    {command}"
        yield ""
        yield from map(str, self.findings)
        yield "All is well." if not self.findings else "It works." if self.is_well else "It doesn't work."


@takes(DoctorOptions)
def doctor(options: DoctorOptions) -> Diagnosis:
    """Looks at Python, processor, GPU, packages, cache and disk, and tries the bundled detector."""
    from facekit import __version__
    from facekit.base.installation import package_dir
    from facekit.machine.cores import core_quota, usable_cores
    from facekit.machine.processor import cpu_name, gpus, instruction_sets, memory_bytes
    from facekit.weights.snapshots import cache_dir

    packages = tuple(_packages())
    found_gpus, providers, cache = gpus(), _onnx_providers(), cache_dir()
    detect_ms, trouble = _try_detector()
    free = _free_bytes(cache)
    findings = [*trouble, *_two_opencvs(), *_disk(cache, free), *_idle_gpu(found_gpus, providers, packages)]
    findings += _threads(usable_cores())
    return Diagnosis(
        facekit=__version__,
        folder=str(package_dir()),
        python=platform.python_version(),
        executable=sys.executable,
        system=f"{platform.system()} {platform.release()}, {platform.machine()}",
        cpu=cpu_name(),
        instruction_sets=instruction_sets(),
        cores=usable_cores(),
        machine_cores=os.cpu_count() or 1,
        core_quota=core_quota(),
        memory_bytes=memory_bytes(),
        gpus=found_gpus,
        onnx_providers=providers,
        packages=packages,
        detect_ms=detect_ms,
        cache=str(cache),
        cache_bytes=_size_of(cache),
        free_bytes=free,
        findings=tuple(findings),
    )


def _packages() -> Iterator[Package]:
    owners = metadata.packages_distributions()
    for name in BASE_PACKAGES:
        yield Package(name, _version(name, owners), "", "everything")
    for name, (extra, needed_for) in PACKAGES.items():
        yield Package(name, _version(name, owners), extra, needed_for)


def _version(name: str, owners: Any) -> str | None:
    """Of an import name, without importing it: heavy ones take seconds."""
    if util.find_spec(name) is None:
        return None
    for owner in owners.get(name, ()):
        try:
            return metadata.version(owner)
        except metadata.PackageNotFoundError:  # half removed
            continue
    return "unknown"


def _onnx_providers() -> tuple[str, ...]:
    try:
        import onnxruntime
    except ImportError:
        return ()
    return tuple(onnxruntime.get_available_providers())


def _try_detector() -> tuple[float | None, list[Finding]]:
    """Milliseconds of a picture, or what went wrong."""
    try:
        import numpy as np

        from facekit.detector import Detector

        detector = Detector.bundled()
        picture = np.zeros((TRIED_SIDE, TRIED_SIDE, 3), dtype=np.uint8)
        times = []
        for _ in range(TRIED_RUNS):
            started = time.perf_counter()
            detector.detect(picture)
            times.append(1e3 * (time.perf_counter() - started))
    except ImportError as error:
        said = str(explain_import_error(error) or error)
        return None, [Finding("error", f"The detector can't be loaded: {said}", "Install facekit again.")]
    except (FacekitError, OSError) as error:
        return None, [Finding("error", f"The bundled detector does not run: {error}", "Install facekit again.")]
    return min(times), []


def _two_opencvs() -> list[Finding]:
    kinds = [name for name in ("opencv-python", "opencv-python-headless", "opencv-contrib-python",
                               "opencv-contrib-python-headless") if _is_installed(name)]  # fmt: skip
    if len(kinds) < 2:
        return []
    remedy = f"Keep one: pip uninstall {' '.join(kinds)}, then pip install {kinds[0]}"
    return [Finding("warning", f"{' and '.join(kinds)} write the same files over each other.", remedy)]


def _is_installed(distribution: str) -> bool:
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True


def _disk(cache: Path, free: int | None) -> list[Finding]:
    found = []
    if not os.access(_existing(cache), os.W_OK):
        found.append(Finding("warning", f"{cache}: can't be written.", "Set FACEKIT_CACHE to a folder that can."))
    if free is not None and free < LEAST_FREE_BYTES:
        what = f"{cache}: only {free / GIB:.1f} GiB are free on its disk."
        found.append(Finding("warning", what, "Make room, or set FACEKIT_CACHE to a folder on another disk."))
    return found


def _idle_gpu(found: tuple[str, ...], providers: tuple[str, ...], packages: tuple[Package, ...]) -> list[Finding]:
    """A GPU that the installed packages can't use."""
    if not found:
        return []
    findings = []
    if "CUDAExecutionProvider" not in providers:
        remedy = "pip uninstall onnxruntime && pip install onnxruntime-gpu"
        findings.append(Finding("warning", "ONNX Runtime can't use the GPU.", f"For it to: {remedy}"))
    torch = next((package.version for package in packages if package.name == "torch"), None)
    if torch is not None and "+cpu" in torch:
        remedy = "Install one with CUDA: https://pytorch.org/get-started/locally"
        findings.append(Finding("warning", f"PyTorch {torch} can't use the GPU.", remedy))
    return findings


def _threads(cores: int) -> list[Finding]:
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if not wanted.isdigit() or int(wanted) <= cores:
        return []
    what = f"OMP_NUM_THREADS={wanted}, but this process may use {cores} cores: threads wait for each other."
    return [Finding("warning", what, f"Set OMP_NUM_THREADS={cores}, or unset it.")]


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    return next((part for part in (path, *path.parents) if part.exists()), path)


def _free_bytes(path: Path) -> int | None:
    try:
        return shutil.disk_usage(_existing(path)).free
    except OSError:
        return None


def _size_of(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() and not path.is_symlink() else 0
        except OSError:  # gone meanwhile
            continue
    return total
