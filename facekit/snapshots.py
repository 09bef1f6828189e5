"""Published weights: from the cache, or downloaded, resumed where cut off, and known by their sha256."""

from __future__ import annotations

import hashlib
import http.client
import logging
import os
import shutil
import urllib.error
import urllib.request
from pathlib import Path, PurePosixPath
from urllib.parse import urlparse

from facekit.errors import FacekitError
from facekit.files import replacing
from facekit.progress import progress_bar
from facekit.template import RemoteFile, SnapshotSource, Template

log = logging.getLogger(__name__)

CHUNK_BYTES = 1 << 16
TIMEOUT_S = 20


class NoSnapshotError(FacekitError):
    """No source of the template's weights could be reached; the work dir is usable otherwise."""


def cache_dir() -> Path:
    """$FACEKIT_CACHE, or ~/.cache/facekit."""
    return Path(os.environ.get("FACEKIT_CACHE") or Path.home() / ".cache" / "facekit")


def fetch_snapshot(template: Template) -> Path:
    """The template's published weights on this disk: a .pth, or an .xml with its .bin beside it.

    Whatever source is wholly in the cache is taken first, then the sources in their order. Raises NoSnapshotError that
    lists what failed and the remedies.
    """
    for source in template.snapshot:
        if all(_cached(file) for file in source.files):
            log.info("Snapshot of %s found in the cache %s", template.name, cache_dir())
            return _main_file(source)
    failures = []
    for source in template.snapshot:
        try:
            for file in source.files:
                if not _cached(file):
                    download(file)
            return _main_file(source)
        except (OSError, http.client.HTTPException) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            failures.append(f"  {file.url}: {reason}")
        except FacekitError as error:
            failures.append(f"  {error}")
    bring = "Bring the file yourself: --snapshot FILE takes a .pth or an Open Model Zoo .xml (with its .bin)."
    do_without = "Do without: --no-snapshot, and train from scratch or give train.py --load-weights."
    if not template.snapshot:
        raise NoSnapshotError(
            f"{template.name} has no snapshot to fetch: its weights are published nowhere that could be named (its "
            f"template.yaml says more). Two remedies:\n  1. {bring}\n  2. {do_without}"
        )
    raise NoSnapshotError(
        f"The snapshot of {template.name} could not be fetched:\n" + "\n".join(failures) + "\n"
        "Three remedies:\n"
        "  1. With network, run the same command again: a download that was cut off goes on where it stopped.\n"
        f"  2. {bring}\n"
        f"  3. {do_without}"
    )


def cache_path(file: RemoteFile) -> Path:
    """Where the cache keeps it: a folder a digest, the file under its own name in it."""
    return cache_dir() / file.sha256 / PurePosixPath(urlparse(file.url).path).name


def _cached(file: RemoteFile) -> bool:
    path = cache_path(file)
    if not path.is_file() or path.stat().st_size != file.size:
        return False
    if _sha256(path) == file.sha256:
        return True
    log.warning("%s is damaged (its sha256 differs): fetching it again.", path)
    path.unlink()
    return False


def _main_file(source: SnapshotSource) -> Path:
    """The path to load; an IR's two files are brought side by side, as the cache keys each by its own digest."""
    first = cache_path(source.files[0])
    for other in source.files[1:]:
        beside = first.parent / cache_path(other).name
        if not beside.is_file() or _sha256(beside) != other.sha256:
            with replacing(beside) as target:
                shutil.copyfile(cache_path(other), target)
    return first


def download(file: RemoteFile) -> Path:
    """Downloads into the cache under a progress bar, going on from a partial file; checks size and sha256.

    Raises OSError (of urllib) where the network fails, FacekitError where the content is not the published one.
    """
    path = cache_path(file)
    partial = path.with_name(path.name + ".partial")
    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FacekitError(
            f"{partial.parent}: can't write there ({error.strerror}). Set FACEKIT_CACHE to another folder."
        ) from error
    done = partial.stat().st_size if partial.is_file() else 0
    if done > file.size:
        partial.unlink()
        done = 0
    if done < file.size:
        _receive(file, partial, done)
    digest = _sha256(partial)
    if partial.stat().st_size != file.size or digest != file.sha256:
        size = partial.stat().st_size
        if size >= file.size:
            partial.unlink()
        raise FacekitError(
            f"{file.url}: got {size} bytes with sha256 {digest[:16]}..., expected {file.size} bytes with "
            f"{file.sha256[:16]}...: not the published file, or cut off."
        )
    partial.replace(path)
    return path


def _receive(file: RemoteFile, partial: Path, done: int) -> None:
    request = urllib.request.Request(file.url, headers={"Range": f"bytes={done}-"} if done else {})
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
        if done and response.status != 206:  # the server doesn't resume: from the start
            done = 0
        announced = response.headers.get("Content-Length", "")
        if announced.isdigit() and done + int(announced) != file.size:  # such as a page that asks to log in
            raise FacekitError(
                f"{file.url}: the server offers {done + int(announced)} bytes, expected {file.size} bytes: "
                f"not the published file."
            )
        name = partial.name.removesuffix(".partial")
        bar = progress_bar(total=file.size, initial=done, unit="B", unit_scale=True, desc=name)
        with partial.open("ab" if done else "wb") as out, bar:
            while chunk := response.read(CHUNK_BYTES):
                out.write(chunk)
                bar.update(len(chunk))
                done += len(chunk)
                if done > file.size:  # never more than was announced, whatever the server sends
                    break


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
