"""Targets: what detectors are exported to and run in. One target a file, with both its ends; TARGETS says what each
consists of. Nothing heavier than NumPy is imported before a target is used."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from facekit.errors import FacekitError
from facekit.extras import optional_packages
from facekit.ops.head import declared_head
from facekit.structures import Activated, Decoded
from facekit.template import Template

log = logging.getLogger(__name__)

TIMED_RUNS = 5  # of each runtime, where the fastest is looked for


class Backend(Protocol):
    """A loaded network of some runtime."""

    template: Template  # the one it was opened with, or that its file names
    fixed_size_hw: tuple[int, int] | None  # the only size of picture that it takes; None: any
    fixed_batch: int | None  # the only number of pictures that it takes at once; None: any

    def __call__(self, images_bgr: NDArray[np.uint8]) -> Activated | Decoded:
        """(B, H, W, 3) BGR pixels 0..255 of the size that the network takes -> what it says of all priors, or of
        boxes that it has decoded itself."""


@dataclass(frozen=True)
class Target:
    """One way to deploy a detector."""

    name: str
    module: str  # below facekit.targets: `open_weights` runs, `write` exports
    suffixes: tuple[str, ...]  # of the files that it consists of; the first one is what is opened
    package: str  # that must be importable to run it; facekit.extras knows what brings it
    writes: bool  # whether export can make it
    also: tuple[str, ...] = ()  # other suffixes of the same content


TARGETS = {
    target.name: target
    for target in (
        Target("pytorch", "pytorch", (".pth",), "torch", writes=False, also=(".pt", ".tar", ".safetensors")),
        Target("onnx", "onnx", (".onnx",), "onnxruntime", writes=True),
        Target("openvino", "openvino", (".xml", ".bin"), "openvino", writes=True),
        # Other runtimes of the same .onnx, by name only.
        Target("opencv", "opencv", (".onnx",), "cv2", writes=False),
    )
}
WEIGHT_SUFFIXES = (".pth", ".pt", ".tar", ".safetensors", ".onnx", ".xml", ".bin")
BACKENDS = ("auto", *TARGETS)  # facekit.options.Runtime lists the same for the command line


def open_backend(
    weights: Path,
    template: Template | None = None,
    device: str | None = None,
    threads: int | None = None,
    backend: str | None = None,
) -> Backend:
    """Loads weights of any kind that we run.

    `template`: None where the file names its own. `device` is PyTorch's ("cpu", "cuda"); None: a GPU where there is
    one. `threads`: None for the cores that this process may use. `backend`: a name of TARGETS, `auto` for the runtime
    that is the fastest here of those that are installed and read the file, None for the file's own.
    Raises FacekitError for a file that is missing, unknown, damaged or of another detector.
    """
    if not weights.is_file():
        raise FacekitError(f"{weights}: there are no such weights. Check the path.")
    if threads is not None and threads < 1:
        raise FacekitError(f"threads: expected 1 or more, got {threads}.")
    if backend == "auto":
        return _fastest(weights, template, device, threads)
    return _open(_choose(weights, backend), weights, template, device, threads)


def _open(target: Target, weights: Path, template: Template | None, device: str | None, threads: int | None) -> Backend:
    opened: Backend = load_target(target).open_weights(weights, template, device, threads)
    return opened


def _fastest(weights: Path, template: Template | None, device: str | None, threads: int | None) -> Backend:
    """Of the runtimes that are installed and read the file, the one that is the fastest with a picture, here and now:
    which it is differs with processors, sizes and versions."""
    own = _choose(weights, None)
    rivals = [own]
    if own.name == "onnx" and importlib.util.find_spec("openvino") is not None:
        rivals.append(TARGETS["openvino"])  # which reads .onnx as well
    opened = {target.name: _open(target, weights, template, device, threads) for target in rivals}
    if len(opened) == 1:
        return opened[own.name]
    times_ms = {name: _time_ms(backend) for name, backend in opened.items()}
    fastest = min(times_ms, key=lambda name: times_ms[name])
    log.info("Backend auto: %s (%s)", fastest, ", ".join(f"{name} {ms:.1f} ms" for name, ms in times_ms.items()))
    return opened[fastest]


def _time_ms(backend: Backend) -> float:
    """The least of some runs of a picture: of the graph's size, or about 320 x 320."""
    coarsest = declared_head(backend.template.model).strides[-1]
    height, width = backend.fixed_size_hw or (-(-320 // coarsest) * coarsest,) * 2
    picture = np.zeros((1, height, width, 3), dtype=np.uint8)
    times = []
    for _ in range(1 + TIMED_RUNS):  # the first one is slow
        started = time.perf_counter()
        backend(picture)
        times.append(time.perf_counter() - started)
    return 1e3 * min(times[1:])


def load_target(target: Target) -> Any:
    """The target's module. Raises FacekitError that names the extra where its package is not installed."""
    with optional_packages():
        return importlib.import_module(f"facekit.targets.{target.module}")


def _choose(weights: Path, backend: str | None) -> Target:
    suffix = weights.suffix.lower()
    fitting = [target for target in TARGETS.values() if suffix in (*target.suffixes, *target.also)]
    if not fitting:
        raise FacekitError(f"{weights}: unknown kind of weights; expected one of {', '.join(WEIGHT_SUFFIXES)}.")
    if backend is None:
        return fitting[0]
    if backend == "openvino" and suffix == ".onnx":
        return TARGETS["openvino"]
    by_name = {target.name: target for target in fitting}
    if backend not in by_name:
        names = ", ".join(("auto", *by_name, *(["openvino"] if suffix == ".onnx" else [])))
        raise FacekitError(f"backend {backend!r}: can't run {weights.name}; expected one of {names}.")
    return by_name[backend]


def with_template(template: Template | None, named: str | None, weights: Path) -> Template:
    """The template given, or else the bundled one that the file names.

    Raises FacekitError where neither is there.
    """
    from facekit.template import find_template, load_template

    if template is not None:
        return template
    if named is None:
        raise FacekitError(f"{weights}: says nothing of its template. Give it: template, such as yunet-n.")
    return load_template(find_template(named))
