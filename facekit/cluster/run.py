"""A run over many pictures: planned, shared out, noted as it proceeds, and checked before it is said to be done."""

from __future__ import annotations

import itertools
import logging
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facekit.base.progress import progress_bar
from facekit.base.reading import shown
from facekit.cluster.looking import Format, LookAtShards, Looking, Output, Part, write_part
from facekit.cluster.manifest import Manifest
from facekit.cluster.packed import PackedDetector
from facekit.cluster.pool import Workers, over_workers, ray_of
from facekit.cluster.shards import Plan, write_plan
from facekit.cluster.sources import Sources
from facekit.cluster.stores import Entry, checked_name, is_store, names_in, read_bytes, remove_folder, writing
from facekit.cluster.trials import Trial
from facekit.errors import FacekitError, Interrupted, Loss, counted, masked
from facekit.machine.cores import usable_cores
from facekit.machine.signals import StopSignals
from facekit.results.json_files import read_jsonl
from facekit.results.parquet import read_parquet
from facekit.results.row import Row, Run

log = logging.getLogger(__name__)

MAX_PART_BYTES = 2 << 30
Item = tuple[int, int, int]  # a shard's number, and where its line in the plan begins and ends


class FirstLosses(Sequence[Loss]):
    """Of so many losses the first: the parts hold the others' reasons."""

    def __init__(self, first: Sequence[Loss], total: int) -> None:
        self._first, self._total = list(first), total

    def __len__(self) -> int:
        return self._total

    def __getitem__(self, index: Any) -> Any:
        return self._first[index]


Numbered = tuple[int, Row]  # with the number of the shard that it belongs to
Join = Callable[[Iterable[Numbered]], Iterator[Numbered]]


@dataclass(frozen=True)
class Job:
    """What is to be done."""

    sources: Sources
    outputs: tuple[Output, ...]
    detector: PackedDetector
    made_with: Run
    shard_size: int
    batch_size: int
    every: int
    join: Join  # makes of videos' rows, in order, what the plain run says
    max_pixels: int
    resume: bool


@dataclass(frozen=True)
class Done:
    """What was written, in all runs that had to do with it."""

    outputs: tuple[Output, ...]
    parts: int
    rows: int
    faces: int
    unread: int  # rows without a picture
    losses: FirstLosses  # names that stand for nothing, then pictures; of these the lost before the cut

    def text(self) -> str:
        folders = ", ".join(output.folder for output in self.outputs)
        return f"{folders}: {counted(self.parts, 'part')}, {counted(self.rows, 'row')}, {counted(self.faces, 'face')}"


def output_of(format: Format, folder: str) -> Output:
    """Of a folder as it is named here; workers may have another current one. Raises FacekitError for an address that
    isn't known."""
    name = checked_name(folder).rstrip("/")
    return Output(format, name if is_store(name) else str(Path(name).absolute()))


def run(job: Job, workers: Workers | None) -> Done:
    """Does what is not done yet; workers: None for this process alone.

    Raises FacekitError where nothing can be read or written, and Interrupted, what is done being kept, where a signal
    asks for the end.
    """
    manifest, plan, changes = _begun(job)
    todo = [
        (shard, plan.starts[shard], plan.starts[shard + 1]) for shard in range(len(plan)) if shard not in manifest.done
    ]
    looking = Looking(
        job.detector, job.made_with, job.batch_size, job.every, job.max_pixels, plan.file,
        (Output("jsonl", manifest.raw),) if plan.videos else job.outputs, manifest.scratch,
        workers.cpus if workers else usable_cores(),
    )  # fmt: skip
    parts = _here(looking, todo) if workers is None else _in_ray(looking, todo, workers)
    total = None if plan.unknown else plan.pictures
    bar = progress_bar(None, total=total, initial=manifest.rows, desc="detecting", unit="picture")
    received, has_failed = 0, False
    try:
        with closing(parts), bar:
            for part in parts if todo else ():
                if isinstance(part, int):
                    received = part
                    break
                if manifest.add(part):
                    bar.update(part.rows)
        if plan.videos and not received and not manifest.is_joined:
            _join(job, manifest, looking.outputs[0], len(plan))
    except FacekitError:
        has_failed = True
        raise
    finally:
        # An address that nobody answers at, say, leaves nothing to go on with.
        if has_failed and not manifest.done and not any(map(_has_parts, job.outputs)):
            remove_folder(manifest.folder)
        else:
            manifest.write()
            remove_folder(manifest.scratch)
    if received:
        raise Interrupted(
            f"Stopped after {len(manifest.done)} of {len(plan)} shards, which are kept: go on with `resume=True`.",
            received,
        )
    _check(job.outputs, len(plan))
    losses = FirstLosses(
        changes + manifest.losses + manifest.cuts,
        len(changes) + manifest.lost + manifest.names_lost + manifest.cut,
    )  # fmt: skip
    return Done(job.outputs, len(plan), manifest.rows, manifest.faces, manifest.lost, losses)


def _begun(job: Job) -> tuple[Manifest, Plan, list[Loss]]:
    """The manifest, and the plan: those of the run that is gone on with, or new ones; and what has changed since."""
    made_with = job.made_with.to_dict()
    settings = {
        "names": list(job.sources.names), "list": job.sources.list_file, "list_sha256": job.sources.list_sha256(),
        "shard_size": job.shard_size,
        "outputs": [[output.format, output.folder] for output in job.outputs],
        "max_pixels": job.max_pixels, "every": job.every, "detector_sha256": job.detector.sha256(),
    } | {key: value for key, value in made_with.items() if key != "facekit"}  # fmt: skip
    manifest = Manifest(job.outputs[0].folder, settings)
    if manifest.read():
        if not job.resume:
            raise FacekitError(
                f"{job.outputs[0].folder}: holds a run already. Add `resume=True` to go on with it, or give another "
                f"folder."
            )
        plan = manifest.read_plan()
        log.info("Going on: %d of %d shards are done", len(manifest.done), len(plan))
        return manifest, plan, _changes(job, manifest)
    for output in job.outputs:
        if _has_parts(output):
            raise FacekitError(f"{output.folder}: holds parts of something else. Give an empty folder, or a new one.")
    with writing(manifest.plan_file) as beside, beside.open("wb") as stream:
        plan = write_plan(job.sources.shards(job.shard_size), stream, manifest.plan_file)
    manifest.losses, manifest.names_lost = list(job.sources.losses), len(job.sources.losses)
    manifest.write()
    return manifest, plan, []


def _changes(job: Job, manifest: Manifest) -> list[Loss]:
    """What the names stand for now and didn't when the plan was made, or the other way: a plan is not added to, for
    parts are numbered by it."""
    sources = job.sources
    if not sources.names or sources.list_file == "-":
        return []  # of a list its digest tells; standard input comes but once
    planned, now = manifest.planned(), dict(sources.entries())
    kinds = {
        "are there now and not in this run's plan, so have no row": now.keys() - planned.keys(),
        "of this run's plan are not there any more": planned.keys() - now.keys(),
        "have another size than in this run's plan": {n for n in now.keys() & planned.keys() if now[n] != planned[n]},
    }
    told = []
    for what, names in kinds.items():
        if names:
            first = shown(masked(min(names)), 200)
            why = f"{len(names)} files {what} (first: {first}). Give another folder to start anew."
            told.append(Loss(job.outputs[0].folder, why))
    return told + [loss for loss in sources.losses if loss not in manifest.losses]


def _has_parts(output: Output) -> bool:
    return any(name.startswith("part-") for name in names_in(output.folder))


def _here(looking: Looking, todo: Iterable[Item]) -> Generator[Part | int, None, None]:
    """The parts, made in this process; the number of a signal ends them."""
    with StopSignals() as stop:
        look: LookAtShards = looking()
        for item in todo:
            yield look(item, Trial())
            if stop.received:
                yield stop.received
                return


def _in_ray(looking: Looking, todo: Sequence[Item], workers: Workers) -> Generator[Part | int, None, None]:
    """The same, made by workers, in any order."""
    with ray_of(workers) as count, StopSignals() as stop:
        _check_reachable(looking, workers)
        parts = over_workers(looking, todo, workers, count)
        with closing(parts):
            for part in parts:
                yield part
                if stop.received:
                    yield stop.received
                    return


def _check_reachable(looking: Looking, workers: Workers) -> None:
    if workers.address is not None and not is_store(looking.plan_file):
        log.info("The workers write to %s: it must be one folder on all nodes.", looking.outputs[0].folder)


def _join(job: Job, manifest: Manifest, raw: Output, shards: int) -> None:
    """Writes the outputs from the rows of all shards."""
    manifest.losses = manifest.losses[: manifest.names_lost]
    numbered = ((shard, row) for shard in range(shards) for row in rows_of_part(raw, shard))
    joined = itertools.groupby(job.join(numbered), key=lambda each: each[0])
    following = next(joined, None)
    for shard in range(shards):
        rows: Iterable[Row] = ()
        if following is not None and following[0] == shard:
            rows = [row for _, row in following[1]]
            following = next(joined, None)
        manifest.add(write_part(shard, rows, job.outputs, job.made_with, manifest.scratch), again=True)
    manifest.is_joined = True
    manifest.write()
    remove_folder(manifest.raw)


def rows_of_part(output: Output, shard: int) -> Iterator[Row]:
    """As they were written. Raises FacekitError where the part is gone or no part."""
    read = read_parquet if output.format == "parquet" else read_jsonl
    if not is_store(output.folder):
        yield from read(Path(output.part(shard)))
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / output.part_name(shard)
        copy.write_bytes(read_bytes(Entry(output.part(shard), None), MAX_PART_BYTES))
        yield from read(copy)


def _check(outputs: Sequence[Output], shards: int) -> None:
    """Raises FacekitError unless every part is there."""
    for output in outputs:
        there = names_in(output.folder)
        missing = [output.part_name(shard) for shard in range(shards) if output.part_name(shard) not in there]
        if missing:
            raise FacekitError(
                f"{output.folder}: {len(missing)} of {shards} parts are missing, the first {missing[0]}, though they "
                f"were written. Do all workers write to this one folder? Run it again in a new one."
            )
