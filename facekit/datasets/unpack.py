"""Archives that nobody vouches for: unpacked whole or not at all, within limits, into one folder and nowhere else."""

from __future__ import annotations

import gzip
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from facekit.base.files import check_writable_folder, sync_disk, write_text
from facekit.base.progress import progress_bar
from facekit.errors import FacekitError

MARKER = ".facekit-unpacked"  # in the new folder: what it was unpacked from
CHUNK_BYTES = 1 << 20
_TAR_HEADER_BYTES = 1 << 12  # more than a member's headers take
_REMEDY = "Take the archive away and bring it again."
_DAMAGED = (
    zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error, RuntimeError, NotImplementedError,
    ValueError,
)  # fmt: skip


@dataclass(frozen=True)
class Limits:
    """What is plausible for a data set; anything more is a bomb."""

    files: int
    bytes: int  # unpacked


@dataclass(frozen=True)
class _Member:
    name: str
    size: int  # bytes, as declared
    kind: str  # "file", "folder", or what is refused
    open: Callable[[], IO[bytes] | None]


def unpack(archive: Path, folder: Path, inside: str, limits: Limits, marker: str) -> None:
    """Unpacks the archive's folder `inside` ("": all of it) to `folder`, which mustn't hold anything yet.

    archive: .zip, or a tar packed by gzip. marker: the text of the file MARKER. Modes, owners and times are not taken
    over. Raises FacekitError, and leaves nothing behind, for an archive that is damaged or holds anything but files
    and folders, a name that leaves the folder, more than the limits allow, or nothing in `inside`.
    """
    check_writable_folder(folder.parent)
    beside = folder.with_name(f".{folder.name}.unpacking")
    try:
        shutil.rmtree(beside, ignore_errors=True)  # of a run that was stopped
        beside.mkdir()
        if _unpack(archive, beside, PurePosixPath(inside), limits) == 0:
            raise FacekitError(f"{archive}: expected files in {inside or 'it'}, got none. Is this the right archive?")
        write_text(beside / MARKER, marker)
        sync_disk()
        beside.replace(folder)
    except _DAMAGED as error:
        raise FacekitError(f"{archive}: damaged, or no archive ({error or type(error).__name__}). {_REMEDY}") from error
    except OSError as error:
        raise FacekitError(
            f"{folder}: {archive.name} can't be unpacked there ({error.strerror or error}). "
            f"Choose a place you may write to, with space, where nothing of this name is."
        ) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _unpack(archive: Path, folder: Path, inside: PurePosixPath, limits: Limits) -> int:
    """How many files were written."""
    members = _zip_members if archive.suffix == ".zip" else _tar_members
    written = seen = unpacked = 0
    packed = archive.stat().st_size
    bar = progress_bar(total=packed, unit="B", unit_scale=True, desc=f"unpacking {archive.name}", delay_s=2)
    with archive.open("rb") as stream, bar:
        for member in members(stream, limits):
            where = f"{archive}: {member.name!r}"
            if member.kind not in ("file", "folder"):
                raise FacekitError(f"{where}: expected files and folders only, got {member.kind}. {_REMEDY}")
            path = _safe_path(member.name, where)
            seen, unpacked = seen + 1, unpacked + member.size
            if seen > limits.files or unpacked > limits.bytes:
                raise FacekitError(
                    f"{where}: expected at most {limits.files} entries and {limits.bytes} bytes unpacked, got more. "
                    f"{_REMEDY}"
                )
            if member.kind == "file" and path.is_relative_to(inside):
                if not member.name.isprintable():  # harmless elsewhere: macOS adds a file "Icon\r"
                    raise FacekitError(f"{where}: expected a name that can be printed, got control letters. {_REMEDY}")
                _write(member, folder / path.relative_to(inside), where)
                written += 1
                bar.update(max(0, stream.tell() - bar.n))
    return written


def _write(member: _Member, target: Path, where: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        raise FacekitError(f"{where}: expected each name once, got it twice. {_REMEDY}")
    source = member.open()
    assert source is not None
    with source, target.open("xb") as out:
        # zipfile and tarfile give exactly the declared bytes, or raise.
        shutil.copyfileobj(source, out, CHUNK_BYTES)


def _safe_path(name: str, where: str) -> PurePosixPath:
    """The path below the new folder."""
    path = PurePosixPath(name)
    # A colon is a drive or a hidden stream on Windows.
    if path.is_absolute() or ".." in path.parts or any(letter in name for letter in "\\:\0"):
        raise FacekitError(
            f"{where}: expected a name that stays in the new folder, got one that may leave it. {_REMEDY}"
        )
    return path


def _zip_members(stream: IO[bytes], _: Limits) -> Iterator[_Member]:
    with zipfile.ZipFile(stream) as content:
        for info in content.infolist():
            kinds = {0: "file", stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "a symbolic link"}
            kind = kinds.get(stat.S_IFMT(info.external_attr >> 16), "a device or pipe")
            if info.is_dir() and kind == "file":
                kind = "folder"
            # zipfile cuts names at a NUL and turns backslashes on Windows: the name as it stands is what is judged.
            yield _Member(info.orig_filename, info.file_size, kind, partial(content.open, info))


def _tar_members(stream: IO[bytes], limits: Limits) -> Iterator[_Member]:
    kinds = {
        tarfile.REGTYPE: "file", tarfile.AREGTYPE: "file", tarfile.DIRTYPE: "folder",
        tarfile.SYMTYPE: "a symbolic link", tarfile.LNKTYPE: "a hard link",
    }  # fmt: skip
    with gzip.open(stream) as unzipped:
        capped = _Capped(unzipped, limits.bytes + limits.files * _TAR_HEADER_BYTES)
        with tarfile.open(fileobj=capped, mode="r|") as content:  # type: ignore[call-overload]
            for info in content:
                kind = kinds.get(info.type, "a device, pipe or special file")
                yield _Member(info.name, info.size, kind, partial(content.extractfile, info))
        while capped.read(CHUNK_BYTES):  # to its end, where gzip's checksum stands
            pass


class _Capped:
    """A file for tarfile that ends in an error instead of filling memory and disk."""

    def __init__(self, file: gzip.GzipFile, limit: int) -> None:
        self._file = file
        self._left = limit

    def read(self, count: int) -> bytes:
        data = self._file.read(count)
        self._left -= len(data)
        if self._left < 0:
            raise tarfile.ReadError("it unpacks to more than the data set could have")
        return data
