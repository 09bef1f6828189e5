"""A published data set on this disk: archives downloaded or given by hand, checked, unpacked, nothing done twice.

DST/archives/NAME             the archives; whoever has them puts them there
DST/archives/sha256sums.txt   of those whose makers publish no sha256: what the first download got
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from facekit.base.download import DownloadError, Identity, digests, download, partial_path
from facekit.base.files import check_writable_folder, write_text
from facekit.base.reading import read_text
from facekit.datasets.catalogue import Archive, DataSet
from facekit.datasets.unpack import MARKER, unpack
from facekit.errors import FacekitError

log = logging.getLogger(__name__)

ARCHIVES, SUMS = "archives", "sha256sums.txt"
MAX_SUMS_BYTES = 1 << 20


@dataclass(frozen=True)
class Plan:
    """What is to be done for each archive: "unpacked" (nothing), "given" (check, unpack), "download"."""

    title: str
    licence: str
    destination: Path
    steps: tuple[tuple[Archive, str], ...]
    needed_bytes: int  # at most
    free_bytes: int

    def text(self) -> str:
        """For the user, before it begins."""
        lines = [self.title, self.licence, "", f"Into {self.destination}:"]
        words = {"unpacked": "is there, unpacked", "given": f"is there, in {ARCHIVES}", "download": "to download"}
        for archive, step in self.steps:
            size = "" if archive.identity.size is None else _shown(archive.identity.size)
            lines.append(f"  {archive.name:<22} {size:>10}  {words[step]}")
        if self.needed_bytes:
            lines.append(f"  needs up to {_shown(self.needed_bytes)}, {_shown(self.free_bytes)} are free")
        return "\n".join(lines)


def plan_download(data_set: DataSet, destination: Path, leave_out: Sequence[str] = ()) -> Plan:
    """leave_out: parts of the set, of train, val and test.

    Raises FacekitError where a folder of the set's name holds something else, or the disk hasn't room.
    """
    check_writable_folder(destination)
    steps = []
    needed = 0
    for archive in data_set.archives:
        if archive.part in leave_out:
            continue
        path = destination / ARCHIVES / archive.name
        step = "unpacked" if _is_unpacked(archive, destination) else "given" if path.is_file() else "download"
        if step != "unpacked":
            needed += archive.limits.bytes
        if step == "download":
            partial = partial_path(path)
            done = partial.stat().st_size if partial.is_file() else 0
            needed += max(0, (archive.identity.size or archive.limits.bytes) - done)
        steps.append((archive, step))
    free = shutil.disk_usage(destination).free
    if needed > free:
        raise FacekitError(
            f"{destination}: expected up to {_shown(needed)} of free disk space, got {_shown(free)}. "
            f"Make room, or choose a folder on another disk."
        )
    return Plan(data_set.title, data_set.licence, destination, tuple(steps), needed, free)


def obtain(plan: Plan, remove_archives: bool = False) -> None:
    """Carries the plan out; what is done stays done where it is stopped.

    remove_archives: take each away once it is unpacked. Raises FacekitError with the reasons of all mirrors and the
    remedy.
    """
    for archive, step in plan.steps:
        if step == "unpacked":
            continue
        path = plan.destination / ARCHIVES / archive.name
        _bring(archive, path)
        unpack(path, plan.destination / archive.folder, archive.inside, archive.limits, _marker(archive))
        if remove_archives:
            path.unlink()


def _bring(archive: Archive, path: Path) -> None:
    """The archive at `path`, checked."""
    sums = path.with_name(SUMS)
    recorded = _recorded(sums).get(archive.name) if archive.identity.sha256 is None else None
    identity = replace(archive.identity, sha256=recorded) if recorded else archive.identity
    try:
        problem = identity.mismatch(path) if path.is_file() else "not there"
    except OSError as error:
        raise FacekitError(f"{path}: the archive can't be read ({error.strerror}). Check the file.") from error
    if problem is not None:
        if path.is_file():
            log.warning("%s: %s: not the published file, so it is downloaded in its place.", path, problem)
        _download(archive, identity, path, sums if recorded else None)
    if identity.sha256 is None:
        _record(archive, identity, path, sums)


def _download(archive: Archive, identity: Identity, path: Path, sums: Path | None) -> None:
    try:
        download(archive.urls, identity, path)
    except DownloadError as error:
        published = [f"{name} {value}" for name in ("sha256", "md5") if (value := getattr(identity, name))]
        changed = f"\n  3. If its makers have changed the file, take its line out of {sums}." if sums else ""
        raise FacekitError(
            f"{archive.name} could not be downloaded:\n{error}\nRemedies:\n"
            "  1. Run the same command again: what was cut off goes on where it stopped, what is done stays.\n"
            f"  2. Bring the file yourself, put it into {path.parent}, and run the command again. It is accepted by "
            f"its {' and '.join(published) or 'name alone, as nothing is published of it'}.{changed}"
        ) from error


def _record(archive: Archive, identity: Identity, path: Path, sums: Path) -> None:
    sha256 = digests(path)["sha256"]
    lines = [f"{digest}  {name}\n" for name, digest in (_recorded(sums) | {archive.name: sha256}).items()]
    write_text(sums, "".join(lines))
    known = "only an md5, which it has" if identity.md5 else "no digest, so that it is taken on trust"
    log.warning(
        "%s: its makers publish no sha256 (known is %s). What was got, sha256 %s, is recorded in %s: "
        "from now on only that is accepted.", archive.name, known, sha256, sums,
    )  # fmt: skip


def _recorded(sums: Path) -> dict[str, str]:
    """Digests by name, as `sha256sum` writes them."""
    if not sums.is_file():
        return {}
    # Not as an input, for a line is added to it by and by.
    fields = [line.split() for line in read_text(sums, MAX_SUMS_BYTES, "Delete it to begin anew.").splitlines()]
    return {row[1]: row[0] for row in fields if len(row) == 2}


def _is_unpacked(archive: Archive, destination: Path) -> bool:
    folder = destination / archive.folder
    marker = folder / MARKER
    if marker.is_file():
        return True
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    missing = [name for name in archive.needed if not (folder / name).exists()]
    pictures = sum(1 for _ in (folder / "images").rglob("*.jpg")) if archive.pictures else 0
    if missing or pictures != archive.pictures:
        what = f"{missing[0]} is missing" if missing else f"it has {pictures} of {archive.pictures} pictures"
        raise FacekitError(
            f"{folder}: expected nothing there, or what {archive.name} holds, got another folder ({what}). "
            f"Move it away, or choose another destination."
        )
    log.info("%s is there, unpacked by somebody else: taken as it is, its files aren't checked.", folder)
    return True


def _marker(archive: Archive) -> str:
    return f"{archive.name} {archive.identity.sha256 or archive.identity.md5 or ''}".rstrip() + "\n"


def _shown(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"
