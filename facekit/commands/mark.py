"""The data mark command: labels or bare pictures in, labels completed by a detector out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from facekit.base.options import (
    ADDRESS,
    BACKEND,
    CPUS_PER_WORKER,
    DATA_ROOT,
    ENGINE,
    GPUS_PER_WORKER,
    LAYOUT,
    MULTI_SCALE,
    NUM_WORKERS,
    SHARD_SIZE,
    THREADS,
    Engine,
    Runtime,
    command_options,
    option,
    takes,
)
from facekit.commands.inputs import choose_detector
from facekit.pictures.headers import MAX_PIXELS

if TYPE_CHECKING:
    from facekit.commands.marking import Marked
    from facekit.errors import Loss


@command_options
class MarkOptions:
    """Options of completing labels."""

    source: Path = option("Labels of any format, or pictures.", positional=True, kw_only=False, reads=True)
    destination: Path = option("The COCO json to write.", positional=True, kw_only=False, writes=True)
    force: bool = option("Write over DESTINATION where it is there already.", default=False)
    data_root: Path | None = option(DATA_ROOT, default=None, reads=True)
    unlabelled: bool = option("SOURCE is pictures (a folder or a file), or labels to pass over.", default=False)
    template: str | None = option(
        "The detector's: name, template.yaml or work dir [as the weights say; the bundled detector's].",
        default=None,
        template=True,
    )
    load_weights: Path | None = option(
        "Its weights: .pth, .onnx, .xml or another exported file; bundled [a work dir's best or newest; else bundled].",
        default=None, reads=True, names=("bundled",),
    )  # fmt: skip
    threshold: float = option("Least score taken.", default=0.3, least=0, most=1)
    threads: int | None = option(THREADS, default=None, least=1, most=1024)
    backend: Runtime | None = option(BACKEND, default=None)
    layout: str | None = option(LAYOUT, default=None, metavar="NAME")
    multi_scale: tuple[float, ...] = option(MULTI_SCALE, default=(1.0,), metavar="[FACTORS]", bare_value="0.5,1,2")
    max_pixels: int = option(
        "Refuse larger pictures, by their header, before they fill the memory.",
        default=MAX_PIXELS, least=1, most=1 << 30, metavar="N",
    )  # fmt: skip
    engine: Engine = option(ENGINE, default="local")
    address: str | None = option(ADDRESS, default=None)
    num_workers: int | None = option(NUM_WORKERS, default=None, least=1, most=100_000)
    cpus_per_worker: int = option(CPUS_PER_WORKER, default=1, least=1, most=1024)
    gpus_per_worker: float = option(GPUS_PER_WORKER, default=0.0, least=0, most=64)
    shard_size: int = option(SHARD_SIZE, default=64, least=1, most=100_000)


@dataclass(frozen=True)
class MarkResult:
    """What was written."""

    path: Path
    marked: Marked
    protocol: str  # of the detector, and the least score

    @property
    def losses(self) -> list[Loss]:
        """Pictures that could not be read."""
        return self.marked.losses

    def text(self) -> str:
        return f"{self.path}; {self.marked.text()} ({self.protocol})"


@takes(MarkOptions)
def mark(options: MarkOptions) -> MarkResult:
    """Completes labels by a detector, as COCO json: landmarks for the faces that have none, or, with `unlabelled`, the
    faces themselves; each with the detector's score.

    Raises FacekitError for what can't be read or written, and Interrupted, what is done being written, where a signal
    asks for the end.
    """
    chosen = choose_detector(options.load_weights, options.template, options.threads, options.backend, options.layout)

    from facekit.cluster.pool import workers_of
    from facekit.commands.marking import mark as run
    from facekit.commands.marking import plan_mark, write_marked
    from facekit.detector import Passes
    from facekit.errors import Interrupted

    workers = workers_of(options)
    passes = Passes(options.multi_scale, large_faces=True)
    pictures = plan_mark(options.source, options.destination, options.data_root, options.unlabelled, options.force)
    detector = chosen.open(passes)
    find = None
    if workers is not None:
        from facekit.commands.marking_over_cluster import finder

        threads = options.threads or workers.cpus
        find = finder(chosen.packed(passes, threads), workers, options.shard_size)
    marked = run(pictures, detector, options.threshold, options.max_pixels, find)
    root = options.source if options.unlabelled and options.source.is_dir() else None
    write_marked(options.destination, marked, root)
    result = MarkResult(options.destination, marked, f"{detector.protocol()}; score over {options.threshold:g}")
    if marked.stopped_by:
        raise Interrupted(f"Stopped: what was marked so far is in {result.text()}", marked.stopped_by)
    return result
