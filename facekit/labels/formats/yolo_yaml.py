"""YOLO's data.yaml: which folders or lists of pictures are a set, and the classes' names.

path: .                 what the others are relative to, itself relative to the file; may be left out
test:                   a set that there is none of
train: images/train     a folder, a list of pictures, or several of them
val: val.txt
names: [face]           or {0: face}
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from facekit.errors import FacekitError
from facekit.labels.formats.text_lines import read_text
from facekit.labels.keypoints import MAX_POINTS
from facekit.labels.picture_labels import check_name_length, has_drive, picture_path
from facekit.labels.picture_paths import plain_path, tails_of
from facekit.labels.values import as_whole, face_names, say_read_together

log = logging.getLogger(__name__)

PARTS = ("train", "val", "test")
READ_KEYS = (*PARTS, "path", "names", "kpt_shape", "kpt_names")
MAX_YAML_BYTES = 1 << 18


@dataclass(frozen=True)
class DataYaml:
    """What a data.yaml says."""

    root: Path  # what the lists' lines are relative to
    top: Path  # what no path leaves; the root or a folder above it
    places: list[Path]  # folders and lists of pictures
    names: dict[int, str] = field(default_factory=dict)  # of the classes, in lower case
    kpt_shape: tuple[int, int] | None = None  # points a face, and values a point
    kpt_names: list[Any] = field(default_factory=list)  # of a face's points; empty: none are given


def read_data_yaml(file: Path, data_root: Path | None, part: str | None) -> DataYaml:
    """part: one of its sets; None: all of them. Raises FacekitError with the file and the key or line."""
    try:
        text = read_text(file, MAX_YAML_BYTES)
        content = yaml.safe_load(text)
        _check_no_doubles(yaml.compose(text, Loader=yaml.SafeLoader), file, READ_KEYS)
    # PyYAML lets through what its own constructors raise: !!timestamp x, !!bool x, 2026-99-99.
    except (yaml.YAMLError, RecursionError, ValueError, LookupError, AttributeError, TypeError) as error:
        mark = getattr(error, "problem_mark", None)
        raise FacekitError(f"{file}:{mark.line + 1 if mark else 1}: not valid YAML. Mend the file.") from error
    content = {key: value for key, value in content.items() if value is not None} if isinstance(content, dict) else {}
    if not any(key in content for key in PARTS):
        raise FacekitError(f"{file}: expected a mapping with train, val or test, got none.")
    chosen = [key for key in PARTS if key in content and part in (None, key)]
    if not chosen:
        raise FacekitError(f"{file}: there is no {part!r} in it. Its sets: {', '.join(set(PARTS) & set(content))}.")
    entries = {key: _entries(content[key], f"{file}: {key}") for key in chosen}
    root = top = data_root or file.parent
    if data_root is None:
        path = content.get("path") or "."
        if not isinstance(path, str):
            raise FacekitError(f"{file}: path: expected the path of a folder, got something else.")
        top = _folder_above(file.parent)
        root = _root(top, file.parent, path, f"{file}: path")
    named = [entry for key in PARTS if key in content for entry in _entries(content[key], f"{file}: {key}")]
    places = {
        key: [_entry_place(top, root, entry, str(file), named, _may_be_missing(key, part)) for entry in entries[key]]
        for key in chosen
    }
    places = _without_missing(places, part, file)
    say_read_together(file, list(places))
    return DataYaml(
        root, top, [place for each in places.values() for place in each], _class_names(content.get("names")),
        _kpt_shape(content.get("kpt_shape")), _kpt_names(content.get("kpt_names"), content.get("names")),
    )  # fmt: skip


def _entries(value: Any, where: str) -> list[str]:
    entries: list[Any] = value if isinstance(value, list) else [value]
    if not all(isinstance(entry, str) for entry in entries):
        raise FacekitError(f"{where}: expected a path or a list of paths, got something else.")
    return entries


def _may_be_missing(key: str, part: str | None) -> bool:
    return part is None and key != "train"


def _without_missing(places: dict[str, list[Path]], part: str | None, file: Path) -> dict[str, list[Path]]:
    """Without val and test where they aren't on the disk and no one asked for them by name: Roboflow writes a test set
    whether there is one or not."""
    missing = {
        key: each for key, each in places.items() if _may_be_missing(key, part) and not any(map(Path.exists, each))
    }
    if not missing or len(missing) == len(places):
        return places
    for key, each in missing.items():
        log.warning("%s: %s is not there (%s): left out.", file, key, ", ".join(map(str, each)))
    return {key: each for key, each in places.items() if key not in missing}


def _check_no_doubles(node: yaml.Node | None, file: Path, keys: Collection[str] | None = None) -> None:
    """Raises FacekitError for one of the keys (None: all) that is there twice, of which YAML's readers keep the last in
    silence."""
    if not isinstance(node, yaml.MappingNode):
        return
    seen = set()
    for key, value in node.value:
        if isinstance(key, yaml.ScalarNode) and key.value != "<<" and (keys is None or key.value in keys):
            if key.value in seen:
                raise FacekitError(f"{file}:{key.start_mark.line + 1}: {key.value}: given twice; keep one.")
            seen.add(key.value)
        if key.value == "names":  # the classes' numbers
            _check_no_doubles(value, file)


def _folder_above(folder: Path) -> Path:
    """How far the paths of a data.yaml may reach: the folder that holds its own, but never a whole disk."""
    above = Path(os.path.normpath(folder.absolute())).parent
    return folder if above == Path(above.anchor) else above


def _entry_place(
    top: Path, root: Path, entry: str, where: str, named: list[str], may_be_missing: bool
) -> Path:  # fmt: skip
    """Where an entry of data.yaml is; `../train/images` is also looked for without the `../`, as Ultralytics does, and
    another machine's path by its end. named: the entries of all sets, of which no two may be one place by their ends.
    """
    check_name_length(entry, where)
    written = entry.replace("\\", "/")
    shorter = written.removeprefix("../")
    for path in (written, written if ".." in shorter.split("/") else shorter):
        with suppress(FacekitError):
            place = _below(top, root, path, where)
            if place.exists():
                return place
    found = _by_tail(root, entry, where)
    if found is None:
        # Roboflow's ../test/images, of which there may be none: where it would be below the data root.
        is_nowhere = ".." not in shorter.split("/") and not (root / written).exists()
        return _below(top, root, shorter if may_be_missing and is_nowhere else entry, where)
    others = (name for name in named if name != entry and _by_tail(root, name, where) == found)
    if (other := next(others, None)) is not None:
        raise FacekitError(
            f"{where}: {entry!r} and {other!r} would both be {found}. Give the folder above both as data root, or mend "
            f"the paths."
        )
    log.warning("%s: %r is no path of this machine: by its end it is %s.", where, entry, found)
    return found


def _by_tail(root: Path, path: str, where: str) -> Path | None:
    """The longest end of a path from a disk's root that is there below our root; None where there is none."""
    plain = plain_path(path)
    if not plain.is_absolute():
        return None
    check_name_length(path, where)
    return next((root / tail for tail in tails_of(plain) if (root / tail).exists()), None)


def _root(top: Path, folder: Path, path: str, where: str) -> Path:
    """The folder that `path` names, looked for beside the file, then in the folder above, as Ultralytics' users have
    theirs relative to the folder of all data sets."""
    for base in (folder, top):
        with suppress(FacekitError):
            place = _below(top, base, path, where)
            if place.is_dir():
                return place
    found = _by_tail(top, path, where)
    return found if found is not None and found.is_dir() else _below(top, folder, path, where)


def _below(top: Path, root: Path, path: str, where: str) -> Path:
    """root / path, refused where it would leave `top` (a data.yaml may come from anybody)."""
    relative = PurePosixPath(path.replace("\\", "/"))
    if ".." not in relative.parts and not relative.is_absolute():
        return picture_path(root, path, where)
    check_name_length(path, where)
    place = Path(os.path.normpath(root.absolute() / relative))
    allowed = Path(os.path.normpath(top.absolute()))
    if has_drive(path) or not place.is_relative_to(allowed):
        raise FacekitError(
            f"{where}: {path!r} leaves the data root ({allowed} and what is in it). Give the folder that the paths in "
            f"the file are relative to as data root, and write them without '../'."
        )
    return place


def _class_names(names: Any) -> dict[int, str]:
    pairs = names.items() if isinstance(names, dict) else enumerate(names) if isinstance(names, list) else ()
    numbered = ((as_whole(key), name) for key, name in pairs if isinstance(name, str))  # '0': face, too
    return {number: name.lower() for number, name in numbered if number is not None}


def _kpt_names(value: Any, names: Any) -> list[Any]:
    """Of Ultralytics' pose sets: a list by class, or one list. Of several classes the face's."""
    listed = value.items() if isinstance(value, dict) else enumerate([value])
    by_class = {as_whole(key): each for key, each in listed if isinstance(each, list)}
    classes = _class_names(names)
    faces = face_names(classes.values())
    return next((each for number, each in by_class.items() if classes.get(number or 0) in faces), []) or next(
        iter(by_class.values()), []
    )


def _kpt_shape(value: Any) -> tuple[int, int] | None:
    """Of Ultralytics' pose sets: [points, values a point]."""
    numbers = [as_whole(number) for number in value] if isinstance(value, list) and len(value) == 2 else []
    if len(numbers) != 2 or None in numbers:
        return None
    points, values = (int(number or 0) for number in numbers)
    return (points, values) if 0 < points <= MAX_POINTS and values in (2, 3) else None
