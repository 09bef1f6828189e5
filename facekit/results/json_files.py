"""Rows as JSON: one object with all, or a line each (JSON Lines). Both are read back row by row."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from facekit.base.reading import open_file
from facekit.errors import FacekitError
from facekit.results.row import Row, Run, row_of_json
from facekit.structures import SCHEMA_VERSION

MAX_BYTES = 1 << 36
MAX_ROW_BYTES = 1 << 28


def jsonl_text(rows: Iterable[Row], run: Run) -> Iterator[str]:
    """A row a line; nothing else, so that files can be joined."""
    for row in rows:
        yield row.to_json() + "\n"


def json_text(rows: Iterable[Row], run: Run) -> Iterator[str]:
    """One object: schema, run, and rows; each row on a line of its own."""
    yield f'{{"schema":{SCHEMA_VERSION},"run":{json.dumps(run.to_dict())},"rows":['
    between = "\n"
    for row in rows:
        yield between + row.to_json()
        between = ",\n"
    yield "\n]}\n"


def read_jsonl(path: Path) -> Iterator[Row]:
    """Rows as they were written. Raises FacekitError with the line for what is none."""
    with open_file(path, MAX_BYTES, "Check the path.") as file:
        number = 0
        while line := file.readline(MAX_ROW_BYTES):
            number += 1
            if not line.endswith(b"\n"):
                raise FacekitError(f"{path}:{number}: breaks off. Run again, with `resume`.")
            if line.strip():
                yield row_of_json(line, f"{path}:{number}")


def read_json(path: Path) -> Iterator[Row]:
    """Rows of json_text(), line by line, as it writes them. Raises FacekitError for anything else."""
    with open_file(path, MAX_BYTES, "Check the path.") as file:
        head = file.readline(MAX_ROW_BYTES)
        try:
            json.loads(head + b"]}")
        except ValueError as error:
            raise FacekitError(f"{path}:1: no file that `json` wrote. Write it again.") from error
        number = 1
        while (line := file.readline(MAX_ROW_BYTES)).startswith(b"{"):
            number += 1
            yield row_of_json(line.rstrip(b",\n"), f"{path}:{number}")
        if line != b"]}\n":
            raise FacekitError(f"{path}:{number + 1}: breaks off. Run again, with `resume`.")
