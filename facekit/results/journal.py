"""Rows on their way: what a run has found so far, so that a killed one goes on where it was.

A text file beside the first output. Its first line says what the rows are made with; then comes a line a row: its
JSON, a tab, and the JSON of what is no part of it: name, what was left out, the state of its file. Lines that a kill
broke off, those of a group that wasn't finished, and those of a video behind which no other row stands, are cut away.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from facekit.base.files import check_not_input
from facekit.errors import FacekitError
from facekit.results.row import Row, row_of_json

log = logging.getLogger(__name__)

_FRAME = re.compile(rb'\{"schema":\d+,"source":"(?:[^"\\]|\\.)*","frame":(\d+)')
SUFFIX = ".unfinished"
MAX_LINE_BYTES = 1 << 28


class _Whole:
    """How far rows are complete, with the places in the file where they end."""

    def __init__(self, place: int, group: int) -> None:
        self._kept, self._end = 0, place  # up to where all is whole
        self._open: list[int] = []  # ends of a group or a video that isn't yet
        self._frame: int | None = None  # the last one
        self._group = group
        self.seen = 0  # rows

    def add(self, frame: int | None, end: int) -> None:
        self.seen += 1
        is_other = (frame is None) != (self._frame is None) or (frame is not None and frame <= (self._frame or 0))
        if is_other:
            self._close()
        self._open.append(end)
        self._frame = frame
        if frame is None and len(self._open) == self._group:
            self._close()

    def _close(self) -> None:
        if self._open:
            self._kept, self._end, self._open = self._kept + len(self._open), self._open[-1], []

    def result(self) -> tuple[int, int]:
        return self._kept, self._end


def _frame_of(line: bytes) -> int | None:
    """Of a row's line, where `frame` stands before all that is long."""
    match = _FRAME.match(line)
    return int(match[1]) if match else None


def _is_whole(line: bytes) -> bool:
    """Whether add() may have written it: a disk may have changed it since."""
    try:
        _row_of(line, "")
    except (FacekitError, ValueError, TypeError, RecursionError):
        return False
    return True


def _line_of(row: Row) -> bytes:
    return f"{row.to_json()}\t{json.dumps([row.name, row.left_out, row.file_state])}\n".encode()


def _row_of(line: bytes, where: str) -> Row:
    """Raises FacekitError, ValueError or TypeError for what _line_of() didn't write."""
    text, _, beside = line.partition(b"\t")
    name, left_out, file_state = json.loads(beside)
    is_state = file_state is None or [type(part) for part in file_state] == [int, int]
    if not (isinstance(name, str) and isinstance(left_out, str | None) and is_state):
        raise ValueError(beside)
    state = None if file_state is None else (file_state[0], file_state[1])
    return replace(row_of_json(text, where), name=name, left_out=left_out, file_state=state)


class Journal:
    """Append with add(); read again with rows(). `done` counts what an earlier run had left."""

    def __init__(self, path: Path, made_with: Mapping[str, Any], resume: bool, group: int = 1) -> None:
        """made_with: the settings, which must be the same to go on. group: rows that are made together; only whole
        groups are kept. Raises FacekitError for a journal of other settings, and where the disk refuses."""
        self.path = path
        self.done = 0
        self._has_rows = False
        head = json.dumps(made_with, separators=(",", ":")).encode() + b"\n"
        check_not_input(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if resume and path.exists():
                self.done = self._cut(head, group)
            else:
                if path.exists():
                    log.info("Starting anew; `resume` would go on with what a broken-off run left in %s", path)
                path.write_bytes(head)
            self._file: IO[bytes] = path.open("ab")
        except OSError as error:
            raise self._refused(error) from error

    def _refused(self, error: OSError) -> FacekitError:
        return FacekitError(f"{self.path}: can't be written ({error.strerror or error}). Make room and run again.")

    def _cut(self, head: bytes, group: int) -> int:
        """Leaves whole groups of whole rows, and no video that wasn't looked at to its end; how many rows."""
        with self.path.open("r+b") as file:
            said = file.readline(MAX_LINE_BYTES)
            if said != head:
                self._refuse_other(said, head)
            whole = _Whole(file.tell(), group)
            while (line := file.readline(MAX_LINE_BYTES)).endswith(b"\n"):
                if not _is_whole(line):
                    log.warning("%s: damaged from row %d on; these are looked at anew", self.path, whole.seen + 1)
                    break
                whole.add(_frame_of(line), file.tell())
            kept, end = whole.result()
            file.truncate(end)
        return kept

    def _refuse_other(self, said: bytes, head: bytes) -> None:
        try:
            before, now = json.loads(said), json.loads(head)
            other = [key for key in now if before.get(key) != now[key]]
        except (ValueError, AttributeError, RecursionError):
            raise FacekitError(f"{self.path}: no journal of a run. Move it away, or leave `resume` out.") from None
        told = ", ".join(f"{key} {str(before.get(key))[:80]}, now {str(now[key])[:80]}" for key in other)
        raise FacekitError(
            f"{self.path}: the run that was broken off had {told or 'other settings'}. Give the same, or leave "
            f"`resume` out to start anew."
        )

    def add(self, row: Row) -> None:
        """Behind it the row outlives the process."""
        self._has_rows = True
        try:
            self._file.write(_line_of(row))
            self._file.flush()
        except OSError as error:
            raise self._refused(error) from error

    def sync(self) -> None:
        """Behind it all rows outlive a power cut."""
        os.fsync(self._file.fileno())

    def rows(self) -> Iterator[Row]:
        """All rows so far, of earlier runs too."""
        with self.path.open("rb") as file:
            file.readline(MAX_LINE_BYTES)
            for number, line in enumerate(file, 2):
                yield _row_of(line, f"{self.path}:{number}")

    def close(self) -> None:
        """Without a row there is nothing to go on with: then no journal is left."""
        self._file.close()
        if not self.done and not self._has_rows:
            self.path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Once its rows stand where they belong."""
        self.close()
        self.path.unlink(missing_ok=True)


def journal_path(output: Path, is_folder: bool) -> Path:
    """Where the journal lies: beside the output, or in it where that is a folder."""
    return output / f"detect{SUFFIX}" if is_folder else output.with_name(output.name + SUFFIX)
