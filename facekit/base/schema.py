"""Data into frozen dataclasses, typed and within range; complaints name file, line, key and the nearest valid key.

A field without a default must be given. `Annotated[int, Range(1, 9)]` and `Annotated[tuple[...], Length(1, 9)]` say
what a field takes; __post_init__ says how fields must fit each other, by ValueError.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import os
import types
import typing
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import yaml

from facekit.base.nearest import did_you_mean
from facekit.base.reading import HEAD_BYTES, read_text, shown, stand_in
from facekit.errors import FacekitError

MAX_YAML_BYTES = 100_000  # a template is some kilobytes; anything huge is no template
MAX_VALUES = 50_000  # in a file, those that aliases repeat counted as often as they stand there
INT64 = (-(2**63), 2**63 - 1)

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Range:
    """The numbers that a field takes: least and most belong to it, over and under don't."""

    least: float | None = None
    most: float | None = None
    over: float | None = None
    under: float | None = None

    def complaint(self, value: Any) -> str | None:
        """What is expected, in words, of a value that lies outside; None for one that doesn't, and for None."""
        if value is None:
            return None
        is_in = (
            (self.least is None or value >= self.least)
            and (self.most is None or value <= self.most)
            and (self.over is None or value > self.over)
            and (self.under is None or value < self.under)
        )
        return None if is_in else f"expected {self}"

    def __str__(self) -> str:
        if self.least is not None and self.most is not None:
            return f"{self.least:.15g} to {self.most:.15g}"
        parts = (
            ("{:.15g} or more", self.least), ("over {:.15g}", self.over),
            ("at most {:.15g}", self.most), ("under {:.15g}", self.under),
        )  # fmt: skip
        return ", ".join(words.format(bound) for words, bound in parts if bound is not None)


@dataclasses.dataclass(frozen=True)
class Length:
    """How many entries, or characters, a field takes."""

    least: int
    most: int

    def complaint(self, value: Any) -> str | None:
        """As Range.complaint."""
        if value is None or self.least <= len(value) <= self.most:
            return None
        unit = "characters" if isinstance(value, str) else "entries"
        return f"expected {self.least} to {self.most} {unit}, got {len(value)}"


@dataclasses.dataclass(frozen=True)
class NullIsNan:
    """A number that may not be defined: NaN here, and null in JSON, which knows no NaN."""

    def complaint(self, value: Any) -> str | None:
        """As Range.complaint: there is none."""
        return None


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of a YAML file that is read later, by the floor that knows its dataclass (`Section.parse`)."""

    file: Path
    key: str
    node: yaml.Node = dataclasses.field(repr=False, compare=False)

    def parse(self, cls: type[T]) -> T:
        """Raises FacekitError where the section doesn't fit the dataclass `cls`."""
        return typing.cast(T, _Reader(self.file).read(cls, self.node, self.key))


def read_yaml(path: Path, cls: type[T]) -> T:
    """Reads a YAML file into the dataclass `cls`. Raises FacekitError for a missing file, bad YAML, or a key that
    is unknown, missing, doubled, of the wrong type or out of its range."""
    return parse_yaml(read_text(path, MAX_YAML_BYTES, "Give the path of a template.yaml."), path, cls)


def parse_yaml(text: str, path: Path, cls: type[T]) -> T:
    """The same of a text that stands in the file `path`; JSON is YAML too."""
    return read_node(compose_yaml(text, path, tuple(_field_types(cls))), path, cls)


def read_node(node: yaml.Node, path: Path, cls: type[T]) -> T:
    """The same of what compose_yaml() gave of a text in the file `path`."""
    return typing.cast(T, _Reader(path).read(cls, node, ""))


def compose_yaml(text: str, path: Path, keys: tuple[str, ...] = ()) -> yaml.Node:
    """The nodes of a text that stands in the file `path`, with their lines. Raises FacekitError for bad YAML, and for
    more values than any template has; `keys` are named where there is nothing."""
    if len(text) > MAX_YAML_BYTES:
        raise FacekitError(f"{path}: over {MAX_YAML_BYTES} bytes, too large for a template.")
    if (what := stand_in(text[:HEAD_BYTES].encode())) is not None:
        raise FacekitError(f"{path}: is {what}.")
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: an escape of a character that is none
        raise FacekitError(f"{path}: not valid YAML: {shown(' '.join(str(error).split()), 300)}") from error
    except RecursionError as error:
        raise FacekitError(f"{path}: not valid YAML for a template: nested without end.") from error
    if node is None:
        raise FacekitError(f"{path}: empty; expected the keys {', '.join(keys)}.")
    if _count(node, {}) > MAX_VALUES:
        raise FacekitError(
            f"{path}: over {MAX_VALUES} values, too many for a template. Aliases (*name) repeat all that they name."
        )
    return node


def _count(node: yaml.Node, known: dict[int, float]) -> float:
    """The values below a node; an alias of a node above itself has no end."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) not in known:
        known[id(node)] = math.inf
        children = node.value if isinstance(node, yaml.SequenceNode) else [each for pair in node.value for each in pair]
        known[id(node)] = 1 + sum(_count(child, known) for child in children)
    return known[id(node)]


def place(file: Path, key: str) -> str:
    """file:line: key of a YAML file that was read before, for complaints about it; without a line where it is gone."""
    with suppress(FacekitError):
        node = compose_yaml(read_text(file, MAX_YAML_BYTES, ""), file)
        for name in key.split("."):
            entries = node.value if isinstance(node, yaml.MappingNode) else []
            node = next((value for each, value in entries if each.value == name), node)
        return f"{file}:{node.start_mark.line + 1}: {key}"
    return f"{file}: {key}"


def plain_data(value: Any) -> Any:
    """What was read, or any dataclass, as JSON can hold it: what parse_yaml makes the same dataclass of."""
    if isinstance(value, Section):
        return plain_data(yaml.safe_load(yaml.serialize(value.node)))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain_data(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: plain_data(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_data(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _field_types(cls: type) -> dict[str, Any]:
    hints = typing.get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def _needed(cls: type) -> list[str]:
    return [
        field.name
        for field in dataclasses.fields(cls)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]


class _Reader:
    def __init__(self, file: Path) -> None:
        self.file = file

    def fail(self, node: yaml.Node, key: str, message: str) -> FacekitError:
        return FacekitError(f"{self.file}:{node.start_mark.line + 1}: {key or 'top level'}: {message}")

    def read(self, expected: Any, node: yaml.Node, key: str) -> Any:
        if expected is Section:
            return Section(self.file, key, node)
        if dataclasses.is_dataclass(expected):
            return self.read_dataclass(typing.cast(type, expected), node, key)
        origin, args = get_origin(expected), get_args(expected)
        if origin is Annotated:
            value = self.read(args[0], node, key)
            for rule in args[1:]:
                if complaint := rule.complaint(value):
                    raise self.fail(node, key, f"{complaint}{_got(node)}.")
            return value
        if origin in (types.UnionType, typing.Union):
            return self.read_union(args, node, key)
        if origin is tuple:
            return self.read_tuple(args, node, key)
        return self.read_scalar(expected, node, key)

    def read_dataclass(self, cls: type, node: yaml.Node, key: str) -> Any:
        wanted = _field_types(cls)
        if not isinstance(node, yaml.MappingNode):
            raise self.fail(node, key, f"expected a mapping with the keys {', '.join(wanted)}.")
        values: dict[str, Any] = {}
        for name_node, value_node in node.value:
            if not isinstance(name_node, yaml.ScalarNode):
                raise self.fail(name_node, key, f"a list or a mapping for a key; expected one of {', '.join(wanted)}.")
            name = shown(name_node.value)
            path = f"{key}.{name}" if key else name
            if name in values:
                raise self.fail(name_node, path, "given twice; keep one.")
            if name not in wanted:
                near = difflib.get_close_matches(name, wanted, n=1, cutoff=0.0)
                hint = f"did you mean {near[0]!r}?" if near else "no keys are allowed here."
                raise self.fail(name_node, path, f"unknown key; {hint} Valid keys: {', '.join(wanted)}.")
            values[name] = self.read(wanted[name], value_node, path)
        missing = [name for name in _needed(cls) if name not in values]
        if missing:
            hints = ", ".join(_with_nearest(name, values) for name in missing)
            raise self.fail(node, key, f"missing key {hints}; a template inherits nothing.")
        try:
            return cls(**values)
        except ValueError as error:
            raise self.fail(node, key, str(error)) from error

    def read_union(self, args: tuple[Any, ...], node: yaml.Node, key: str) -> Any:
        is_null = isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"
        if is_null and type(None) in args:
            return None
        options = [arg for arg in args if arg is not type(None)]
        if len(options) == 1:
            return self.read(options[0], node, key)
        # Several dataclasses: a field of each, `kind`, is the literal that tells them apart.
        kinds = {get_args(_field_types(option)["kind"])[0]: option for option in options}
        got = ""
        if isinstance(node, yaml.MappingNode):
            given = [value for name, value in node.value if name.value == "kind"]
            if len(given) == 1 and isinstance(given[0], yaml.ScalarNode):
                kind = given[0].value
                if kind in kinds:
                    return self.read_dataclass(kinds[kind], node, key)
                got = f", got '{shown(kind)}'.{did_you_mean(kind, kinds)}"
        raise self.fail(node, key, f"expected a mapping whose 'kind' is one of {', '.join(kinds)}{got or '.'}")

    def read_tuple(self, args: tuple[Any, ...], node: yaml.Node, key: str) -> tuple[Any, ...]:
        if not isinstance(node, yaml.SequenceNode):
            raise self.fail(node, key, "expected a list.")
        children = node.value
        if len(args) == 2 and args[1] is Ellipsis:
            args = (args[0],) * len(children)
        if len(children) != len(args):
            raise self.fail(node, key, f"expected {len(args)} entries, got {len(children)}.")
        return tuple(
            self.read(arg, child, f"{key}[{i}]") for i, (arg, child) in enumerate(zip(args, children, strict=True))
        )

    def read_scalar(self, expected: Any, node: yaml.Node, key: str) -> Any:
        if not isinstance(node, yaml.ScalarNode):
            raise self.fail(node, key, f"expected {_describe(expected)}, got a list or a mapping.")
        try:
            value = yaml.safe_load(yaml.serialize(node))
        except (yaml.YAMLError, ValueError, LookupError, AttributeError):  # an unknown tag, 2026-99-99, !!timestamp x
            value = None
        if get_origin(expected) is Literal:
            if _is_one_of(value, get_args(expected)):
                return value
        elif expected is float:
            # YAML 1.1 reads 5e-4 as text; users mean the number.
            number = (
                _try(float, value) if isinstance(value, int | float | str) and not isinstance(value, bool) else None
            )
            if number is not None and math.isfinite(number):
                return number
        elif isinstance(value, expected) and (expected is bool or not isinstance(value, bool)):
            if expected is str and not _is_name(value):
                raise self.fail(node, key, f"expected text, got '{shown(node.value)}' with a NUL or half a character.")
            if expected is int and not INT64[0] <= value <= INT64[1]:
                raise self.fail(node, key, f"expected a whole number of at most 64 bits, got {shown(node.value)}.")
            return value
        raise self.fail(node, key, f"expected {_describe(expected)}, got '{shown(node.value)}'.")


def _got(node: yaml.Node) -> str:
    return f", got {shown(node.value)}" if isinstance(node, yaml.ScalarNode) and len(node.value) < 40 else ""


def _with_nearest(missing: str, given: dict[str, Any]) -> str:
    near = difflib.get_close_matches(missing, given, n=1)
    return f"{missing} (nearest given key: {near[0]})" if near else missing


def _try(convert: Callable[[Any], T], value: Any) -> T | None:
    try:
        return convert(value)
    except (ValueError, OverflowError):
        return None


def _describe(expected: Any) -> str:
    if get_origin(expected) is Literal:
        return "one of " + ", ".join(str(arg) for arg in get_args(expected))
    words = {str: "text", int: "a whole number", float: "a number", bool: "true or false", Path: "a path"}
    return words.get(expected, getattr(expected, "__name__", str(expected)))


def _is_one_of(value: Any, known: tuple[Any, ...]) -> bool:
    """Of the same type, too: True is no 1."""
    return any(type(value) is type(each) and value == each for each in known)


def from_plain(kind: Any, value: Any, key: str) -> Any:
    """What plain_data() made of a `kind`, a dataclass or a type of its fields. Raises ValueError that names the key for
    anything else, and for what lies out of its range."""
    if dataclasses.is_dataclass(kind):
        return _dataclass_from_plain(typing.cast(type, kind), value, key)
    origin, args = get_origin(kind), get_args(kind)
    made: Any = value
    if origin is Annotated:
        if value is None and NullIsNan() in args:
            return math.nan
        made = from_plain(args[0], value, key)
        for rule in args[1:]:
            if complaint := rule.complaint(made):
                raise ValueError(f"{key}: {complaint}, got {shown(value)}")
        return made
    if origin in (types.UnionType, typing.Union):
        options = [arg for arg in args if arg is not type(None)]
        if len(options) > 1 and isinstance(value, dict):  # told apart as by read_union()
            by_kind = {get_args(_field_types(option)["kind"])[0]: option for option in options}
            if value.get("kind") not in by_kind:
                given = shown(repr(value.get("kind")))
                raise ValueError(f"{key}: expected a kind of {', '.join(by_kind)}, got {given}")
            options = [by_kind[value["kind"]]]
        return made if value is None and type(None) in args else from_plain(options[0], value, key)
    if origin is Literal and _is_one_of(value, args):
        return made
    if origin is tuple and isinstance(value, list | tuple):
        kinds = (args[0],) * len(value) if args[-1] is Ellipsis else args
        if len(kinds) == len(value):
            made = tuple(
                from_plain(each, item, f"{key}[{i}]") for i, (each, item) in enumerate(zip(kinds, value, strict=True))
            )
    elif kind is Path and isinstance(value, str) and _is_name(value):
        made = Path(value)
    elif kind is float and isinstance(value, int) and not isinstance(value, bool):
        made = _try(float, value)
    elif origin is dict and isinstance(value, dict):
        made = {
            from_plain(args[0], name, f"{key}: a key"): from_plain(args[1], item, f"{key}.{shown(name)}")
            for name, item in value.items()
        }
    if not _is_of(made, kind if origin is None else origin):
        raise ValueError(f"{key}: expected {_describe(kind)}, got {shown(repr(value))}")
    return made


def _dataclass_from_plain(cls: type, value: Any, key: str) -> Any:
    wanted = _field_types(cls)
    if not isinstance(value, dict) or set(value) - set(wanted):
        raise ValueError(f"{key}: expected the keys {', '.join(wanted)}")
    if missing := [name for name in _needed(cls) if name not in value]:
        raise ValueError(f"{key}: {', '.join(missing)} missing")
    made = {name: from_plain(wanted[name], item, f"{key}.{name}") for name, item in value.items()}
    try:
        return cls(**made)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from error


def _is_name(text: str) -> bool:
    """Whether a file could be called so: NUL, and halves of characters, are in no name."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def _is_of(value: Any, kind: Any) -> bool:
    if kind is Any:
        return True
    if kind is Literal or not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        return False
    if isinstance(value, str):
        return _is_name(value)
    if isinstance(value, int):
        return INT64[0] <= value <= INT64[1]
    return not isinstance(value, float) or math.isfinite(value)
