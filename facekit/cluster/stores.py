"""Files on disks and in object stores, under one name each: a path, or an address such as s3://bucket/key."""

from __future__ import annotations

import contextlib
import fnmatch
import importlib
import os
import random
import re
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from facekit.base.extras import optional_packages
from facekit.base.files import check_not_input
from facekit.base.reading import open_regular, shown
from facekit.base.urls import path_of
from facekit.errors import FacekitError

# Scheme: the package that speaks to it; None: to be had without one.
SCHEMES = {"s3": "s3fs", "gs": "gcsfs", "file": None}
ATTEMPTS = 6  # of a request to a store; its own library makes some of each
FIRST_PAUSE_S = 0.2  # doubled with each attempt
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_WILDCARDS = re.compile(r"[*?\[]")

R = TypeVar("R")


class Entry(NamedTuple):
    """A file and its size."""

    name: str  # as it was given: a path, or an address
    size: int | None  # bytes; None: not known before it is read


def scheme_of(name: str) -> str | None:
    """Such as s3, of s3://bucket/key; None for paths."""
    match = _SCHEME.match(name)
    return match[1].lower() if match else None


def address_of(path: Path) -> str:
    """The name that became a path: pathlib makes one slash of the two."""
    return re.sub(r"^(s3|gs|file):/+", lambda match: f"{match[1]}://" + "/" * (match[1] == "file"), str(path))


def is_store(name: str) -> bool:
    """Whether the name is of an object store, not of a disk."""
    return scheme_of(name) not in (None, "file")


def checked_name(name: str) -> str:
    """The name, a file:// address as the path that it stands for.

    Raises FacekitError for schemes that aren't known, and for credentials in an address.
    """
    scheme = scheme_of(name)
    if scheme is None:
        return name
    if scheme not in SCHEMES:
        known = ", ".join(f"{known}://" for known in SCHEMES)
        raise FacekitError(f"{shown(name)}: expected a path or one of {known}, got {scheme}://.")
    rest = name[len(scheme) + 3 :]
    if "@" in rest.partition("/")[0]:
        raise FacekitError(
            f"{name}: holds a user or a key. Credentials are taken from the environment alone "
            f"(AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_PROFILE, GOOGLE_APPLICATION_CREDENTIALS)."
        )
    if scheme == "file":
        return path_of(name)
    if not rest.strip("/"):
        raise FacekitError(f"{shown(name)}: expected {scheme}://BUCKET/NAME.")
    return name


def file_system(name: str) -> Any:
    """fsspec's file system of an object store's address. Raises FacekitError where the package for it is missing."""
    scheme = scheme_of(name)
    assert scheme is not None
    package = SCHEMES[scheme]
    with optional_packages():
        import fsspec

        if package == "gcsfs":
            _import_gcsfs(name)
        elif package is not None:
            importlib.import_module(package)
    # Listings are asked for once: a cache of ten million names would stay in memory.
    return fsspec.filesystem(scheme, use_listings_cache=False)


def _import_gcsfs(name: str) -> None:
    try:
        importlib.import_module("gcsfs")
    except ImportError as error:
        raise FacekitError(f"{name}: gs:// takes gcsfs. Install it: pip install gcsfs") from error


def bare(name: str) -> str:
    """bucket/key of an object store's address."""
    return name.partition("://")[2]


def trying(what: str, job: Callable[[], R]) -> R:
    """What the job returns, tried again where a store fails for a while; every failure is a FacekitError."""
    for attempt in range(ATTEMPTS):
        try:
            return job()
        except FacekitError:
            raise
        except FileNotFoundError as error:
            raise FacekitError(f"{what}: there is no such file. Check the name.") from error
        except PermissionError as error:
            raise FacekitError(
                f"{what}: the store refuses ({_reason(error)}). Check the credentials in the environment."
            ) from error
        except Exception as error:  # of as many libraries as there are stores
            if attempt == ATTEMPTS - 1 or type(error).__name__ == "NoCredentialsError":
                raise FacekitError(
                    f"{what}: the store doesn't answer as it should ({_reason(error)}; {attempt + 1} attempts). "
                    f"Try it again later."
                ) from error
        time.sleep(FIRST_PAUSE_S * 2**attempt * random.uniform(0.5, 1))
    raise AssertionError


def _reason(error: Exception) -> str:
    return shown(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__, 200)


def read_bytes(entry: Entry, most_bytes: int, start: int = 0, length: int | None = None) -> bytes:
    """All of a file, or `length` bytes from `start`; never fewer than its size, or than asked for.

    Raises FacekitError for a file that is missing, can't be read, is larger than most_bytes, or breaks off.
    """
    if not is_store(entry.name):
        return _read_local(Path(entry.name), most_bytes, start, length)
    files, path = file_system(entry.name), bare(entry.name)

    def read() -> bytes:
        size = entry.size if entry.size is not None else int(files.info(path)["size"])
        wanted = size - start if length is None else length
        if wanted > most_bytes:
            raise FacekitError(f"{entry.name}: {wanted} bytes; over {most_bytes >> 20} MiB are not read.")
        if wanted == 0:
            return b""
        # One request with both ends given: s3fs else asks for parts at once, and takes a short one for zeros.
        data: bytes = files.cat_file(path, start=start, end=start + wanted)
        if len(data) != wanted:
            raise OSError(f"{len(data)} bytes of {wanted} came")
        return data

    return trying(entry.name, read)


def _read_local(path: Path, most_bytes: int, start: int, length: int | None) -> bytes:
    try:
        with open_regular(path, sys.maxsize if length is not None else most_bytes) as file:
            file.seek(start)
            data = file.read(most_bytes + 1 if length is None else length)
    except OSError as error:
        raise FacekitError(f"{path}: can't be read ({error.strerror or error}). Check the file.") from error
    if length is not None and len(data) != length:
        raise FacekitError(f"{path}: breaks off: {len(data)} bytes of {length} at {start}.")
    return data


def exists(name: str) -> bool:
    if not is_store(name):
        return Path(name).exists()
    files = file_system(name)
    return bool(trying(name, lambda: files.exists(bare(name))))


def has_wildcards(name: str) -> bool:
    """Whether a name has a sign of globs."""
    return _WILDCARDS.search(name) is not None


def found_in(name: str) -> Iterator[Entry]:
    """The files of an object store that an address stands for: itself, a glob's, or all below it, sorted.

    Raises FacekitError where there is none.
    """
    files, scheme = file_system(name), scheme_of(name)
    pattern = bare(name)
    fixed = _WILDCARDS.split(pattern, maxsplit=1)[0]
    is_glob = fixed != pattern and not exists(name)  # a file may be called [1].jpg
    top = fixed.rpartition("/")[0] if is_glob else pattern.rstrip("/")
    found: dict[str, Any] = trying(name, lambda: files.find(top, detail=True))
    count = 0
    for path in sorted(found):
        if found[path].get("type") == "file" and (not is_glob or _fits(path, pattern)):
            count += 1
            yield Entry(f"{scheme}://{path}", int(found[path]["size"]))
    if not count:
        raise FacekitError(f"{name}: no files there. Give a file, a folder or a quoted glob of the store.")


def _fits(path: str, pattern: str) -> bool:
    """As globs of folders do: * and ? stay within a part of the path, ** goes over any number of them."""
    return _fit_parts(path.split("/"), pattern.split("/"))


def _fit_parts(parts: list[str], patterns: list[str]) -> bool:
    if not patterns:
        return not parts
    if patterns[0] == "**":
        return any(_fit_parts(parts[skipped:], patterns[1:]) for skipped in range(len(parts) + 1))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], patterns[0]) and _fit_parts(parts[1:], patterns[1:])


def joined(folder: str, name: str) -> str:
    """The file of that name in a folder of a disk or a store."""
    return f"{folder.rstrip('/')}/{name}" if is_store(folder) else str(Path(folder) / name)


@contextlib.contextmanager
def writing(target: str, scratch: str | None = None) -> Iterator[Path]:
    """Gives a path to write a file to, which becomes `target` whole when the block ends well, and nothing otherwise.

    scratch: a folder for half-written files, on the disk that the target is on; who gives it takes it away in the end.
    One target may be written on several machines at once, as where a worker is taken for dead and lives: the last
    one's stays. No process looks at another's half-written file: numbers of processes say nothing across machines.
    """
    if is_store(target):
        with tempfile.TemporaryDirectory() as folder:
            beside = Path(folder) / target.rpartition("/")[2]
            yield beside
            files = file_system(target)
            trying(target, lambda: files.put_file(str(beside), bare(target)))
        return
    path = Path(target)
    check_not_input(path)
    own = (Path(scratch) if scratch else path.parent) / f".{uuid.uuid4().hex}.part"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        own.mkdir(parents=True)
        yield own / path.name
        with (own / path.name).open("rb") as written:
            os.fsync(written.fileno())
        (own / path.name).replace(path)
    except OSError as error:
        raise FacekitError(
            f"{path}: can't be written ({error.strerror or error}). Choose a place you may write to, with space."
        ) from error
    finally:
        shutil.rmtree(own, ignore_errors=True)


def remove_folder(folder: str) -> None:
    """Of a disk; stores have none."""
    if not is_store(folder):
        shutil.rmtree(folder, ignore_errors=True)


def names_in(folder: str) -> dict[str, int]:
    """Names and sizes in bytes of the files right in a folder; none where there is no such folder."""
    if not is_store(folder):
        if not Path(folder).is_dir():
            return {}
        with os.scandir(folder) as found:
            return {entry.name: entry.stat().st_size for entry in found if entry.is_file()}
    files, prefix = file_system(folder), bare(folder).rstrip("/") + "/"
    listed: dict[str, Any] = trying(folder, lambda: files.find(prefix, maxdepth=1, detail=True))
    return {path[len(prefix) :]: int(info["size"]) for path, info in listed.items() if path.startswith(prefix)}
