"""Flags and arguments made of a command's options, and how a command over many ends."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import logging
import re
import sys
import typing
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
from click.shell_completion import CompletionItem

from facekit.base.nearest import did_you_mean
from facekit.base.options import OptionInfo, flag_of, info_of, types_of
from facekit.base.urls import is_address, path_of
from facekit.errors import Loss, masked

if TYPE_CHECKING:
    ParamType = click.ParamType[Any]
else:
    ParamType = click.ParamType  # which click before 8.4 does not let us subscript

log = logging.getLogger(__name__)

F = Callable[..., Any]


# What newcomers type -> the command that does it.
MEANT = {
    "blur": "anonymize", "deface": "anonymize", "pixelate": "anonymize",
    "predict": "detect", "find": "detect", "draw": "visualize", "demo": "visualize", "list": "templates",
    "zoo": "templates", "models": "templates", "test": "eval", "evaluate": "eval", "val": "eval", "init": "instantiate",
    "new": "instantiate", "finetune": "train", "fine-tune": "train", "resume": "train", "quantize": "compress",
    "download": "data download", "convert": "data convert", "check": "data check", "browse": "data browse",
    "merge": "data merge", "mark": "data mark", "label": "data mark", "info": "doctor", "env": "doctor",
    "server": "serve", "http": "serve", "api": "serve",
    "version": "--version", "help": "--help",
}  # fmt: skip


EXIT_CODES = "Exit codes: 0 all done, 1 an error, 2 wrong arguments, 3 done with something left out."


def with_common_words(command: click.Command) -> click.Command:
    """The command, and all beneath it, with the exit codes below its help, and --debug wherever it stands."""
    for inner in command.commands.values() if isinstance(command, click.Group) else ():
        with_common_words(inner)
    command.epilog = command.epilog or EXIT_CODES
    # Heeded by facekit.cli.run_command, which looks for it before anything is parsed.
    command.params.append(click.Option(["--debug"], is_flag=True, expose_value=False, hidden=True))
    return command


class LazyCommands(MutableMapping[str, click.Command]):
    """Commands by name, each imported when it is asked for."""

    def __init__(self, places: Mapping[str, tuple[str, str]]) -> None:
        """Name -> "module:command" and its short help."""
        self.places = places
        self._loaded: dict[str, click.Command] = {}

    def __getitem__(self, name: str) -> click.Command:
        if name not in self._loaded:
            module, _, command = self.places[name][0].partition(":")
            self._loaded[name] = with_common_words(getattr(importlib.import_module(module), command))
        return self._loaded[name]

    def __contains__(self, name: object) -> bool:
        return name in self.places or name in self._loaded

    def __setitem__(self, name: str, command: click.Command) -> None:
        self._loaded[name] = command

    def __delitem__(self, name: str) -> None:
        del self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter({**self.places, **self._loaded})

    def __len__(self) -> int:
        return len({**self.places, **self._loaded})


class Group(click.Group):
    """Commands, of which the nearest is named for one that is none."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if not isinstance(self.commands, LazyCommands):
            super().format_commands(ctx, formatter)
            return
        with formatter.section("Commands"):
            formatter.write_dl([(name, self.commands.places[name][1]) for name in sorted(self.commands.places)])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if self.get_command(ctx, name) is not None or name.startswith("-"):
            return super().resolve_command(ctx, args)
        if name in MEANT:
            ctx.fail(f"There is no command {name!r}. Did you mean {ctx.find_root().info_name} {MEANT[name]}?")
        hint = did_you_mean(name, self.list_commands(ctx))
        ctx.fail(f"There is no command {name!r}.{hint} {ctx.command_path} -h lists them.")


class Numbers(ParamType):
    """Numbers with commas or colons between them."""

    name = "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        if isinstance(value, tuple):
            return value
        try:
            return tuple(float(number) for number in re.split("[,:]", str(value)))
        except ValueError:
            self.fail(f"expected numbers such as 0.5,1,2, got {value!r}.", param, ctx)


class FilePath(click.Path):
    """A path, or an address, which pathlib would shorten: a file:// one is made a path, others takes() looks at."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str) and is_address(value := path_of(value)):
            return value
        return super().convert(value, param, ctx)


class Once(click.Option):
    """A flag with a single value: of two that differ click would take the last, and say nothing of the first. So are
    names and paths refused, of which a part would not be done; numbers are said, as scripts add some to others."""

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        self.multiple = True  # for the parser alone, which then keeps all
        super().add_to_parser(parser, ctx)
        self.multiple = False

    def handle_parse_result(self, ctx: click.Context, opts: Any, args: list[str]) -> tuple[Any, list[str]]:
        given = opts.get(self.name)
        if given is not None and not ctx.resilient_parsing:
            values = dict.fromkeys(value if isinstance(value, str) else str(self.flag_value) for value in given)
            if len(values) > 1:
                shown = masked(" and ".join(values))
                said = f"{self.opts[0]} was given {len(given)} times ({shown})"
                if isinstance(self.type, FilePath) or self.type is click.STRING:
                    raise click.UsageError(f"{said}; give it once.", ctx)
                log.warning("%s: the last one counts.", said)
            opts = {**opts, self.name: given[-1]}
        return super().handle_parse_result(ctx, opts, args)


def options_of(options: Any) -> Callable[[F], F]:
    """Flags and arguments for each field of a command's options: names, types, ranges, defaults and words."""
    hints = types_of(options)
    flags = {field.name: flag_of(field) for field in dataclasses.fields(options)}

    def decorate(function: F) -> F:
        for field in reversed(dataclasses.fields(options)):
            info = dataclasses.replace(info_of(field), help=as_flags(info_of(field).help, flags))
            make = _argument if info.is_positional else _flag
            function = make(field, info, hints[field.name])(function)
        return function

    return decorate


def _argument(field: dataclasses.Field[Any], info: OptionInfo, hint: Any) -> Callable[[F], F]:
    is_list = typing.get_origin(hint) is tuple
    kind = _click_type(typing.get_args(hint)[0] if is_list else hint, info)
    is_required = field.default is dataclasses.MISSING
    return click.argument(
        field.name, type=kind, nargs=-1 if is_list else 1, required=is_required, metavar=info.metavar,
        shell_complete=_template_names if info.is_template else None,
    )  # fmt: skip


def _flag(field: dataclasses.Field[Any], info: OptionInfo, hint: Any) -> Callable[[F], F]:
    flag = flag_of(field)
    if hint is bool:
        names = f"{flag}/--no-{flag.removeprefix('--')}" if field.default else flag
        return click.option(names, field.name, is_flag=True, default=field.default, help=info.help)
    more: dict[str, Any] = {}
    default = None if field.default is dataclasses.MISSING else field.default
    if typing.get_origin(hint) is tuple and typing.get_args(hint)[0] not in (int, float):
        more = {"multiple": True}
        hint = typing.get_args(hint)[0]
    elif default is not None:
        more = {"default": default, "show_default": not isinstance(default, tuple)}
    if info.is_template:
        more["shell_complete"] = _template_names
    if info.bare_value is not None:
        more |= {"is_flag": False, "flag_value": info.bare_value}
    flags = [flag] if info.other_flag is None else [flag, info.other_flag]
    return click.option(
        *flags, field.name, cls=click.Option if "multiple" in more else Once, type=_click_type(hint, info),
        required=field.default is dataclasses.MISSING, help=info.help, metavar=info.metavar, **more,
    )  # fmt: skip


def _template_names(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """For a shell's completion: names of templates, and files and folders, which the shell itself completes."""
    from facekit.template import known_templates

    names = [CompletionItem(name) for name in known_templates() if name.startswith(begun)]
    return [*names, CompletionItem(begun, type="file")]


def _click_type(hint: Any, info: OptionInfo) -> click.ParamType[Any]:
    if typing.get_origin(hint) is Literal:
        return click.Choice(typing.get_args(hint))
    if typing.get_origin(hint) is tuple:
        return Numbers()
    if hint is Path:
        return FilePath(path_type=Path)
    if hint in (int, float):
        if info.least is None and info.most is None:
            return click.INT if hint is int else click.FLOAT
        if hint is float:
            return click.FloatRange(info.least, info.most, min_open=info.is_over_least)
        least, most = (None if bound is None else int(bound) for bound in (info.least, info.most))
        return click.IntRange(least, most, min_open=info.is_over_least)
    return click.STRING


def flags_of(command: click.Command) -> dict[str, str]:
    """Name of an option -> its flag, or the word for an argument; of a command, and all beneath it."""
    flags = {
        parameter.name: parameter.opts[0] if isinstance(parameter, click.Option) else parameter.name.upper()
        for parameter in command.params
        if parameter.name is not None
    }
    for inner in command.commands.values() if isinstance(command, click.Group) else ():
        flags |= flags_of(inner)
    return flags


@functools.cache
def flags_of_all(command: click.Command) -> dict[str, str]:
    """flags_of(), asked for when a message names an option: it imports all commands."""
    return flags_of(command)


def as_flags(text: str, flags: Mapping[str, str] | click.Command) -> str:
    """A message in which the library names options, `like_this` or `like_this=value`, with the flags of these."""
    if "`" not in text:
        return text
    names = flags_of_all(flags) if isinstance(flags, click.Command) else flags

    def flag(match: re.Match[str]) -> str:
        name, value = match.groups()
        if name not in names:
            return match[0]
        return names[name] + ("" if value in (None, "True") else f" {value}")

    return re.sub(r"`([a-z_]+)(?:=([^`]*))?`", flag, text)


EXIT_DONE, EXIT_ERROR, EXIT_USAGE, EXIT_LOSSES = 0, 1, 2, 3
LOSSES_SHOWN = 20


def finish(losses: Sequence[Loss]) -> None:
    """The end of a command over many: says last what was left out, and ends with exit code 3 if anything was."""
    if not losses:
        return
    root = click.get_current_context().find_root().command
    for loss in losses[:LOSSES_SHOWN]:
        click.echo(f"Left out: {as_flags(str(loss), root)}", err=True)
    if len(losses) > LOSSES_SHOWN:
        click.echo(f"Left out: {len(losses) - LOSSES_SHOWN} more", err=True)
    click.echo(f"Done with {len(losses)} left out; the reasons stand above.", err=True)
    sys.exit(EXIT_LOSSES)
