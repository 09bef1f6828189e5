"""What files are called that are written of pictures: relative, harmless, and each once."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection
from pathlib import PurePosixPath

from facekit.errors import is_printable

_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)  # devices of Windows
MAX_PART = 120  # characters


class Names:
    """Gives each picture's name once, also to disks that don't tell capitals; the next of a name is numbered."""

    def __init__(self) -> None:
        self._taken: set[int] = set()  # hashes: of millions of names
        self.numbered: dict[str, str] = {}  # names with a number, and what another picture was called before

    def of(self, below: str) -> str:
        """A relative path, with /, whose name without suffix nothing else has: labels and crops have other suffixes."""
        path = _relative(below)
        return self._first_free(path, "", path.suffix)

    def of_file(self, below: str, kept: Collection[str], plain: str) -> str:
        """The same where one file alone is written of each: with its own suffix where that is one of `kept`, else with
        `plain`; a.png and a.tif both keep their names. Give an object's names by one of both functions."""
        path = _relative(below)
        return self._first_free(path, path.suffix if path.suffix.lower() in kept else plain)

    def _first_free(self, path: PurePosixPath, suffix: str, behind: str = "") -> str:
        """behind: what follows the name without counting."""
        stem = path.with_suffix("")
        numbered = (f"{stem}_{number}{suffix}" for number in itertools.count(2))
        names = itertools.chain([f"{stem}{suffix}"], numbered)
        name = next(name for name in names if hash(name.casefold()) not in self._taken)
        self._taken.add(hash(name.casefold()))
        if name != f"{stem}{suffix}":
            self.numbered[name + behind] = f"{stem}{suffix}"
        return name + behind


def _relative(below: str) -> PurePosixPath:
    return PurePosixPath(*(_harmless(part) for part in below.split("/")))


def _harmless(part: str) -> str:
    """A name that every disk takes and that leads nowhere else."""
    part = re.sub(r'[<>:"|?*\\\x00-\x1f\x7f]', "_", part)
    part = "".join(character if is_printable(character) else "_" for character in part).strip(" ") or "_"
    if len(part) > MAX_PART:
        stem, dot, suffix = part.rpartition(".")
        part = f"{stem[: MAX_PART - 8]}{dot}{suffix[:7]}" if dot else part[:MAX_PART]
    return f"_{part}" if part in (".", "..") or _RESERVED.fullmatch(part) else part
