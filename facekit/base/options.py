"""What a command takes: options with their defaults, ranges and words, written once for Python and the command line.

A command's options are a frozen dataclass, each of its fields made by option(). Python calls the command by the names
of the fields; facekit.cli makes its flags of the same fields. Messages name a field in backticks, `like_this` or
`like_this=value`, which the command line turns into the flag.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import numbers
import os
import re
import types
import typing
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar

from facekit.base.files import protecting
from facekit.base.nearest import did_you_mean, did_you_mean_path
from facekit.base.reading import is_binary, shown
from facekit.base.urls import is_address, path_of
from facekit.errors import ArgumentError, FacekitError, masked

# Words of options that several commands have.
TEMPLATE = "Template name, template.yaml or work dir."
TEMPLATE_OR_NAMED = "Template name, template.yaml or work dir [the one that the weights name]."
WEIGHTS = ".pth, .onnx, .xml or another exported file; bundled [a work dir's best or newest]."
ANN_FILES = "Labels of any format; several with commas between them, or the flag repeated."
DATA_ROOTS = "Folders above their pictures, one a file [where the formats have them]."
DATA_ROOT = "Folder above the pictures [where the format has it]."

FOUND_SCORE = 0.5  # least score of a face, where nobody names one
COVERED_SCORE = 0.3  # and where it is to be covered: one that is missed stays bare
THREADS = "Threads of the runtime [the cores that the process may use]."
BACKEND = "Runtime; auto: the fastest that is installed and reads the file [the file's own]."
Runtime = Literal[
    "auto", "pytorch", "onnx", "openvino", "cpp", "opencv", "facedetectoryn", "ncnn", "torchscript", "executorch", 
    "tflite", "mnn",
]  # fmt: skip

LAYOUT = "Kind of a file of others' that can't tell it itself, such as centerface."

# Of commands over many pictures: in this process, or by the workers of a Ray cluster.
Engine = Literal["local", "ray"]
ENGINE = "local: this process; ray: worker processes of Ray, here or on a cluster."
ADDRESS = "Ray cluster: auto, HOST:PORT or ray://HOST:PORT [one of its own, on this machine]."
NUM_WORKERS = "Ray's worker processes [as many as the cores are enough for]."
CPUS_PER_WORKER = "Cores of each, and threads of its runtime."
GPUS_PER_WORKER = "GPUs of each; 0.25: four share one."
SHARD_SIZE = "Pictures that a worker takes at a time."

MULTI_SCALE = "Look at each picture at these multiples of the size it is fed at, and merge; alone: 0.5,1,2."

MOST_OF_PATH = 300  # characters of a path in a message

P = ParamSpec("P")
O = TypeVar("O")  # noqa: E741 - the options' type
R = TypeVar("R")

# Of what commands read and write; folders are called faces.v2 or yunet.int8, too.
SUFFIXES_OF_FILES = (
    ".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".mp4", ".mkv", ".mov", ".avi", ".webm", ".txt",
    ".json", ".jsonl", ".csv", ".parquet", ".xml", ".yaml", ".yml", ".html", ".onnx", ".bin", ".pth", ".pt", ".ts",
    ".tflite", ".mnn", ".pte", ".param", ".hpp", ".tar", ".zip",
)  # fmt: skip


@dataclass(frozen=True)
class OptionInfo:
    """What is to be known of an option beside its name, type and default."""

    help: str
    is_positional: bool = False  # on the command line; in Python the order of the fields decides
    flag: str | None = None  # where it is not the field's name with dashes
    other_flag: str | None = None  # that means the same
    metavar: str | None = None
    least: float | None = None
    most: float | None = None
    is_over_least: bool = False  # the least value itself is not allowed
    bare_value: str | None = None  # what the flag means without a value behind it
    reads: bool = False  # a file or folder that must be there; each, of several
    is_kept: bool = True  # what is read may not be written over
    writes: bool = False  # a file
    is_text: bool = True  # what is written
    is_template: bool = False  # a name, or a file or folder that is read
    names: tuple[str, ...] = ()  # values that are no paths where paths are expected; s3:// stands for all of its kind


def option(
    help: str,
    *,
    default: Any = dataclasses.MISSING,
    positional: bool = False,
    kw_only: bool = True,
    flag: str | None = None,
    other_flag: str | None = None,
    metavar: str | None = None,
    least: float | None = None,
    most: float | None = None,
    over: float | None = None,
    bare_value: str | None = None,
    reads: bool = False,
    kept: bool = True,
    writes: bool = False,
    text: bool = True,
    template: bool = False,
    names: tuple[str, ...] = (),
) -> Any:
    """A field of a command's options; without a default it must be given.

    positional: on the command line; kw_only=False: in Python. over: a least value, itself not allowed.
    """
    info = OptionInfo(
        help, positional, flag, other_flag, metavar, least if over is None else over, most, over is not None,
        bare_value, reads, kept, writes, text, template, names,
    )  # fmt: skip
    return dataclasses.field(default=default, kw_only=kw_only, metadata={"option": info})


@typing.dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(option,))
def command_options(kind: type[O]) -> type[O]:
    """A frozen dataclass whose fields option() makes; only those with kw_only=False may be given by position."""
    return dataclass(frozen=True)(kind)


def info_of(field: dataclasses.Field[Any]) -> OptionInfo:
    """What option() was told."""
    info = field.metadata["option"]
    assert isinstance(info, OptionInfo)
    return info


def flag_of(field: dataclasses.Field[Any]) -> str:
    """The option's flag on the command line; where it is positional, the word that stands for it."""
    if info_of(field).is_positional:
        return field.name.upper()
    return info_of(field).flag or "--" + field.name.replace("_", "-")


def arguments_of(options: Any) -> list[str]:
    """The command line's arguments that say the same as these options: those that are not at their default."""
    arguments: list[str] = []
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if value == field.default or value is None:
            continue
        if isinstance(value, bool):
            flag = flag_of(field)
            arguments.append(flag if value else f"--no-{flag.removeprefix('--')}")
            continue
        is_numbers = isinstance(value, tuple) and not any(isinstance(item, Path | str) for item in value)
        items = [",".join(map(str, value))] if is_numbers else value if isinstance(value, tuple) else [value]
        for item in items:
            arguments += [str(item)] if info_of(field).is_positional else [flag_of(field), str(item)]
    return arguments


def types_of(options: Any) -> dict[str, Any]:
    """Field name -> its type, of a dataclass of options; `X | None` is given as X."""
    return {name: _without_none(hint) for name, hint in typing.get_type_hints(options).items()}


def takes(options: Callable[P, O]) -> Callable[[Callable[[O], R]], Callable[P, R]]:
    """Lets a command's function be called by the names of its options, which are checked before it starts.

    Paths may be strings. While it runs, none of the files that it was given to read is written over. Raises
    ArgumentError, which names the option, for one that is missing, one that is none, and a value that is none of its
    type or range.
    """

    def decorate(job: Callable[[O], R]) -> Callable[P, R]:
        @functools.wraps(job)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            _check_arguments(job.__name__, options, args, kwargs)
            given = checked(options(*args, **kwargs))
            with protecting(_files_read(given), _files_written(given)):
                _check_texts(given)
                return job(given)

        call.__signature__ = inspect.signature(options)  # type: ignore[attr-defined]
        return call

    return decorate


def _check_arguments(job: str, options: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Raises ArgumentError for what the options can't be made of: they would speak of a class that nobody knows."""
    signature = inspect.signature(options)
    for name in kwargs:
        if name not in signature.parameters:
            hint = did_you_mean(name, signature.parameters)
            raise ArgumentError(f"{job}(): there is no argument {name!r}.{hint} help(facekit.{job}) lists them.")
    try:
        given = signature.bind_partial(*args, **kwargs).arguments
    except TypeError as error:
        takes_several = typing.get_origin(types_of(options)[next(iter(signature.parameters))]) is tuple
        hint = f" Give several as a list: {job}([a, b])." if takes_several and len(args) > 1 else ""
        raise ArgumentError(f"{job}(): {error}.{hint} help(facekit.{job}) lists what it takes.") from error
    for name, parameter in signature.parameters.items():
        if parameter.default is parameter.empty and name not in given:
            raise ArgumentError(f"{job}(): expected `{name}`, got none. Give it: {job}({name}=...).")
    hints = types_of(options)
    for name, value in given.items():
        if hints[name] in (str, Path, tuple[str, ...], tuple[Path, ...]):
            _check_are_names(name, value, can_be_address=hints[name] == tuple[str, ...])


def _check_are_names(name: str, value: Any, can_be_address: bool) -> None:
    expected = "paths or addresses" if can_be_address else "a path or a name"
    for item in (value, *(value if isinstance(value, list | tuple) else ())):
        if isinstance(item, bytes | bytearray):
            raise ArgumentError(f"`{name}`: expected {expected}, got bytes. Give text: os.fsdecode() makes it of them.")
        if getattr(item, "ndim", 0):
            raise ArgumentError(f"`{name}`: expected {expected}, got an array; for arrays use Detector.detect.")


def given_of(options: Any, names: Iterable[str]) -> list[str]:
    """Those of the names whose value is another than the default: what was asked for."""
    defaults = {field.name: field.default for field in dataclasses.fields(options)}
    return [name for name in names if getattr(options, name) != defaults[name]]


def checked(options: O) -> O:
    """The options with every value of its own type: strings become paths, and lists tuples.

    Raises ArgumentError for a value that is none of its option's type or range.
    """
    hints = types_of(type(options))
    given = {field.name: (field, getattr(options, field.name)) for field in dataclasses.fields(options)}  # type: ignore[arg-type]
    values = {
        name: _checked(name, value, hints[name], info_of(field))
        for name, (field, value) in given.items()
        if value is not None or field.default is not None
    }
    for name, (field, _) in given.items():
        if info_of(field).reads and name in values:
            _check_there(name, values[name], info_of(field).names)
        elif values.get(name) == Path("-") and "-" not in info_of(field).names:
            raise ArgumentError(f"`{name}`: expected a name, got -; this can't be written to standard output.")
    return dataclasses.replace(options, **values)  # type: ignore[type-var]


def check_folder_name(name: str, folder: Path) -> None:
    """Raises ArgumentError for a folder that is not there, of a name that files have: faces.txt, not faces.v2."""
    if folder.suffix.lower() in SUFFIXES_OF_FILES and not folder.exists():
        raise ArgumentError(
            f"`{name}={folder}`: a name with a suffix is a file. Give a folder, and make it first if {folder.name} is "
            f"to be one."
        )


def split_paths(value: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> tuple[Path, ...]:
    """Paths from one text or several, each of which may hold several with commas between them. What exists as it is
    written is one path, with whatever commas."""
    if isinstance(value, str | os.PathLike):
        value = (value,)
    return tuple(Path(part) for text in value for part in _split(os.fspath(text)))


def _split(text: str) -> list[str]:
    parts = text.split(",")
    found: list[str] = []
    while parts:
        count = next((count for count in range(len(parts), 1, -1) if _exists(",".join(parts[:count]))), 1)
        found.append(",".join(parts[:count]))
        parts = parts[count:]
    return found


def _exists(text: str) -> bool:
    # DIR:train names a part of a data set.
    without_part = re.sub(r":\w+$", "", text)
    return bool(text) and any(os.path.lexists(part) for part in (text, without_part))


def _files_read(options: Any) -> list[Path]:
    """The files that an output may not take the place of. Folders are not among them: who has labels and pictures in a
    folder may have outputs there, too."""
    paths: list[Path] = []
    for field in dataclasses.fields(options):
        info, value = info_of(field), getattr(options, field.name)
        if value is None or not (info.is_template or (info.reads and info.is_kept)):
            continue
        for path in map(Path, value if isinstance(value, tuple) else (value,)):
            paths += [path / "template.yaml"] if info.is_template and path.is_dir() else [path]
    return [path for path in dict.fromkeys(paths) if path.is_file()]


def _files_written(options: Any) -> list[Path]:
    values = [getattr(options, field.name) for field in dataclasses.fields(options) if info_of(field).writes]
    return [value for value in values if value is not None]


def _check_texts(options: Any) -> None:
    """Raises FacekitError where text would be written over a file that is none: a picture or a video, mostly, that
    became an output as a flag's value was forgotten."""
    for field in dataclasses.fields(options):
        path, info = getattr(options, field.name), info_of(field)
        if path is not None and info.writes and info.is_text and is_binary(path):
            raise FacekitError(
                f"{shown(path, MOST_OF_PATH)}: is no text, and `{field.name}` would write text over it. Choose another "
                f"name."
            )


def _check_there(name: str, value: Path | tuple[Path, ...], names: tuple[str, ...]) -> None:
    for path in (value,) if isinstance(value, Path) else value:
        if not _exists(str(path)) and str(path) not in names:
            hint = did_you_mean_path(path)
            raise FacekitError(f"{shown(path, MOST_OF_PATH)}: there is no such file or folder.{hint} Check `{name}`.")


def _without_none(hint: Any) -> Any:
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return next(part for part in typing.get_args(hint) if part is not types.NoneType)
    return hint


def _checked(name: str, value: Any, hint: Any, info: OptionInfo) -> Any:
    if typing.get_origin(hint) is tuple:
        return _checked_list(name, value, typing.get_args(hint)[0], info)
    if typing.get_origin(hint) is Literal:
        return _of(name, value, value in typing.get_args(hint), " or ".join(map(repr, typing.get_args(hint))))
    if hint is Path:
        _of(name, value, isinstance(value, str | os.PathLike) and "\0" not in os.fspath(value), "a path")
        return _path(name, path_of(value) if isinstance(value, str) else Path(path_of(value)), info)
    if hint is str:
        _of(name, value, isinstance(value, str | os.PathLike), "a text")
        return os.fspath(value)
    if hint is bool:
        return _of(name, value, isinstance(value, bool), "True or False")
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)  # NumPy's, too
    is_right = is_number and abs(value) < 1 << 63 and (hint is float or int(value) == value) and _in_range(value, info)
    return hint(_of(name, value, is_right, f"{'a number' if hint is float else 'a whole number'}{range_text(info)}"))


def _checked_list(name: str, value: Any, hint: Any, info: OptionInfo) -> tuple[Any, ...]:
    is_single = isinstance(value, str | os.PathLike) or not isinstance(value, Iterable)
    items: tuple[Any, ...] = (value,) if is_single else tuple(value)
    if hint is Path and not info.is_positional:
        _of(name, value, all(isinstance(item, str | os.PathLike) for item in items), "paths")
        return tuple(_path(name, path, info) for path in split_paths(items))
    return tuple(_checked(name, item, hint, info) for item in items)


def _path(name: str, path: str | Path, info: OptionInfo) -> Path:
    """Raises ArgumentError for an address: pathlib would make a folder of it, called https: or the like."""
    stores = tuple(known[:-1] for known in info.names if known.endswith("://"))
    if is_address(path) and not str(path).startswith(stores):
        where = f"expected a path, got the address {masked(str(path))[:MOST_OF_PATH]}"
        raise ArgumentError(f"`{name}`: {where}. Give a file or folder of this machine's disks.")
    return Path(path)


def _of(name: str, value: Any, is_right: bool, expected: str) -> Any:
    if not is_right:
        raise ArgumentError(f"`{name}`: expected {expected}, got {repr(value)[:80]}.")
    return value


def _in_range(value: float, info: OptionInfo) -> bool:
    least, most = -float("inf") if info.least is None else info.least, info.most
    return (value > least if info.is_over_least else value >= least) and (most is None or value <= most)


def range_text(info: OptionInfo) -> str:
    """In words, to stand behind "a number"; empty where anything goes."""
    if info.most is not None:
        return f" from {info.least:g} to {info.most:g}"
    if info.least is None:
        return ""
    return f" over {info.least:g}" if info.is_over_least else f" of at least {info.least:g}"
