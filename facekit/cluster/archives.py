"""WebDataset's tar shards: their pictures one after the other. Nothing is unpacked to a disk."""

from __future__ import annotations

import contextlib
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

from facekit.base.files import is_passed_over
from facekit.base.reading import open_regular, shown
from facekit.cluster.stores import Entry, bare, file_system, is_store, trying
from facekit.errors import FacekitError
from facekit.pictures.read import MAX_PICTURE_BYTES, PICTURE_SUFFIXES

MAX_MEMBERS = 1_000_000
MAX_HEADER_BYTES = 1 << 20  # of a name or of extended headers, which tarfile reads as a whole
BLOCK_BYTES = 8 << 20  # asked of a store at once

Named = tuple[str, bytes | FacekitError]


def pictures_in(entry: Entry) -> Iterator[Named]:
    """The name tar://NAME::ARCHIVE and the bytes of each picture, in the archive's order; in the place of the bytes
    the reason why there are none. Files of other suffixes, such as labels, and macOS's ._a.jpg are passed over. Where
    the archive breaks off, a last one of the archive's own name tells the reason.
    """
    members, taken = 0, set[str]()
    try:
        with _opened(entry) as stream, tarfile.open(fileobj=stream, mode="r:") as archive:  # type: ignore[call-overload]
            while (info := archive.next()) is not None:
                archive.members = []  # or it would keep them all
                members += 1
                if members > MAX_MEMBERS:
                    raise FacekitError(f"{entry.name}: over {MAX_MEMBERS} files. Divide the archive.")
                path = PurePosixPath(info.name)
                if path.suffix.lower() in PICTURE_SUFFIXES and not info.isdir() and not is_passed_over(path):
                    name = f"tar://{info.name}::{entry.name}"
                    yield name, _content(archive, info, stream, taken, name)
    except FacekitError as error:
        yield entry.name, error
    except (tarfile.TarError, OSError, EOFError, ValueError, OverflowError, RecursionError) as error:
        reason = f"{entry.name}: no tar, or it breaks off behind file {members} ({shown(error, 200)})."
        yield entry.name, FacekitError(f"{reason} Make the archive anew.")


def _content(
    archive: tarfile.TarFile, info: tarfile.TarInfo, stream: _Bounded, taken: set[str], where: str
) -> bytes | FacekitError:
    path = PurePosixPath(info.name)
    if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or info.issparse():
        return FacekitError(f"{where}: expected a file, got a link, a device or a sparse file.")
    if path.is_absolute() or ".." in path.parts or "\0" in info.name or "\\" in info.name:
        return FacekitError(f"{where}: expected a name that stays in the archive's folder, got one that leaves it.")
    if info.name in taken:
        return FacekitError(f"{where}: stands twice in the archive; the first one was looked at.")
    taken.add(info.name)
    if info.size > MAX_PICTURE_BYTES:
        return FacekitError(f"{where}: {info.size} bytes; over {MAX_PICTURE_BYTES >> 20} MiB are not read.")
    with stream.reading_content():
        content = archive.extractfile(info)
        assert content is not None
        return content.read()


class _Bounded:
    """A file for tarfile: it never reads more at once than a picture, or than headers, may have."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        self._file, self._name = file, name
        self._most = MAX_HEADER_BYTES

    @contextlib.contextmanager
    def reading_content(self) -> Iterator[None]:
        self._most = MAX_PICTURE_BYTES
        try:
            yield
        finally:
            self._most = MAX_HEADER_BYTES

    def read(self, count: int = -1) -> bytes:
        if not 0 <= count <= self._most:
            raise tarfile.ReadError(f"a header of {count} bytes")
        return trying(self._name, lambda: self._file.read(count)) if is_store(self._name) else self._file.read(count)

    def seek(self, place: int, whence: int = 0) -> int:
        return self._file.seek(place, whence)

    def tell(self) -> int:
        return self._file.tell()


@contextlib.contextmanager
def _opened(entry: Entry) -> Iterator[_Bounded]:
    if is_store(entry.name):
        files = file_system(entry.name)
        options: dict[str, Any] = {"block_size": BLOCK_BYTES, "cache_type": "readahead"}
        with trying(entry.name, lambda: files.open(bare(entry.name), "rb", **options)) as file:
            yield _Bounded(file, entry.name)
        return
    try:
        file = open_regular(Path(entry.name))
    except OSError as error:
        raise FacekitError(f"{entry.name}: can't be read ({error.strerror}). Check the file.") from error
    with file:
        yield _Bounded(file, entry.name)
