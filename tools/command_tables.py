"""Writes the arguments and flags of every command into its page under docs/commands: python tools/command_tables.py

A page says where: between `<!-- options: data check -->` and `<!-- end of options -->`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click

from facekit.cli import cli

PAGES = Path(__file__).resolve().parent.parent / "docs" / "commands"
IN_WORDS = re.compile(r"(.*) \[([^\]]+)\](.*)")
BLOCK = re.compile(r"(<!-- options: ([a-z -]+) -->\n).*?(<!-- end of options -->\n)", re.DOTALL)


def commands(group: click.Group = cli, above: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, by its words: ("data check", its click.Command)."""
    for name, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            yield from commands(command, (*above, name))
        else:
            yield " ".join((*above, name)), command


def filled(page: str) -> str:
    """The page's text with each of its tables as the command line defines it now."""
    known = dict(commands())
    return BLOCK.sub(lambda match: match[1] + table(match[2], known[match[2]]) + match[3], page)


def table(words: str, command: click.Command) -> str:
    """The usage, then a row a flag."""
    context = click.Context(command, info_name=f"facekit {words}")
    usage = command.get_usage(context).removeprefix("Usage: ")
    rows = [
        _row(option, context) for option in command.params if isinstance(option, click.Option) and not option.hidden
    ]
    lines = ["| flag | what it does | default |", "| --- | --- | --- |", *rows]
    return "\n".join(["", "```text", " ".join(usage.split()), "```", "", *(lines if rows else []), "", ""])


def _row(option: click.Option, context: click.Context) -> str:
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    what, default = " ".join((option.help or "").split()), _default(option, context)
    if match := IN_WORDS.fullmatch(what):  # a default that depends: "Pictures a step [template's]."
        what, default = match[1] + match[3], match[2]
    cells = (names + _value(option, context), what, default)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _value(option: click.Option, context: click.Context) -> str:
    """What stands behind the flag."""
    if option.is_flag or option.count:
        return ""
    if isinstance(option.type, click.Choice):
        return " " + " / ".join(map(str, option.type.choices))
    kinds = ((click.IntRange, "N"), (type(click.INT), "N"), (click.FloatRange, "NUMBER"), (click.Path, "PATH"))
    known = [word for kind, word in kinds if isinstance(option.type, kind)]
    return f" {option.metavar or (known[0] if known else option.make_metavar(context))}"


def _default(option: click.Option, context: click.Context) -> str:
    if option.required:
        return "required"
    value = option.get_default(context, call=False)
    if isinstance(value, bool):
        return f"`{option.opts[0]}`" if value and option.secondary_opts else ""
    return f"`{value}`" if isinstance(value, int | float | str) else ""


if __name__ == "__main__":
    for path in sorted(PAGES.glob("*.md")):
        text = path.read_text(encoding="utf-8")
        path.write_text(filled(text), encoding="utf-8")
