"""What writers share: pictures under their names in the data set, and how pictures get into a new folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath

from facekit.base.files import check_not_input, is_passed_over, replacing
from facekit.errors import FacekitError, is_printable
from facekit.labels.picture_labels import PictureLabels, has_drive

Named = tuple[str, PictureLabels]  # the picture's path in its data set, with /, and its labels
Parts = Mapping[str, Sequence[Named]]  # by name of the part: train, val, test

PICTURE_MODES = ("none", "copy", "link")


def known_size(labels: PictureLabels) -> tuple[int, int]:
    """Width and height, which convert looks up before it writes."""
    if labels.size_wh is None:
        raise ValueError(f"{labels.path}: the picture's size is needed here")
    return labels.size_wh


def name_in(root: Path, path: Path) -> str:
    """The path below the root, with /; raises FacekitError for a name that a text file can't hold."""
    try:
        name = path.relative_to(root).as_posix()
    except ValueError as error:
        raise FacekitError(f"{path}: lies outside the data root {root}. Give the folder above all pictures.") from error
    if (
        not is_printable(name)
        or "\\" in name
        or has_drive(name)
        or any(part != part.strip() for part in name.split("/"))
    ):
        raise FacekitError(
            f"{name!r}: label files can't hold this name (blanks at an end, a line break, a backslash, a drive, or no "
            f"UTF-8). Rename the picture, and its entry in the labels."
        )
    return name


def check_unique(targets: Mapping[str, str]) -> None:
    """targets: picture to the file that its labels go to. Raises FacekitError where two go to the same."""
    taken: dict[str, str] = {}
    for name, target in targets.items():
        if target in taken:
            raise FacekitError(
                f"{taken[target]} and {name}: the labels of both would be {target} in this format. Rename one picture."
            )
        taken[target] = name


def check_stems(names: Iterable[str]) -> None:
    """For lists that hold names without suffix: raises FacekitError for a name whose stem ends in a blank."""
    for name in names:
        stem = without_suffix(name)
        if stem != stem.rstrip():
            raise FacekitError(f"{name!r}: the lists of this format can't hold a blank before the suffix. Rename it.")


def check_no_others(folder: Path, patterns: Iterable[str], names: Iterable[str]) -> None:
    """Raises FacekitError for files of the patterns that are in the folder already and aren't among the names, paths
    below it: another data set's, they would be read with the new one."""
    written = set(names)
    found = sorted(path for pattern in patterns for path in folder.glob(pattern) if not is_passed_over(path))
    others = [path for path in found if path.relative_to(folder).as_posix() not in written]
    if others:
        raise FacekitError(
            f"{folder}: holds files of another data set, which would be read with this one ({len(others)}, first: "
            f"{others[0].relative_to(folder)}). Give another folder, or delete this one if nobody needs it."
        )


def take_lists_away(folder: Path, lists: Iterable[str]) -> None:
    """Before anything else is written over: were the command killed in between, an old list would stand beside a new
    one that has some of its pictures. Raises FacekitError for one that the command reads."""
    places = [folder / name for name in lists]
    for place in places:
        check_not_input(place)
    for place in places:
        place.unlink(missing_ok=True)


def without_suffix(name: str) -> str:
    return PurePosixPath(name).with_suffix("").as_posix()


def bring_picture(source: Path, target: Path, mode: str) -> None:
    """Puts the picture at target: "copy"; "link", a hard link, or a copy where the disks differ; "none", nothing.

    The caller owes the disk a sync_disk().
    """
    if mode == "none":
        return
    with suppress(OSError):
        if target.samefile(source):
            return
    try:
        stream = source.open("rb")
    except OSError as error:
        raise FacekitError(f"{source}: the picture can't be read ({error.strerror}). Check the file.") from error
    with stream, replacing(target, sync=False) as beside:
        if mode == "link":
            with suppress(OSError):  # another disk, or one without hard links: copied below
                os.link(source.resolve(), beside)
                return
        with beside.open("wb") as copy:
            shutil.copyfileobj(stream, copy)
