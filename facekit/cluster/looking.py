"""One worker's work on a shard: from its pictures to a part of the output, which is written whole or not at all."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from facekit.cluster.packed import PackedDetector
from facekit.cluster.reading import Found, pictures_of
from facekit.cluster.shards import Shard
from facekit.cluster.stores import Entry, joined, read_bytes, writing
from facekit.cluster.trials import Trial
from facekit.cluster.videos import frame_rows
from facekit.detector import Detector
from facekit.errors import FacekitError, Loss
from facekit.machine.memory import give_back_freed_memory
from facekit.results.json_files import jsonl_text, read_jsonl
from facekit.results.parquet import write_parquet
from facekit.results.row import Row, Run
from facekit.structures import Detections

Format = Literal["parquet", "jsonl"]

WINDOW_BATCHES = 4  # pictures that are held to find some of one size among, in batches
WINDOW_BYTES = 128 << 20  # of them, decoded; a larger one is held alone
LOSSES_TOLD = 20  # of a shard, by name and reason
MAX_LINE_BYTES = 64 << 20  # of a plan


@dataclass(frozen=True)
class Output:
    """A folder of parts, one a shard, in their order."""

    format: Format
    folder: str  # of a disk or a store

    def part(self, shard: int) -> str:
        return joined(self.folder, self.part_name(shard))

    def part_name(self, shard: int) -> str:
        return f"part-{shard:06d}.{self.format}"


@dataclass(frozen=True)
class Looking:
    """How pictures are looked at, and where their rows go."""

    detector: PackedDetector
    run: Run
    batch_size: int
    every: int  # of a video's frames the detector sees each so manieth
    max_pixels: int
    plan_file: str
    outputs: tuple[Output, ...]
    scratch: str  # folder for half-written parts
    cpus: int

    def __call__(self) -> LookAtShards:
        return LookAtShards(self)


@dataclass(frozen=True)
class Part:
    """What came of a shard."""

    shard: int
    rows: int
    faces: int
    lost: int  # rows without a picture
    losses: tuple[tuple[str, str], ...]  # the first of them: name, reason
    cut: int  # rows of pictures whose first frame or page alone was looked at
    cuts: tuple[tuple[str, str], ...]  # the first of them: name, what was left out


class LookAtShards:
    """Holds a detector, and writes the parts of the shards that it is called with."""

    def __init__(self, looking: Looking) -> None:
        cv2.setNumThreads(looking.cpus)
        self.looking = looking
        self.detector = looking.detector.open()

    def __call__(self, item: tuple[int, int, int], trial: Trial) -> Part:
        """item: the shard's number, and where its line in the plan begins and ends."""
        number, start, end = item
        looking = self.looking
        entry = Entry(looking.plan_file, end)
        line = read_bytes(entry, MAX_LINE_BYTES, start, end - start)
        shard = Shard.of_line(line, f"{looking.plan_file}:{number + 1}")
        if shard.kind == "video":
            rows = frame_rows(shard, self.detector, looking.every, looking.max_pixels)
        else:
            rows = rows_of(shard, self.detector, looking, trial)
        with closing(rows):
            return write_part(number, rows, looking.outputs, looking.run, looking.scratch)


def rows_of(shard: Shard, detector: Detector, looking: Looking, trial: Trial) -> Generator[Row, None, None]:
    """A row a picture, in the shard's order."""
    run, batch_size = looking.run, 1 if trial.is_careful else looking.batch_size
    found = pictures_of(shard, looking.max_pixels, trial)
    with closing(found):
        for window in windows(found, batch_size):
            faces = iter(
                look(detector, [image for _, image, _ in window if not isinstance(image, FacekitError)], batch_size)
            )
            for name, image, left_out in window:
                outcome = image if isinstance(image, FacekitError) else next(faces)
                if isinstance(outcome, FacekitError):
                    yield Row(name, error=Loss.of(name, outcome).why)
                    continue
                assert not isinstance(image, FacekitError)
                seen = outcome.above(run.threshold)
                height, width = image.shape[:2]
                faces_kept = seen.at_least(run.min_size) if run.min_size else seen
                yield Row(name, (width, height), faces_kept, left_out=left_out)
            give_back_freed_memory()


def windows(found: Iterable[Found], batch_size: int) -> Iterator[list[Found]]:
    """Pictures to be held at once: one where batches are of one, else some batches, as far as bytes allow."""
    most = 1 if batch_size == 1 else WINDOW_BATCHES * batch_size
    window: list[Found] = []
    held = 0
    for item in found:
        image = item[1]
        size = 0 if isinstance(image, FacekitError) else image.nbytes
        if window and (len(window) == most or held + size > WINDOW_BYTES):
            yield window
            window, held = [], 0
        window.append(item)
        held += size
    if window:
        yield window


def look(detector: Detector, images: list[NDArray[np.uint8]], batch_size: int) -> list[Detections | FacekitError]:
    """What is found in each, or why it can't be looked at, in order; pictures of one size go in batches."""
    order = sorted(range(len(images)), key=lambda index: images[index].shape)
    found: dict[int, Detections | FacekitError] = {}
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        found.update(zip(chosen, detector.detect_each([images[index] for index in chosen]), strict=True))
    return [found[index] for index in range(len(images))]


def write_part(number: int, rows: Iterable[Row], outputs: Sequence[Output], run: Run, scratch: str) -> Part:
    """Writes the shard's part of every output; the second is made of the first, so that no rows are held."""
    count = faces = lost = cut = 0
    losses: list[tuple[str, str]] = []
    cuts: list[tuple[str, str]] = []

    def counted() -> Iterator[Row]:
        nonlocal count, faces, lost, cut
        for row in rows:
            count, faces = count + 1, faces + len(row.faces)
            if row.error is not None:
                lost += 1
                if len(losses) < LOSSES_TOLD:
                    losses.append((row.source, row.error))
            if row.left_out is not None:
                cut += 1
                if len(cuts) < LOSSES_TOLD:
                    cuts.append((row.source, row.left_out))
            yield row

    with ExitStack() as stack:
        written: Path | None = None
        for output in sorted(outputs, key=lambda output: output.format):  # jsonl is first
            path = stack.enter_context(writing(output.part(number), scratch))
            each = counted() if written is None else read_jsonl(written)
            if output.format == "parquet":
                write_parquet(path, each, run)
            else:
                with path.open("w", encoding="ascii", newline="\n") as stream:
                    stream.writelines(jsonl_text(each, run))
            written = path
    return Part(number, count, faces, lost, tuple(losses), cut, tuple(cuts))
