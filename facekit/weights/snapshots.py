"""Published weights: from the cache, or downloaded into it, and known by their sha256."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from contextlib import suppress
from functools import lru_cache
from pathlib import Path, PurePosixPath
from urllib.parse import urlparse

from facekit.base.download import DownloadError, Identity, digests, download
from facekit.base.files import replacing
from facekit.errors import FacekitError
from facekit.template import RemoteFile, SnapshotSource, Template

log = logging.getLogger(__name__)


class NoSnapshotError(FacekitError):
    """No source of the template's weights could be reached; the work dir is usable otherwise."""


def cache_dir() -> Path:
    """$FACEKIT_CACHE, $XDG_CACHE_HOME/facekit or ~/.cache/facekit; a folder of the system's temporary one, which is
    said, where a service or a container has no home."""
    if os.environ.get("FACEKIT_CACHE"):
        return Path(os.environ["FACEKIT_CACHE"])
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"]) / "facekit"
    with suppress(RuntimeError):
        home = Path.home()
        if home.is_dir():
            return home / ".cache" / "facekit"
    return _temporary_cache()


@lru_cache(maxsize=1)
def _temporary_cache() -> Path:
    folder = Path(tempfile.gettempdir()) / f"facekit-{os.getuid() if hasattr(os, 'getuid') else 'cache'}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        is_ours = not folder.is_symlink() and (not hasattr(os, "getuid") or folder.stat().st_uid == os.getuid())
    except OSError:
        is_ours = False
    if not is_ours:  # another user's: nothing of it may be trusted
        folder = Path(tempfile.mkdtemp(prefix="facekit-"))
    log.info("There is no home folder to keep files in: they go to %s. Set FACEKIT_CACHE to choose another.", folder)
    return folder


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
                    _download(file)
            return _main_file(source)
        except DownloadError as error:
            failures.append(str(error))
        except FacekitError as error:
            failures.append(f"  {error}")
    bring = "Bring the file yourself: `snapshot=FILE` takes a .pth or an Open Model Zoo .xml (with its .bin)."
    do_without = "Do without: `no_snapshot=True`, and train from scratch or give train.py `load_weights`."
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


def _download(file: RemoteFile) -> None:
    path = cache_path(file)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FacekitError(
            f"{path.parent}: can't write there ({error.strerror}). Set FACEKIT_CACHE to another folder."
        ) from error
    download((file.url,), Identity(file.size, file.sha256), path)


def _sha256(path: Path) -> str:
    return digests(path)["sha256"]
