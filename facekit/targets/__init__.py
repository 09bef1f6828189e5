"""Targets: what detectors are exported to and run in. One target a file, with both its ends; table.py says what each
consists of. Nothing heavier than NumPy is imported before a target is used."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from facekit.base.extras import optional_packages
from facekit.errors import ArgumentError, FacekitError
from facekit.ops.head import declared_head
from facekit.structures import Activated, Decoded
from facekit.targets.table import BACKENDS, TARGETS, WEIGHT_SUFFIXES, Target, files_of, main_file
from facekit.template import Template
from facekit.weights.missing import missing_weights

if TYPE_CHECKING:
    from facekit.targets.reading.layouts import Layout

__all__ = [
    "BACKENDS", "MOST_THREADS", "TARGETS", "WEIGHT_SUFFIXES", "Backend", "Given", "Target", "files_of", "load_target",
    "open_backend", "pictures_at_once", "streaming", "takes_threads",
]  # fmt: skip

log = logging.getLogger(__name__)

Given: TypeAlias = "Template | Layout | None"  # what the user says of a file

MOST_THREADS = 1024  # runtimes start as many as they are told, and with a million of them never end starting
TIMED_RUNS = 5  # of each runtime, where the fastest is looked for


class Backend(Protocol):
    """A loaded network of some runtime."""

    template: Template  # the one it was opened with, or that its file names
    fixed_size_hw: tuple[int, int] | None  # the only size of picture that it takes; None: any
    fixed_batch: int | None  # the only number of pictures that it takes at once; None: any
    suppresses: bool = False  # boxes, by thresholds of its own
    most_pixels: int | None = None  # of a batch, beyond which pictures take longer together than alone
    least_side: int = 1  # in pixels, of the pictures that one of any size takes
    most_side: int | None = None
    is_parallel: bool = False  # threads may call it at the same time; where not, Detector lets in one after the other

    def __call__(self, images_bgr: NDArray[np.uint8]) -> Activated | Decoded:
        """(B, H, W, 3) BGR pixels 0..255 of the size that the network takes -> what it says of all priors, or of
        boxes that it has decoded itself."""


class Stream(Backend, Protocol):
    """One that keeps several pictures on their way."""

    def many(self, batches: Iterable[NDArray[np.uint8]]) -> Iterator[Activated | Decoded]:
        """What is said of each (1, H, W, 3), in their order."""


def pictures_at_once(backend: Backend, size_hw: tuple[int, int]) -> int:
    """How many pictures of that size go through a network together: what it takes, or else what is fastest."""
    if backend.fixed_batch is not None:
        return backend.fixed_batch
    if backend.most_pixels is None:
        return sys.maxsize
    return max(1, backend.most_pixels // (size_hw[0] * size_hw[1]))


def streaming(backend: Backend, weights: Path) -> Stream:
    """The backend's network for many pictures. Raises ArgumentError for runtimes that have no such mode."""
    make: Callable[[], Stream] | None = getattr(backend, "streaming", None)
    if make is None:
        hint = " OpenVINO has, which reads it: say `backend=openvino`." if weights.suffix.lower() == ".onnx" else ""
        raise ArgumentError(f"`mode=throughput`: {weights.name} runs in a runtime that has no such mode.{hint}")
    return make()


def open_backend(
    weights: Path,
    template: Template | None = None,
    device: str | None = None,
    threads: int | None = None,
    backend: str | None = None,
    layout: str | None = None,
) -> Backend:
    """Loads weights of any kind that we run.

    `template`: None where the file names its own, or tells by its outputs what it is. `layout`: a name of
    facekit.targets.reading.layouts, in place of a template, for a file that can't. `device` is PyTorch's ("cpu",
    "cuda"); None: a GPU where there is one; runtimes of the CPU alone warn of others. `threads`: 1 to MOST_THREADS,
    None for the cores that this process may use. `backend`: a name of TARGETS, `auto` for the runtime that is the
    fastest here of those that are installed and read the file, None for the file's own.
    Raises FacekitError for a file that is missing, unknown, damaged or of another detector.
    """
    weights = main_file(weights)
    if not weights.is_file():
        raise missing_weights(weights)
    if threads is not None and not 1 <= threads <= MOST_THREADS:
        raise FacekitError(f"threads: expected 1 to {MOST_THREADS}, got {threads}.")
    given = template if layout is None else _told_layout(weights, template, layout)
    if backend == "auto":
        return _fastest(weights, given, device, threads)
    return _open(_choose(weights, backend), weights, given, device, threads)


def _told_layout(weights: Path, template: Template | None, layout: str) -> Layout:
    from facekit.targets.reading.layouts import find_layout
    from facekit.targets.reading.outputs import GRAPH_SUFFIXES

    if template is not None:
        raise ArgumentError(f"`layout={layout}` stands in place of a template: leave `template` out.")
    if weights.suffix.lower() not in GRAPH_SUFFIXES:
        raise ArgumentError(f"`layout={layout}` is for others' .onnx, .xml and .bin files, not {weights.name}.")
    return find_layout(layout)


def _open(target: Target, weights: Path, template: Given, device: str | None, threads: int | None) -> Backend:
    if device not in (None, "cpu") and not target.takes_device:
        log.warning("device %s: %s runs on the CPU alone, and %s with it.", device, target.name, weights.name)
    if threads is not None and not target.takes_threads:
        log.warning("threads %d: %s takes as many as it likes. Leave it out.", threads, target.name)
    opened: Backend = load_target(target).open_weights(weights, template, device, threads)
    return opened


def _fastest(weights: Path, template: Given, device: str | None, threads: int | None) -> Backend:
    """Of the runtimes that are installed and read the file, the one that is the fastest with a picture, here and now:
    which it is differs with processors, sizes and versions."""
    own = _choose(weights, None)
    rivals = [own]
    may_use_cpu = device in (None, "cpu")  # all that the rival has
    if own.name == "onnx" and may_use_cpu and importlib.util.find_spec("openvino") is not None:
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


def takes_threads(weights: Path, backend: str | None) -> bool:
    """Whether the runtime of the weights can be told how many. Raises as open_backend()."""
    return backend == "auto" or _choose(main_file(weights), backend).takes_threads


def load_target(target: Target) -> Any:
    """The target's module. Raises FacekitError that names the extra where its package is not installed."""
    with optional_packages():
        return importlib.import_module(f"facekit.targets.{target.module}")


def _choose(weights: Path, backend: str | None) -> Target:
    fitting = [target for target in TARGETS.values() if weights.suffix.lower() in target.reads]
    if not fitting:
        raise FacekitError(f"{weights}: unknown kind of weights; expected one of {', '.join(WEIGHT_SUFFIXES)}.")
    if backend is None:
        return fitting[0]
    by_name = {target.name: target for target in fitting}
    if ".onnx" in fitting[0].reads:
        by_name["openvino"] = TARGETS["openvino"]  # which reads .onnx as well, if told to
    if backend not in by_name:
        names = ", ".join(("auto", *by_name))
        raise FacekitError(f"backend {backend!r}: can't run {weights.name}; expected one of {names}.")
    return by_name[backend]
