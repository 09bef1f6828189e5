"""What the documentation says of commands, keys, limits and places is so."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import re
import runpy
import shlex
import subprocess
import types
import typing
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from facekit.cli import cli
from facekit.template import Template
from tests.docs.support import BLOCK, PAGES, PROJECT, name_of

WORK_DIR_SCRIPTS = {f"{name}.py": name for name in ("train", "eval", "export", "compress", "visualize")}
# Rows of docs/promises.md, and the constants that they tell of.
LIMITS = {
    "picture: pixels, by its header": ["pictures.headers:MAX_PIXELS"],
    "picture: bytes": ["pictures.read:MAX_PICTURE_BYTES"],
    "label file: bytes": [
        "labels.formats.text_lines:MAX_LABEL_BYTES", "labels.formats.voc_xml:MAX_XML_BYTES",
        "labels.formats.cvat_xml:MAX_CVAT_BYTES", "labels.formats.yolo_yaml:MAX_YAML_BYTES",
    ],
    "label file: memory of a JSON's values": ["labels.formats.json_file:MAX_JSON_MEMORY"],
    "label file: faces a picture": ["labels.formats.counted:MAX_FACES"],
    "label file: points a face": ["labels.keypoints:MAX_POINTS"],
    "label file: coordinates": ["labels.picture_labels:MAX_COORDINATE"],
    "checkpoint (.pth): bytes": ["weights.torch_file:MAX_BYTES"],
    "checkpoint (.pth): unpacked": ["weights.torch_file:MAX_UNPACKED"],
    "ONNX file: bytes": ["weights.onnx_file:MAX_BYTES"],
    "OpenVINO's .xml, .bin: bytes": ["weights.ir_file:MAX_XML_BYTES", "weights.ir_file:MAX_BIN_BYTES"],
    "graph: numbers of one tensor": ["weights.onnx_file:MAX_ELEMENTS", "weights.ir_file:MAX_ELEMENTS"],
    "template: bytes": ["base.schema:MAX_YAML_BYTES"],
    "template: pixels of the input": ["template:MAX_INPUT_PIXELS"],
    "template: priors of an input": ["models:MAX_PRIORS"],
    "record of a run (run.json): bytes": ["records.run:MAX_BYTES"],
    "journal of a run (log.jsonl): bytes": ["pages.curves:MAX_BYTES"],
    "WIDER result file: bytes; boxes of all": ["results.wider:MAX_TEXT_BYTES", "results.wider:MAX_ROWS"],
    "predictions in an .npz: bytes, also unpacked": ["results.wider:MAX_BYTES"],
    "report that is read back: bytes": ["pages.evaluation:MAX_PAGE_BYTES"],
    "download of a file whose size nobody states: bytes": ["base.download:MAX_UNKNOWN_BYTES"],
    "download: silence, headers": ["base.download:TIMEOUT_S", "base.download:ANSWER_S", "base.download:WINDOW_S"],
    "`facekit serve`: bodies, decoded pictures at a time": [
        "serving.settings:MAX_HELD_BYTES", "serving.settings:MAX_DECODED_BYTES",
    ],
    "`facekit serve`: connections, silence": ["serving.settings:MAX_CONNECTIONS", "serving.settings:IDLE_S"],
    "`facekit flops --input-size`": ["commands.flops:LONGEST_SIDE"],
}  # fmt: skip


def blocks(*languages: str) -> list[tuple[str, str]]:
    return [
        (name_of(page), text)
        for page in PAGES
        for _, language, text in BLOCK.findall(page.read_text(encoding="utf-8"))
        if language in languages
    ]


def test_every_block_has_a_language() -> None:
    for page in PAGES:
        opened = re.findall(r"^```(.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)[::2]
        assert set(opened) <= {"bash", "cpp", "python", "yaml", "text"}, name_of(page)


@pytest.mark.parametrize(("page", "code"), blocks("python"))
def test_python_parses(page: str, code: str) -> None:
    ast.parse(code)


@pytest.mark.parametrize(("page", "code"), blocks("bash"))
def test_commands_and_flags_exist(page: str, code: str) -> None:
    subprocess.run(["bash", "-n"], input=code, text=True, check=True)
    for line in code.replace("\\\n", " ").splitlines():
        for part in re.split(r"&&|;", line):
            check_command(page, shlex.split(part, comments=True))


def check_command(page: str, words: list[str]) -> None:
    """Follows `facekit eval ...`, `python DIR/eval.py ...` and `-m facekit eval ...` to the flags."""
    command: click.Command
    if "facekit" in words and words[max(words.index("facekit") - 1, 0)] in ("-m", "facekit"):
        command, rest = cli, words[words.index("facekit") + 1 :]
    elif len(words) > 1 and words[0] == "python" and Path(words[1]).name in WORK_DIR_SCRIPTS:
        command, rest = cli.commands[WORK_DIR_SCRIPTS[Path(words[1]).name]], words[2:]
    else:
        scripts = [word for word in words if word.startswith("tools/")]
        assert all((PROJECT / script).is_file() for script in scripts), f"{page}: {words}"
        return
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        assert rest[0] in command.commands, f"{page}: there is no command {rest[0]!r}"
        command, rest = command.commands[rest[0]], rest[1:]
    known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)} | {"--help"}
    for word in rest:
        if word.startswith("--"):
            assert word.split("=")[0] in known, f"{page}: facekit {command.name} has no flag {word}"


def test_every_command_has_its_table() -> None:
    tables = runpy.run_path(str(PROJECT / "tools" / "command_tables.py"))
    named = []
    for page in sorted((PROJECT / "docs" / "commands").glob("*.md")):
        text = page.read_text(encoding="utf-8")
        assert tables["filled"](text) == text, f"run python tools/command_tables.py: {page.name} is not as it is now"
        named += re.findall(r"<!-- options: ([a-z -]+) -->", text)
    assert sorted(named) == sorted(words for words, _ in tables["commands"]())


def test_every_command_stands_in_the_list() -> None:
    index = (PROJECT / "docs" / "commands" / "index.md").read_text(encoding="utf-8")
    for words, _ in runpy.run_path(str(PROJECT / "tools" / "command_tables.py"))["commands"]():
        assert f"[{words}](" in index, words


def fields_of(kind: Any) -> set[str]:
    """Names of the fields of a dataclass and of all dataclasses in it."""
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is not None:
        return set().union(*(fields_of(argument) for argument in typing.get_args(kind)))
    if not dataclasses.is_dataclass(kind):
        return set()
    hints = typing.get_type_hints(kind)
    named = {field.name for field in dataclasses.fields(kind)}
    return named.union(*(fields_of(hints[name]) for name in named))


def test_every_key_of_a_template_is_explained() -> None:
    page = (PROJECT / "docs" / "templates.md").read_text(encoding="utf-8")
    words = set(re.findall(r"[a-z0-9_]+", " ".join(re.findall(r"`([^`]*)`", page))))
    # Of a section that is read elsewhere, not keys.
    assert fields_of(Template) - words - {"file", "key", "node"} == set()


def defaults_of(kind: Any) -> dict[str, Any]:
    """Of the optional fields of a dataclass and of all dataclasses in it, by key; compression's with their section."""
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is not None:
        found: dict[str, Any] = {}
        for argument in typing.get_args(kind):
            found |= defaults_of(argument)
        return found
    if not dataclasses.is_dataclass(kind):
        return {}
    hints, found = typing.get_type_hints(kind), {}
    for field in dataclasses.fields(kind):
        inner = defaults_of(hints[field.name])
        is_section = field.name in ("quantization", "sparsity")
        found |= {f"{field.name}.{key}" if is_section else key: value for key, value in inner.items()}
        if field.default is not dataclasses.MISSING:
            found[field.name] = field.default
    return found


def test_defaults_of_a_template_are_as_it_says() -> None:
    page = (PROJECT / "docs" / "templates.md").read_text(encoding="utf-8")
    told = {
        key: yaml.safe_load(value) for key, value in re.findall(r"^\| `([a-z_.]+)` \|.*\| `([^`|]+)` \|$", page, re.M)
    }
    known = {key: list(value) if isinstance(value, tuple) else value for key, value in defaults_of(Template).items()}
    # Those of one kind of crop stand in its words; a missing head is that of an old template.
    assert told == {key: value for key, value in known.items() if key not in ("empty_crop_probability", "head")}


def test_every_label_format_has_its_row() -> None:
    from facekit.labels.formats import FORMATS, WRITTEN

    page = (PROJECT / "docs" / "labels.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ((?:`[a-z0-9-]+`(?:, )?)+)(read only)? \|", page, re.MULTILINE)
    names = {name: bool(read_only) for row, read_only in rows for name in re.findall(r"`([a-z0-9-]+)`", row)}
    assert names == {name: name not in WRITTEN for name in FORMATS}


def test_limits_are_as_promised() -> None:
    page = (PROJECT / "docs" / "promises.md").read_text(encoding="utf-8")
    told = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", page, re.MULTILINE))
    for what, places in LIMITS.items():
        for place in places:
            module, _, name = place.partition(":")
            limit = getattr(importlib.import_module(f"facekit.{module}"), name)
            assert any(words in told[what] for words in in_words(limit)), (
                f"{what}: {told[what]}, but {place} is {limit}"
            )


def in_words(limit: float) -> set[str]:
    """67108864 may be told as 67,108,864 or 64 MiB."""
    units = (
        {f"{limit >> shift} {unit}" for shift, unit in ((10, "KiB"), (20, "MiB"), (30, "GiB")) if limit >> shift}
        if isinstance(limit, int)
        else set()
    )
    return {f"{limit:,.0f}", *units}


def headings(page: Path) -> set[str]:
    """The anchors that GitHub and mkdocs make."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    found = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in found}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith("https://"):
            continue
        place, _, anchor = target.partition("#")
        aim = (page.parent / place).resolve() if place else page
        assert aim.exists(), f"{name_of(page)}: {target}"
        assert not anchor or anchor in headings(aim), f"{name_of(page)}: {target}"


def test_paths_in_words_exist() -> None:
    for page in PAGES:
        if page.name in ("CHANGELOG.md", "coming-from.md"):
            continue  # of versions gone by, and of other projects
        for path in re.findall(
            r"`((?:facekit|tools|tests|model_templates|data/demo)/[\w./-]+)`", page.read_text("utf-8")
        ):
            is_example = "NAME" in path or "four" in path
            assert is_example or (PROJECT / path).exists(), f"{name_of(page)}: {path}"


def test_every_tool_is_told_of() -> None:
    words = "".join(page.read_text(encoding="utf-8") for page in PAGES if page.name != "CHANGELOG.md")
    tools = {path.name for path in (PROJECT / "tools").iterdir() if path.is_file()}
    assert not {tool for tool in tools if f"tools/{tool}" not in words}


def test_every_page_is_in_the_menu() -> None:
    menu = yaml.safe_load((PROJECT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]

    def places(entry: Any) -> list[str]:
        if isinstance(entry, str):
            return [entry]
        parts = entry.values() if isinstance(entry, dict) else entry
        return [place for part in parts for place in places(part)]

    assert sorted(places(menu)) == sorted(
        page.relative_to(PROJECT / "docs").as_posix() for page in PAGES if "docs" in page.relative_to(PROJECT).parts
    )
