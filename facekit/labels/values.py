"""Numbers, ids and flags of label files by their value, however they are written: 27, 27.0 and "27" are one id."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, TypeVar

from facekit.errors import FacekitError

log = logging.getLogger(__name__)

MAX_DIGITS = 18  # of a whole number: more are no count, id or size
FACE_NAMES = ("face", "faces", "human face", "human faces")  # of a class, the likeliest first; see class_name
IGNORED_NAMES = ("difficult", "iscrowd", "is crowd", "crowd", "ignore", "ignored")  # of flags; see class_name
_WHOLE = re.compile(rf"[+-]?\d{{1,{MAX_DIGITS}}}(\.0*)?", re.ASCII)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
_FLAGS = {"": False, "0": False, "false": False, "no": False, "off": False} | dict.fromkeys(
    ("1", "true", "yes", "on"), True
)

T = TypeVar("T")


def as_whole(value: Any) -> int | None:
    """The whole number that a number or a text stands for; None for any other value."""
    if isinstance(value, int):  # True is 1, as for every JSON and Python reader
        return int(value) if abs(value) < 10**MAX_DIGITS else None
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < 10**MAX_DIGITS else None
    if isinstance(value, str) and _WHOLE.fullmatch(value.strip()):
        return int(value.strip().partition(".")[0])
    return None


def as_number(value: Any) -> float | None:
    """The number that a number or a text stands for; None for any other value. May be infinite or NaN."""
    if type(value) in (int, float):
        try:
            return float(value)
        except OverflowError:  # JSON knows whole numbers of any length
            return math.inf if value > 0 else -math.inf
    if isinstance(value, str) and len(value) < 40 and _NUMBER.fullmatch(value.strip()):
        return float(value)
    return None


def as_flag(value: Any) -> bool | None:
    """Whether a flag is set: numbers 0 and 1, true and false, their texts, yes, no, on, off, and nothing for false;
    None: no flag."""
    if value is None:
        return False
    if isinstance(value, str):
        text = value.strip().lower()
        return _FLAGS.get(text, _FLAGS.get(str(as_whole(text))))
    return bool(value) if isinstance(value, int | float) and value in (0, 1) else None


def is_ignored(flags: Iterable[tuple[Any, Any]]) -> tuple[bool, str]:
    """Whether one of (name, value) is of IGNORED_NAMES and set; and in words the first such that is no flag, as "n/a"
    of a tool's list of choices, which counts as not set."""
    is_set, no_flag = False, ""
    for name, value in flags:
        if isinstance(name, str) and _is_ignored_name(name):
            flag = as_flag(value)
            if flag is None:
                no_flag = no_flag or f"{name}: {repr(value)[:60]}"
            is_set |= bool(flag)
    return is_set, no_flag


def say_no_flags(places: Sequence[str], where: str) -> None:
    """Warns of what is_ignored() told to be no flags, each with its place."""
    if places:
        what = "flag is neither 0 nor 1, and counts" if len(places) == 1 else "flags are neither 0 nor 1, and count"
        log.warning("%s: %d %s as not set (first: %s).", where, len(places), what, places[0])


def named_values(attributes: Any) -> Iterable[tuple[Any, Any]]:
    """The pairs of a mapping, or of a list of mappings with name and value; none of anything else."""
    if isinstance(attributes, dict):
        return attributes.items()
    listed = attributes if isinstance(attributes, list) else []
    return [(each.get("name"), each.get("value")) for each in listed if isinstance(each, dict)]


@lru_cache(maxsize=1024)  # a file of a million faces has few names
def _is_ignored_name(name: str) -> bool:
    return class_name(name) in IGNORED_NAMES


def class_name(value: Any) -> str:
    """A class's name as it is compared: small letters, a blank for each - and _."""
    return re.sub(r"[\s_-]+", " ", value).strip().lower() if isinstance(value, str) else ""


def face_names(names: Iterable[str]) -> set[str]:
    """Those of the names that stand for faces: "face" alone where there is one, for Roboflow's sets have a group of all
    classes, "faces", beside it."""
    known = {class_name(name) for name in names}
    wanted = next((name for name in FACE_NAMES if name in known), None)
    return {name for name in names if wanted is not None and class_name(name) == wanted}


def kinds_to_read(kinds: Iterable[str], where: str) -> set[str]:
    """Of the kinds of objects in a set those that are faces: the only one, whatever its name, or those named face.

    Says which are left alone. Raises FacekitError where none of several is named face.
    """
    known = set(kinds)
    if len(known) < 2:
        for name in known:
            say_only_kind(name, where)
        return known
    faces = face_names(known)
    if not faces:
        raise FacekitError(
            f"{where}: several kinds of objects and none named 'face': {', '.join(sorted(known))}. Rename one to "
            f"'face'."
        )
    if known - faces:
        others = ", ".join(sorted(known - faces))
        log.warning("%s: only the objects named 'face' are read; left alone: %s.", where, others)
    return faces


def say_only_kind(name: str, where: str) -> None:
    """Warns where the one kind of objects in a set isn't called a face: it is read as faces all the same."""
    if "face" not in class_name(name) and not class_name(name).isdigit() and name:
        log.warning("%s: the only kind of object is called %r: it is read as faces. Are they?", where, name)


def say_read_together(source: Path, parts: Sequence[str]) -> None:
    """Warns where one source is read as one set and holds several, such as train and val."""
    if len(parts) > 1:
        log.warning("%s: %s are read together; %s:%s names one.", source, ", ".join(parts), source, parts[0])


class ById(Generic[T]):
    """Things by their ids, which are found as they are written, or else by their value."""

    def __init__(self, things: dict[Any, T]) -> None:
        self.things = things
        self.otherwise = 0  # found by value, written otherwise
        self.first_otherwise: Any = None
        by_value: dict[int, list[Any]] = {}
        for key in things:
            if (value := as_whole(key)) is not None:
                by_value.setdefault(value, []).append(key)
        self._key_of = {value: keys[0] for value, keys in by_value.items() if len(keys) == 1}

    def find(self, key: Any) -> Any:
        """The id under which the thing stands; None where there is none."""
        if isinstance(key, int | str) and key in self.things:
            return key
        value = as_whole(key)
        found = None if value is None else self._key_of.get(value)
        if found is not None and (isinstance(found, str) or isinstance(key, str)):
            self.first_otherwise = key if not self.otherwise else self.first_otherwise
            self.otherwise += 1
        return found
