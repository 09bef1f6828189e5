"""Shards: the parts that a run over many pictures is divided into, and the plan that lists them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any, Literal

from facekit.cluster.stores import Entry
from facekit.errors import FacekitError

Kind = Literal["pictures", "tar", "parquet", "video"]
MAX_LINE_BYTES = 64 << 20
KINDS: tuple[Kind, ...] = ("pictures", "tar", "parquet", "video")


@dataclass(frozen=True)
class Shard:
    """What one worker does at a time, and writes one part of the output of."""

    kind: Kind
    entries: tuple[Entry, ...]  # the pictures, or the one archive, table or video
    row_groups: tuple[int, int] | None = None  # of a Parquet table: the first, and the one behind the last
    span_s: tuple[float, float | None] | None = None  # of a video: from a key frame to before another; None: its end
    pictures: int | None = None  # how many, or frames; None: not known before it is read

    def line(self) -> str:
        """As a line of JSON, without its end."""
        entries = [list(entry) if entry.size is not None else [entry.name] for entry in self.entries]
        more = {"row_groups": self.row_groups, "span_s": self.span_s, "pictures": self.pictures}
        return json.dumps(
            {"kind": self.kind, "entries": entries} | {key: value for key, value in more.items() if value is not None}
        )

    @classmethod
    def of_line(cls, line: str | bytes, where: str) -> Shard:
        """Raises FacekitError, which begins with where, for anything but what line() gave."""
        try:
            fields: dict[str, Any] = json.loads(line)
            row_groups = fields.get("row_groups")
            kind = fields["kind"]
            if kind not in KINDS or not isinstance(fields["entries"], list):
                raise ValueError(f"kind {kind!r}")
            entries = tuple(Entry(str(name), int(size[0]) if size else None) for name, *size in fields["entries"])
            first_last = None if row_groups is None else (int(row_groups[0]), int(row_groups[1]))
            pictures = fields.get("pictures")
            span_s = fields.get("span_s")
            if span_s is not None:
                span_s = float(span_s[0]), None if span_s[1] is None else float(span_s[1])
            return cls(kind, entries, first_last, span_s, None if pictures is None else int(pictures))
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
            raise FacekitError(
                f"{where}: no line of a plan of facekit's ({error}). Start the run anew in another folder."
            ) from error


def gathered(entries: Iterable[Entry], size: int) -> Iterator[Shard]:
    """Shards of that many pictures, the last of fewer, in their order."""
    held: list[Entry] = []
    for entry in entries:
        held.append(entry)
        if len(held) == size:
            yield Shard("pictures", tuple(held), pictures=size)
            held = []
    if held:
        yield Shard("pictures", tuple(held), pictures=len(held))


@dataclass(frozen=True)
class Plan:
    """Where each shard's line lies in the file that lists them: neither driver nor Ray holds the names of millions of
    pictures, a worker reads its own line."""

    file: str
    starts: Sequence[int]  # bytes; one more than there are shards
    pictures: int  # of the shards whose number is known
    unknown: int  # shards whose number isn't
    videos: int = 0  # shards of videos

    def __len__(self) -> int:
        return len(self.starts) - 1


def write_plan(shards: Iterable[Shard], stream: IO[bytes], file: str) -> Plan:
    """Writes the plan, which will be found as `file`; shards are taken one by one."""
    starts, pictures, unknown, videos, place = [0], 0, 0, 0, 0
    for shard in shards:
        place += stream.write(shard.line().encode("ascii") + b"\n")
        starts.append(place)
        pictures += shard.pictures or 0
        unknown += shard.pictures is None
        videos += shard.kind == "video"
    return Plan(file, starts, pictures, unknown, videos)


def read_plan(stream: IO[bytes], file: str, most_line_bytes: int = MAX_LINE_BYTES) -> Plan:
    """The plan that write_plan() wrote. Raises FacekitError for anything else."""
    starts, pictures, unknown, videos = [0], 0, 0, 0
    for shard, end in _planned(stream, file, most_line_bytes):
        starts.append(end)
        pictures += shard.pictures or 0
        unknown += shard.pictures is None
        videos += shard.kind == "video"
    return Plan(file, starts, pictures, unknown, videos)


def planned_entries(stream: IO[bytes], file: str) -> Iterator[Entry]:
    """All that is to be looked at, a file of several shards as often. Raises as read_plan()."""
    for shard, _ in _planned(stream, file, MAX_LINE_BYTES):
        yield from shard.entries


def _planned(stream: IO[bytes], file: str, most_line_bytes: int) -> Iterator[tuple[Shard, int]]:
    """The shards, and where each one's line ends."""
    number = place = 0
    while line := stream.readline(most_line_bytes):
        number += 1
        place += len(line)
        yield Shard.of_line(line, f"{file}:{number}"), place
