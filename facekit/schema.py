"""YAML into frozen dataclasses: complete and typed; complaints name file, line, key and the nearest valid key."""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import yaml

from facekit.errors import FacekitError

MAX_YAML_BYTES = 1_000_000  # a template is some kilobytes; anything huge is no template

T = TypeVar("T")


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
    is unknown, missing, doubled or of the wrong type."""
    try:
        if path.stat().st_size > MAX_YAML_BYTES:
            raise FacekitError(f"{path}: over {MAX_YAML_BYTES} bytes, too large for a template.")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise FacekitError(f"{path}: can't be read ({error.strerror}). Give the path of a template.yaml.") from error
    except UnicodeDecodeError as error:
        raise FacekitError(f"{path}: not UTF-8 text (byte {error.start}). Give the path of a template.yaml.") from error
    return parse_yaml(text, path, cls)


def parse_yaml(text: str, path: Path, cls: type[T]) -> T:
    """The same of a text that stands in the file `path`; JSON is YAML too."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise FacekitError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise FacekitError(f"{path}: not valid YAML for a template: nested without end.") from error
    if node is None:
        raise FacekitError(f"{path}: empty; expected the keys {', '.join(_field_types(cls))}.")
    return typing.cast(T, _Reader(path).read(cls, node, ""))


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
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def _optional(cls: type) -> set[str]:
    """The fields that have a default: a file may leave them out."""
    missing = dataclasses.MISSING
    return {f.name for f in dataclasses.fields(cls) if f.default is not missing or f.default_factory is not missing}


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
            name = str(name_node.value)
            path = f"{key}.{name}" if key else name
            if name in values:
                raise self.fail(name_node, path, "given twice; keep one.")
            if name not in wanted:
                near = difflib.get_close_matches(name, wanted, n=1, cutoff=0.0)
                hint = f"did you mean {near[0]!r}?" if near else "no keys are allowed here."
                raise self.fail(name_node, path, f"unknown key; {hint} Valid keys: {', '.join(wanted)}.")
            values[name] = self.read(wanted[name], value_node, path)
        missing = [name for name in wanted if name not in values and name not in _optional(cls)]
        if missing:
            hints = ", ".join(_with_nearest(name, values) for name in missing)
            raise self.fail(node, key, f"missing key {hints}; a template is complete and inherits nothing.")
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
        # Several dataclasses: the first field of each, `kind`, is the literal that tells them apart.
        kinds = {get_args(_field_types(option)["kind"])[0]: option for option in options}
        if isinstance(node, yaml.MappingNode):
            given = [str(value.value) for name, value in node.value if name.value == "kind"]
            if len(given) == 1 and given[0] in kinds:
                return self.read_dataclass(kinds[given[0]], node, key)
        raise self.fail(node, key, f"expected a mapping whose 'kind' is one of {', '.join(kinds)}.")

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
            if value in get_args(expected):
                return value
        elif expected is float:
            # YAML 1.1 reads 5e-4 as text; users mean the number.
            number = (
                _try(float, value) if isinstance(value, int | float | str) and not isinstance(value, bool) else None
            )
            if number is not None and math.isfinite(number):
                return number
        elif isinstance(value, expected) and (expected is bool or not isinstance(value, bool)):
            return value
        raise self.fail(node, key, f"expected {_describe(expected)}, got {node.value!r}.")


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
    return {str: "text", int: "a whole number", float: "a number", bool: "true or false"}.get(expected, str(expected))
