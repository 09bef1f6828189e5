"""Which pictures some names stand for."""

from __future__ import annotations

import glob
import logging
import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from facekit.base.files import is_passed_over, real_path
from facekit.base.nearest import did_you_mean_path
from facekit.errors import FacekitError, Loss
from facekit.pictures.read import PICTURE_SUFFIXES
from facekit.pictures.write import is_drawn

log = logging.getLogger(__name__)

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".m4v", ".webm", ".mpg", ".mpeg", ".wmv", ".ts", ".mts", ".3gp")
SUFFIXES_NAMED = 8


@dataclass
class Listing:
    """What was found; files that are given by name are pictures whatever they hold: reading them tells."""

    pictures: list[Path] = field(default_factory=list)  # in the order of the names, each once
    passed_over: Counter[str] = field(default_factory=Counter)  # files of a folder or glob, by what they are
    drawn: int = 0  # pictures of a folder or glob that facekit drew, or that lie in the output folder
    losses: list[Loss] = field(default_factory=list)  # names that stand for no picture, folders that can't be read
    nameable: dict[str, list[Path]] = field(default_factory=dict)  # passed over, though they could be given by name

    def left_out(self, name: str, taken: Set[Path]) -> list[Loss]:
        """What could be given by name, and wasn't: `taken` has the real paths of what was."""
        counts = {what: sum(real_path(path) not in taken for path in paths) for what, paths in self.nameable.items()}
        return [Loss(name, f"{count} {what} left out. Give them by name.") for what, count in counts.items() if count]

    def say(self) -> None:
        """Logs what was passed over."""
        if self.passed_over:
            kinds = [f"{count} {kind}" for kind, count in self.passed_over.most_common(SUFFIXES_NAMED)]
            more = "" if len(self.passed_over) <= SUFFIXES_NAMED else ", ..."
            log.info("Passed over, no pictures: %d (%s%s)", self.passed_over.total(), ", ".join(kinds), more)
        if self.drawn:
            log.info("Passed over, drawn by facekit: %d (give them by name to draw on them once more)", self.drawn)


def list_pictures(names: Sequence[str], output: Path | None = None, flag: str = "`images`") -> Listing:
    """The pictures of files, folders (with subfolders) and globs, each name's sorted.

    Of folders and globs, what facekit drew is left out, and what lies in the folder `output` below the one searched.
    Raises FacekitError, which names the flag, when there is no picture at all.
    """
    listing = Listing()
    taken: set[Path] = set()
    for name in names:
        before = len(listing.pictures) + listing.drawn
        for path in _found(name, output, listing):
            if (place := real_path(path)) not in taken:
                taken.add(place)
                listing.pictures.append(path)
        if before == len(listing.pictures) + listing.drawn and not _stands_for_taken(name, taken):
            listing.losses.append(Loss(f"{flag} {name}", _why_none(name)))
    if not listing.pictures:
        listing.say()
        if listing.drawn:
            raise FacekitError(
                f"{flag} {', '.join(names)}: all {listing.drawn} pictures there were drawn by facekit. Give other "
                f"pictures, or these by name."
            )
        raise FacekitError("\n".join(map(str, listing.losses)) or f"{flag}: expected pictures, got none.")
    return listing


def _found(name: str, output: Path | None, listing: Listing) -> Iterator[Path]:
    path = Path(name)
    if path.is_dir():
        yield from _among(sorted(_files_below(path, listing.losses)), path, output, listing)
    elif path.exists() or path.is_symlink():
        if path.suffix.lower() in VIDEO_SUFFIXES:
            raise FacekitError(f"{name}: a video. Give it as `video={name}`.")
        yield path
    elif glob.has_magic(name):
        matches = sorted(Path(match) for match in glob.glob(name, recursive=True))  # noqa: PTH207
        yield from _among(matches, fixed_part(path), output, listing)


def _files_below(folder: Path, losses: list[Loss]) -> Iterator[Path]:
    """Linked folders too, behind all others and each once: links may lead round in a circle."""

    def unreadable(error: OSError) -> None:
        losses.append(
            Loss(str(error.filename), f"this folder can't be read ({error.strerror}). Nothing in it was seen.")
        )

    seen: set[Path] = set()
    waiting = deque([folder])
    while waiting:
        for top, folders, files in os.walk(waiting.popleft(), onerror=unreadable):
            place = Path(top)
            if (real := real_path(place)) in seen:
                folders.clear()
                continue
            seen.add(real)
            folders.sort()
            waiting += [place / name for name in folders if (place / name).is_symlink()]
            yield from (place / name for name in files)


def _among(paths: Iterable[Path], top: Path, output: Path | None, listing: Listing) -> Iterator[Path]:
    """The pictures among what was found below top; the others are counted."""
    own = real_path(output) if output is not None else None
    real_folder = cache(real_path)
    if own is not None and real_path(top).is_relative_to(own):
        own = None  # what is searched itself is searched
    for path in paths:
        if path.is_dir():
            continue
        if is_passed_over(path):
            listing.passed_over["half-written or of macOS"] += 1
        elif path.suffix.lower() not in PICTURE_SUFFIXES:
            listing.passed_over[path.suffix.lower() or "without suffix"] += 1
            if path.suffix.lower() in VIDEO_SUFFIXES:
                listing.nameable.setdefault("videos are", []).append(path)
        elif path.exists() and not path.is_file():
            listing.passed_over["pipes or devices"] += 1
        elif own is not None and real_folder(path.parent).is_relative_to(own):
            listing.drawn += 1
        elif is_drawn(path):
            listing.drawn += 1
            listing.nameable.setdefault("pictures that facekit drew are", []).append(path)
        else:
            yield path


def fixed_part(pattern: Path) -> Path:
    """The folder above all that a glob can find."""
    fixed = Path(pattern.anchor)
    for part in pattern.parts[len(fixed.parts) :]:
        if glob.has_magic(part):
            break
        fixed /= part
    return fixed


def _stands_for_taken(name: str, taken: set[Path]) -> bool:
    """Whether the name gives nothing new because others gave its pictures already."""
    path = Path(name)
    if path.is_dir():
        return any(place.is_relative_to(real_path(path)) for place in taken)
    matches = glob.glob(name, recursive=True)  # noqa: PTH207
    return real_path(path) in taken or any(real_path(Path(match)) in taken for match in matches)


def _why_none(name: str) -> str:
    if Path(name).is_dir():
        return "no pictures there. Give a file, a folder or a quoted glob."
    if glob.has_magic(name):
        return "no pictures there: the glob fits no picture. Give a file, a folder or a quoted glob."
    hint = did_you_mean_path(Path(name))
    return f"no pictures there: no such file or folder.{hint} Give a file, a folder or a quoted glob."
