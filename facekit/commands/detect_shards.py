"""The detect command over shards: by workers, or here where the pictures lie in stores, archives or tables."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property, partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from facekit import __version__
from facekit.cluster.looking import Format
from facekit.cluster.pool import workers_of
from facekit.cluster.run import Done, Job, Numbered, output_of, rows_of_part, run
from facekit.cluster.sources import Sources, is_plain, ranged
from facekit.cluster.stores import address_of, is_store
from facekit.commands.detecting import LOW_SCORE
from facekit.commands.inputs import passes_of
from facekit.commands.watching import Looking, carried
from facekit.errors import ArgumentError, FacekitError, Loss
from facekit.pictures.listing import VIDEO_SUFFIXES
from facekit.results.row import Row, Run
from facekit.tracks.bytetrack import TrackSettings

if TYPE_CHECKING:
    from facekit.commands.detect import DetectOptions
    from facekit.commands.inputs import Choice

OTHERS = ("json", "csv", "coco", "yolo", "wider", "draw", "crops")  # outputs that are one process's


def is_sharded(options: DetectOptions) -> bool:
    """Whether rows go to parts: for workers, and for what the plain run doesn't read or write."""
    if options.engine == "ray" or any(is_store(address_of(path)) for path in (options.parquet, options.jsonl) if path):
        return True
    return not all(is_plain(next(ranged(name))) for name in options.inputs)


class DetectingShards:
    """As Detecting: run() works, then it is an iterator of rows in the order of the inputs."""

    def __init__(self, options: DetectOptions, chosen: Choice) -> None:
        """Raises ArgumentError for what doesn't go together."""
        self.options, self._chosen = options, chosen
        self.workers = workers_of(options, has_shards=True)
        if given := [name for name in OTHERS if getattr(options, name)]:
            raise ArgumentError(
                f"`{given[0]}`: shards are written as `parquet` or `jsonl`, from which others are made."
            )
        folders: dict[Format, Path | None] = {"parquet": options.parquet, "jsonl": options.jsonl}
        if not any(folders.values()):
            raise ArgumentError("Shards are written: give a folder, on a disk or in a store, as `parquet` or `jsonl`.")
        self.outputs = tuple(output_of(kind, address_of(path)) for kind, path in folders.items() if path is not None)
        if options.start or options.end:
            raise ArgumentError("`start` and `end` are of the plain run: leave them or `engine` out.")
        low = min(LOW_SCORE, options.threshold)
        tracks = TrackSettings(options.threshold, low) if options.track else None
        self._looking = Looking(options.threshold, options.min_size, options.every, tracks)
        self._done: Done | None = None

    @cached_property
    def job(self) -> Job:
        """Opens the detector here first: what is wrong with it is said at once."""
        options = self.options
        threads = options.threads
        if threads is None and self.workers is not None and self._chosen.takes_threads():
            threads = self.workers.cpus
        packed = self._chosen.packed(passes_of(options.scale, options.longest_side), threads)
        detector = packed.open()
        digest = hashlib.sha256(b"".join(content for _, content in packed.files)).hexdigest()
        made_with = Run(
            __version__, detector.template.name, packed.files[0][0], digest, detector.protocol(), options.threshold,
            options.min_size, options.track,
        )  # fmt: skip
        sources = Sources(options.inputs, None if options.from_file is None else str(options.from_file))
        return Job(
            sources, self.outputs, packed, made_with, options.shard_size, options.batch_size, options.every,
            partial(joined, looking=self._looking), options.max_pixels, options.resume,
        )  # fmt: skip

    def printed(self) -> None:
        """Nothing is: rows go to parts."""

    def run(self) -> DetectingShards:
        """Raises as Detecting.run()."""
        self._done = run(self.job, self.workers)
        if self._done.rows and self._done.unread == self._done.rows:
            raise FacekitError(f"None of {self._done.rows} pictures could be read. The first: {self.losses[0]}")
        return self

    def __iter__(self) -> Iterator[Row]:
        if self._done is None:
            self.run()
        assert self._done is not None
        for shard in range(self._done.parts):
            yield from rows_of_part(self.outputs[0], shard)

    @property
    def losses(self) -> Sequence[Loss]:
        """Of all runs; the first ones can be asked for."""
        return [] if self._done is None else self._done.losses

    def text(self) -> str:
        """What was done."""
        return "" if self._done is None else self._done.text()


def joined(numbered: Iterable[Numbered], looking: Looking) -> Iterator[Numbered]:
    """Of a video's frames in their order, and all that the detector says of them, the plain run's rows: tracks go over
    from shard to shard. What several shards say of a damaged video is one row behind them."""
    for (source, _), rows in groupby(numbered, key=_Listing()):
        if Path(source).suffix.lower() in VIDEO_SUFFIXES:
            yield from _one_video(source, rows, looking)
        else:
            yield from rows


class _Listing:
    """A row's source, and which of its listings in a row it is of: a video that is listed again begins anew."""

    def __init__(self) -> None:
        self._source: str | None = None
        self._frame, self._count = -1, 0

    def __call__(self, numbered: Numbered) -> tuple[str, int]:
        row = numbered[1]
        if row.source != self._source:
            self._source, self._frame, self._count = row.source, -1, 0
        if row.frame is not None:
            self._count += row.frame <= self._frame
            self._frame = row.frame
        return row.source, self._count


def _one_video(source: str, rows: Iterator[Numbered], looking: Looking) -> Iterator[Numbered]:
    said: dict[str, None] = {}
    last = 0  # shard

    def frames() -> Iterator[Numbered]:
        nonlocal last
        for last, row in rows:
            if row.error is None:
                yield last, row
            else:
                said[row.error] = None

    for (shard, row), faces in carried(frames(), lambda each: each[1].faces, looking):
        yield shard, replace(row, faces=faces)
    if said:
        yield last, Row(source, error="; ".join(said))
