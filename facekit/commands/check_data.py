"""The data check command: labels and pictures in, their defects out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from facekit.base.files import check_new
from facekit.base.options import (
    ADDRESS,
    CPUS_PER_WORKER,
    DATA_ROOT,
    ENGINE,
    GPUS_PER_WORKER,
    NUM_WORKERS,
    SHARD_SIZE,
    Engine,
    command_options,
    option,
    takes,
)
from facekit.errors import FacekitError

if TYPE_CHECKING:
    from facekit.cluster.pool import Workers
    from facekit.datasets.check import Checked, InspectAll, Inspected, Task
    from facekit.datasets.clean import Cleaned

log = logging.getLogger(__name__)


@command_options
class CheckOptions:
    """Options of a check."""

    labels: Path = option("Labels of any format.", positional=True, kw_only=False, reads=True)
    data_root: Path | None = option(DATA_ROOT, default=None, reads=True)
    against: Path | None = option("Labels of a set that must share no picture with this one.", default=None, reads=True)
    against_root: Path | None = option("Folder above that set's pictures [the same].", default=None, reads=True)
    fix: Path | None = option(
        "COCO json to write: the labels without what is wrong in them.", default=None, metavar="DST", writes=True
    )
    force: bool = option("Write over the file of --fix where it is there already.", default=False)
    json: Path | None = option("Every finding, for programs.", default=None, metavar="FILE", writes=True)
    strict: bool = option("Exit with 1 for warnings too.", default=False)
    workers: int = option("Processes that read data.", default=2, least=0)
    engine: Engine = option(ENGINE, default="local")
    address: str | None = option(ADDRESS, default=None)
    num_workers: int | None = option(NUM_WORKERS, default=None, least=1, most=100_000)
    cpus_per_worker: int = option(CPUS_PER_WORKER, default=1, least=1, most=1024)
    gpus_per_worker: float = option(GPUS_PER_WORKER, default=0.0, least=0, most=64)
    shard_size: int = option(SHARD_SIZE, default=64, least=1, most=100_000)


@dataclass(frozen=True)
class CheckResult:
    """What was found, and mended if asked for."""

    checked: Checked
    report: str
    cleaned: Cleaned | None
    cleaned_root: Path | None  # the data root that the mended labels are for
    is_fine: bool  # no errors; with `strict`, no warnings either


@takes(CheckOptions)
def check_data(options: CheckOptions) -> CheckResult:
    """Looks for defects in labels and pictures. Raises FacekitError for labels that can't be read at all."""
    from facekit.cluster.pool import workers_of
    from facekit.datasets.check import check
    from facekit.datasets.check_report import format_report, write_json
    from facekit.datasets.clean import check_destinations, clean, write_cleaned
    from facekit.labels.formats import read_labels, recognise, split_part
    from facekit.results.existing import check_replaceable_report

    workers = workers_of(options)
    check_destinations(options.fix, options.json, [options.labels, options.against])
    check_replaceable_report("list of findings", options.json)
    if options.fix is not None:
        check_new(options.fix, options.force)
    pictures = read_labels(options.labels, options.data_root, as_written=True)
    others = read_labels(options.against, options.against_root, as_written=True) if options.against else []
    inspect_all = None if workers is None else _over_cluster(workers, options.shard_size)
    is_yolo = recognise(split_part(options.labels)[0]).startswith("yolo")
    checked = check(pictures, others, options.workers, inspect_all, is_yolo)
    if options.json is not None:
        write_json(checked, options.json)
    report = format_report(checked)
    try:
        cleaned = clean(checked) if options.fix is not None else None
        root = write_cleaned(cleaned, options.fix) if cleaned is not None and options.fix is not None else None
    except FacekitError:
        log.info("%s", report)  # why nothing is left
        raise
    is_fine = not (checked.has("error") or (options.strict and checked.has("warning")))
    return CheckResult(checked, report, cleaned, root, is_fine)


def _over_cluster(workers: Workers, shard_size: int) -> InspectAll:
    """What looks at the pictures in the place of this machine's processes."""
    from facekit.cluster.mapping import mapped
    from facekit.errors import Interrupted

    def inspect_all(tasks: Sequence[Task]) -> list[Inspected]:
        results, received = mapped(_inspector, tasks, workers, shard_size, "pictures")
        found = [result for result in results if result is not None]
        if len(found) < len(tasks):
            raise Interrupted(f"Stopped after {len(found)} of {len(tasks)} pictures.", received)
        return found

    return inspect_all


def _inspector() -> Callable[[Sequence[Task]], list[Inspected]]:
    """Made once a worker."""
    import cv2

    from facekit.datasets.check import inspect

    cv2.setNumThreads(1)
    return lambda tasks: [inspect(task) for task in tasks]
