"""Files from the network: from the first mirror that has them, resumed where cut off, known by size and digest."""

from __future__ import annotations

import base64
import hashlib
import http.client
import queue
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urlsplit, urlunsplit

from facekit.base.progress import progress_bar
from facekit.base.reading import shown
from facekit.errors import FacekitError

CHUNK_BYTES = 1 << 16
TIMEOUT_S = 20.0  # of silence
ANSWER_S = 60.0  # until all of an answer's headers are there, redirections included
WINDOW_S = 30.0  # over which a server must send MIN_BYTES_A_SECOND
MIN_BYTES_A_SECOND = 1024
MAX_UNKNOWN_BYTES = 1 << 26  # of a file whose size its makers don't say
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


def download(urls: Sequence[str], identity: Identity, path: Path, most_bytes: int | None = None) -> None:
    """Brings the file to `path` under a progress bar, going on from a partial file beside it.

    urls: mirrors in the order they are tried; one that doesn't answer, falls silent or is too slow is given up. Never
    reads more than the published size, or most_bytes (MAX_UNKNOWN_BYTES) where none is published. Raises
    DownloadError with each mirror's reason; FacekitError where the disk refuses.
    """
    failures = []
    for url in urls:
        try:
            _download(url, identity, path, identity.size or most_bytes or MAX_UNKNOWN_BYTES)
            return
        except _DiskError:
            raise
        except FacekitError as error:
            failures.append(f"  {error}")
        except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: a host or a port that is none
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            failures.append(f"  {shown(url, 500)}: {shown(reason, 200)}")
    raise DownloadError("\n".join(failures))


def fetch(url: str, most_bytes: int, most_s: float = 60.0) -> tuple[bytes, str]:
    """What an http or https address answers, held in memory, and its media type such as image/jpeg; nothing of the
    type's is read where it is no `image/` and no `application/octet-stream`.

    Raises FacekitError, which hides passwords in the address, for anything else, for more than most_bytes, and where
    it is not there within most_s seconds.
    """
    if not url.lower().startswith(("http://", "https://")):
        raise FacekitError(f"{shown(url, 500)}: only http:// and https:// addresses are read.")
    until = time.monotonic() + most_s
    try:
        with _Answer(_signed(url)) as answer:
            kind, length = answer.headers.get_content_type(), answer.headers.get("Content-Length", "")
            if not kind.startswith("image/") and kind != "application/octet-stream":
                raise FacekitError(f"{shown(url, 500)}: the server offers {shown(kind)}, not a picture.")
            if length.isascii() and length.isdigit() and len(length) < 19 and int(length) > most_bytes:
                raise FacekitError(f"{shown(url, 500)}: the server offers {length} bytes, over {most_bytes}.")
            parts: list[bytes] = []
            while chunk := answer.read():
                parts.append(chunk)
                most_bytes -= len(chunk)
                if most_bytes < 0:
                    raise FacekitError(f"{shown(url, 500)}: the server sends more bytes than are taken.")
                if time.monotonic() > until:
                    raise FacekitError(f"{shown(url, 500)}: not there within {most_s:g} seconds.")
            got = sum(map(len, parts))
            if length.isascii() and length.isdigit() and len(length) < 19 and got != int(length):
                raise FacekitError(f"{shown(url, 500)}: cut off: {got} of {length} bytes came.")
            return b"".join(parts), kind
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: a host or a port that is none
        is_code = isinstance(error, urllib.error.HTTPError)  # whose own text has the number
        reason = error.reason if isinstance(error, urllib.error.URLError) and not is_code else error
        raise FacekitError(f"{shown(url, 500)}: can't be had ({shown(reason, 200)}). Check the address.") from error


def _signed(url: str) -> urllib.request.Request:
    """A request with the user and password that stand in the address, for that host alone: no redirection gets them."""
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    request = urllib.request.Request(urlunsplit(parts._replace(netloc=host)), headers={"User-Agent": "facekit"})
    if user:
        token = base64.b64encode(unquote(user).encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {token}")
    return request


class _DiskError(FacekitError):
    """No mirror can help."""


def _download(url: str, identity: Identity, path: Path, limit: int) -> None:
    partial = partial_path(path)
    done = partial.stat().st_size if partial.is_file() else 0
    if identity.size is None or done > identity.size:  # of what is no known whole, there is no rest to ask for
        done = 0
    if done == 0 or done != identity.size:
        _receive(url, identity, partial, done, limit)
    problem = identity.mismatch(partial)
    if problem is not None:
        cut_off = identity.size is not None and partial.stat().st_size < identity.size
        if not cut_off:
            partial.unlink()
        fate = "cut off" if cut_off else "not the published file"
        raise FacekitError(f"{url}: {problem}: {fate}.")
    partial.replace(path)


def _receive(url: str, identity: Identity, partial: Path, done: int, limit: int) -> None:
    headers = {"User-Agent": "facekit"} | ({"Range": f"bytes={done}-"} if done else {})
    with _Answer(urllib.request.Request(url, headers=headers)) as answer:
        if done and answer.status != 206:  # the server doesn't resume: from the start
            done = 0
        if done and not answer.headers.get("Content-Range", f"bytes {done}-").startswith(f"bytes {done}-"):
            partial.unlink()
            raise FacekitError(f"{url}: asked for the bytes from {done} on, the server offers others.")
        if answer.headers.get_content_type() == "text/html":  # would look like the beginning of the file
            raise FacekitError(f"{url}: the server offers a web page: not the published file.")
        length = answer.headers.get("Content-Length", "")
        announced = done + int(length) if length.isascii() and length.isdigit() and len(length) < 19 else None
        if None not in (announced, identity.size) and announced != identity.size:
            raise FacekitError(
                f"{url}: the server offers {announced} bytes, expected {identity.size} bytes: not the published file."
            )
        if announced is not None and announced > limit:
            raise FacekitError(f"{url}: the server offers {announced} bytes, expected at most {limit} bytes.")
        name = partial.name.removesuffix(".partial")
        bar = progress_bar(total=identity.size or announced, initial=done, unit="B", unit_scale=True, desc=name)
        with _open(partial, "ab" if done else "wb") as out, bar:
            while done <= limit and (chunk := answer.read()):  # never more, whatever the server sends
                _write(out, chunk, partial)
                bar.update(len(chunk))
                done += len(chunk)
        if announced is not None and done < announced:
            raise FacekitError(f"{url}: got {done} bytes, expected {announced} bytes: cut off.")
        if identity.size is None and done > limit:
            partial.unlink()
            raise FacekitError(f"{url}: the server sends more than {limit} bytes: not the published file.")


class _Answer:
    """A server's answer, read by a thread of its own: whatever trickles where, in names, handshakes, headers or
    lengths of chunks, the reader waits no longer than it said."""

    status: int
    headers: http.client.HTTPMessage

    def __init__(self, request: urllib.request.Request) -> None:
        self._request = request
        self._parts: queue.Queue[Any] = queue.Queue(16)
        self._is_given_up = threading.Event()
        self._since, self._bytes = time.monotonic(), 0

    def __enter__(self) -> _Answer:
        threading.Thread(target=self._work, daemon=True).start()
        try:
            self.status, self.headers = self._next(ANSWER_S, f"no answer within {ANSWER_S:g} seconds")
        except BaseException:
            self._is_given_up.set()
            raise
        self._since = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_given_up.set()

    def read(self) -> bytes:
        """The next bytes; none at the end. Raises OSError for a server that is silent or too slow."""
        chunk: bytes = self._next(TIMEOUT_S, f"nothing more for {TIMEOUT_S:g} seconds")
        self._bytes += len(chunk)
        took = time.monotonic() - self._since
        if took > WINDOW_S:
            if chunk and self._bytes < MIN_BYTES_A_SECOND * took:
                raise TimeoutError(f"under {MIN_BYTES_A_SECOND} bytes a second")
            self._since, self._bytes = time.monotonic(), 0
        return chunk

    def _next(self, timeout_s: float, complaint: str) -> Any:
        try:
            part = self._parts.get(timeout=timeout_s)
        except queue.Empty:
            raise TimeoutError(complaint) from None
        if isinstance(part, Exception):
            raise part
        return part

    def _work(self) -> None:
        try:
            with urllib.request.urlopen(self._request, timeout=TIMEOUT_S) as response:
                is_heard = self._put((response.status, response.headers))
                while is_heard and (chunk := response.read1(CHUNK_BYTES)):
                    is_heard = self._put(chunk)
            self._put(b"")
        except Exception as error:
            self._put(error)

    def _put(self, part: Any) -> bool:
        """False where nobody listens any more."""
        while not self._is_given_up.is_set():
            with suppress(queue.Full):
                self._parts.put(part, timeout=0.1)
                return True
        return False


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
