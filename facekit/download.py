"""Files from the network: from the first mirror that has them, resumed where cut off, known by size and digest."""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from facekit.errors import FacekitError
from facekit.progress import progress_bar

CHUNK_BYTES = 1 << 16
TIMEOUT_S = 20
MAX_UNKNOWN_BYTES = 1 << 26  # of a file whose size neither its makers nor the server say
_ALGORITHMS = ("sha256", "md5")


class DownloadError(FacekitError):
    """No mirror gave the file: a line each with the reason."""


@dataclass(frozen=True)
class Identity:
    """What is published of a file; None: it isn't."""

    size: int | None  # bytes
    sha256: str | None = None  # hexadecimal
    md5: str | None = None  # finds accidents, no forgeries

    def mismatch(self, path: Path) -> str | None:
        """How the file differs from the published one; None where it doesn't."""
        size = path.stat().st_size
        wanted = {name: digest for name in _ALGORITHMS if (digest := getattr(self, name)) is not None}
        if self.size not in (None, size):
            return f"got {size} bytes, expected {self.size} bytes"
        got = digests(path, tuple(wanted))
        for name, digest in wanted.items():
            if got[name] != digest:
                expected = "" if self.size is None else f"{self.size} bytes with "
                return f"got {size} bytes with {name} {got[name][:16]}..., expected {expected}{digest[:16]}..."
        return None


def digests(path: Path, algorithms: Sequence[str] = ("sha256",)) -> dict[str, str]:
    """Hexadecimal digests by algorithm (of hashlib), all in one reading."""
    found = {name: hashlib.new(name, usedforsecurity=name != "md5") for name in algorithms}
    bar = progress_bar(total=path.stat().st_size, unit="B", unit_scale=True, desc=f"checking {path.name}", delay_s=2)
    with path.open("rb") as file, bar:
        while found and (chunk := file.read(1 << 20)):
            for digest in found.values():
                digest.update(chunk)
            bar.update(len(chunk))
    return {name: digest.hexdigest() for name, digest in found.items()}


def partial_path(path: Path) -> Path:
    """Where what was received so far waits for the rest."""
    return path.with_name(path.name + ".partial")


def download(urls: Sequence[str], identity: Identity, path: Path) -> None:
    """Brings the file to `path` under a progress bar, going on from a partial file beside it.

    urls: mirrors in the order they are tried. Never reads more than the published size, or what the server announced
    where none is published. Raises DownloadError with each mirror's reason; FacekitError where the disk refuses.
    """
    failures = []
    for url in urls:
        try:
            _download(url, identity, path)
            return
        except _DiskError:
            raise
        except (OSError, http.client.HTTPException) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            failures.append(f"  {url}: {reason}")
        except FacekitError as error:
            failures.append(f"  {error}")
    raise DownloadError("\n".join(failures))


class _DiskError(FacekitError):
    """No mirror can help."""


def _download(url: str, identity: Identity, path: Path) -> None:
    partial = partial_path(path)
    done = partial.stat().st_size if partial.is_file() else 0
    if identity.size is None or done > identity.size:  # of what is no known whole, there is no rest to ask for
        done = 0
    if done == 0 or done != identity.size:
        _receive(url, identity, partial, done)
    problem = identity.mismatch(partial)
    if problem is not None:
        cut_off = identity.size is not None and partial.stat().st_size < identity.size
        if not cut_off:
            partial.unlink()
        fate = "cut off" if cut_off else "not the published file"
        raise FacekitError(f"{url}: {problem}: {fate}.")
    partial.replace(path)


def _receive(url: str, identity: Identity, partial: Path, done: int) -> None:
    headers = {"User-Agent": "facekit"} | ({"Range": f"bytes={done}-"} if done else {})
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_S) as response:
        if done and response.status != 206:  # the server doesn't resume: from the start
            done = 0
        if done and not response.headers.get("Content-Range", f"bytes {done}-").startswith(f"bytes {done}-"):
            partial.unlink()
            raise FacekitError(f"{url}: asked for the bytes from {done} on, the server offers others.")
        if response.headers.get_content_type() == "text/html":  # would look like the beginning of the file
            raise FacekitError(f"{url}: the server offers a web page: not the published file.")
        length = response.headers.get("Content-Length", "")
        announced = done + int(length) if length.isascii() and length.isdigit() else None
        if None not in (announced, identity.size) and announced != identity.size:
            raise FacekitError(
                f"{url}: the server offers {announced} bytes, expected {identity.size} bytes: not the published file."
            )
        limit = identity.size or announced or MAX_UNKNOWN_BYTES
        name = partial.name.removesuffix(".partial")
        bar = progress_bar(total=identity.size or announced, initial=done, unit="B", unit_scale=True, desc=name)
        with _open(partial, "ab" if done else "wb") as out, bar:
            while done <= limit and (chunk := response.read(CHUNK_BYTES)):  # never more, whatever the server sends
                _write(out, chunk, partial)
                bar.update(len(chunk))
                done += len(chunk)
        if announced is not None and done < announced:
            raise FacekitError(f"{url}: got {done} bytes, expected {announced} bytes: cut off.")
        if identity.size is None and done > limit:
            partial.unlink()
            raise FacekitError(f"{url}: the server sends more than {limit} bytes: not the published file.")


def _open(path: Path, mode: str) -> IO[bytes]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open(mode)
    except OSError as error:
        raise _DiskError(f"{path}: can't be written ({error.strerror}). Choose a place you may write to.") from error


def _write(out: IO[bytes], chunk: bytes, path: Path) -> None:
    try:
        out.write(chunk)
    except OSError as error:
        raise _DiskError(
            f"{path}: can't be written ({error.strerror}). Make room and run again: what is there is kept."
        ) from error
