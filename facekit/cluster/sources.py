"""What the names that a user gives stand for: pictures, archives and tables, on disks and in object stores."""

from __future__ import annotations

import glob
import hashlib
import itertools
import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from facekit.base.reading import open_file, shown
from facekit.base.urls import path_of
from facekit.cluster import tables, videos
from facekit.cluster.shards import Shard, gathered
from facekit.cluster.stores import Entry, checked_name, found_in, has_wildcards, is_store, scheme_of
from facekit.errors import FacekitError, Loss
from facekit.pictures.inputs import ADDRESS_SCHEMES, MAX_LIST_BYTES, Input, find_inputs
from facekit.pictures.listing import VIDEO_SUFFIXES
from facekit.pictures.read import PICTURE_SUFFIXES

log = logging.getLogger(__name__)

ARCHIVE, TABLE = ".tar", ".parquet"
BLOCK_BYTES = 1 << 20
MAX_RANGE = 1_000_000  # names that {000000..000999} may stand for
_WHOLE = (ARCHIVE, TABLE, *VIDEO_SUFFIXES)
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


@dataclass
class Sources:
    """What a run reads. Shards come in the order of the names, each name's sorted."""

    names: Sequence[str]  # files, folders, globs, addresses of stores, and of them {000..123}
    list_file: str | None = None  # a name a line, of a picture
    losses: list[Loss] = field(default_factory=list)  # names that stand for nothing; whole behind the last shard
    passed_over: int = 0  # files of stores that are no pictures

    def shards(self, shard_size: int) -> Iterator[Shard]:
        """Lists everything. Raises FacekitError where there is nothing at all."""
        count = 0
        for is_picture, entries in itertools.groupby(self.entries(), lambda entry: _suffix(entry.name) not in _WHOLE):
            for shard in gathered(entries, shard_size) if is_picture else _whole(entries, shard_size):
                count += 1
                yield shard
        if self.passed_over:
            log.info("Passed over, no pictures: %d files", self.passed_over)
        if not count:
            raise FacekitError("\n".join(map(str, self.losses)) or "Nothing to look at: give pictures.")

    def list_sha256(self) -> str | None:
        """16 digits of the digest of the list's bytes; None where there is none, or it is standard input."""
        if self.list_file in (None, "-"):
            return None
        digest = hashlib.sha256()
        with open_file(Path(str(self.list_file)), MAX_LIST_BYTES, "Give a list of pictures, one a line.") as stream:
            for block in iter(lambda: stream.read(BLOCK_BYTES), b""):
                digest.update(block)
        return digest.hexdigest()[:16]

    def entries(self) -> Iterator[Entry]:
        """Lists everything, anew each time; what stands for nothing goes to the losses."""
        taken: set[str] = set()
        names = (checked_name(name) for given in self.names for name in ranged(given))
        for plain, some in itertools.groupby(names, is_plain):
            if plain:  # the plain run looks at a name as often as it is given
                yield from self._pictures(list(some), None)
                continue
            for name in dict.fromkeys(some):
                try:
                    for entry in self._in_store(name) if is_store(name) else _on_disk(name):
                        if entry.name not in taken:
                            yield entry
                        if len(self.names) > 1:  # else a set of millions for nothing
                            taken.add(entry.name)
                except FacekitError as error:
                    if is_store(name) and _suffix(name) in PICTURE_SUFFIXES and not has_wildcards(name):
                        yield Entry(name, None)  # a picture that is named has a row, which says what is wrong
                    else:
                        self.losses.append(Loss.of(name, error))
        if self.list_file is not None:
            yield from self._pictures([], Path(self.list_file))

    def _pictures(self, names: Sequence[str], list_file: Path | None) -> Iterator[Entry]:
        """As the plain run finds them: the same pictures under the same names in the same order."""
        try:
            inputs = find_inputs(names, list_file)
        except FacekitError as error:
            self.losses.append(Loss.of(", ".join(names) or list_file, error))
            return
        self.losses += inputs.losses
        for item in inputs:
            yield _entry_of(item)

    def _in_store(self, name: str) -> Iterator[Entry]:
        for entry in found_in(name):
            if entry.name == name or _suffix(entry.name) in (*PICTURE_SUFFIXES, *_WHOLE):
                yield entry
            else:
                self.passed_over += 1


def is_plain(name: str) -> bool:
    """Whether the plain run knows it, too."""
    if scheme_of(name) in ADDRESS_SCHEMES:
        return True
    return not is_store(name) and (_suffix(name) not in (ARCHIVE, TABLE) or Path(path_of(name)).is_dir())


def _suffix(name: str) -> str:
    return Path(name).suffix.lower()


def _entry_of(item: Input) -> Entry:
    if item.kind == "stdin":
        raise FacekitError("-: standard input is one process's. Give files, or leave `engine` out.")
    if item.kind == "video" and not Path(item.place).is_file():
        raise FacekitError(f"{item.source}: a camera or a stream is one process's. Give files, or leave `engine` out.")
    return Entry(checked_name(item.place) if scheme_of(item.place) in ("s3", "gs", "file") else item.place, None)


def _on_disk(name: str) -> Iterator[Entry]:
    """Archives and tables."""
    found = [name] if Path(name).exists() else sorted(glob.glob(name, recursive=True))  # noqa: PTH207
    if not found:
        raise FacekitError(f"{name}: there is no such file. Check the path.")
    for file in found:
        yield Entry(file, Path(file).stat().st_size)


def _whole(entries: Iterable[Entry], shard_size: int) -> Iterator[Shard]:
    """An archive is one shard; a table as many as its groups of rows fill, a video as its frames do."""
    for entry in entries:
        if _suffix(entry.name) == ARCHIVE:
            yield Shard("tar", (entry,))
            continue
        if _suffix(entry.name) in VIDEO_SUFFIXES:
            yield from videos.shards_of(entry, shard_size)
            continue
        try:
            yield from tables.shards_of(entry, shard_size)
        except FacekitError:  # its row will say so
            yield Shard("parquet", (entry,), (0, 1))


def ranged(name: str) -> Iterator[str]:
    """The names that {000000..000999} stands for, as WebDataset writes sets of shards; other names are themselves."""
    match = _RANGE.search(name)
    if match is None or Path(name).exists():
        yield name
        return
    first, last = int(match[1]), int(match[2])
    if not 0 <= last - first < MAX_RANGE:
        raise FacekitError(f"{shown(name)}: expected a range that rises, of at most {MAX_RANGE} names.")
    for number in range(first, last + 1):
        yield from ranged(f"{name[: match.start()]}{number:0{len(match[1])}}{name[match.end() :]}")
