"""JSON label files of any size and origin, within limits."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from facekit.base.reading import read_input
from facekit.errors import FacekitError
from facekit.labels.formats.text_lines import MAX_LABEL_BYTES, refuse_foreign, shorten

MAX_JSON_MEMORY = 2 << 30  # bytes that the values of a file may take; 1.1 million COCO faces with landmarks
_BYTES_A_VALUE, _BYTES_A_CONTAINER = 32, 100  # of Python's objects, by the commas and brackets of the text


def load_json(path: Path, is_hint: str) -> Any:
    """The content. is_hint: what the file should be, "a COCO json file".

    Raises FacekitError for what is no JSON, with the line, for a key with two values in a mapping, and for files over
    MAX_LABEL_BYTES or of more values than MAX_JSON_MEMORY holds.
    """
    data = read_input(path, MAX_LABEL_BYTES)
    needed = data.count(b",") * _BYTES_A_VALUE + (data.count(b"[") + data.count(b"{")) * _BYTES_A_CONTAINER
    if needed > MAX_JSON_MEMORY:
        raise FacekitError(
            f"{path}: its values would take about {needed / 2**30:.1f} GiB of memory, over the "
            f"{MAX_JSON_MEMORY >> 30} GiB that are allowed. Split the file, or leave segmentations out."
        )
    try:
        return json.loads(data.decode("utf-8-sig"), object_pairs_hook=_without_doubles)
    except UnicodeDecodeError as error:
        _refuse(path, data, is_hint)
        line = error.object.count(b"\n", 0, error.start) + 1
        raise FacekitError(f"{path}:{line}: expected UTF-8 text, got other bytes. Is this {is_hint}?") from error
    except json.JSONDecodeError as error:
        _refuse(path, data, is_hint)
        raise FacekitError(f"{path}:{error.lineno}: not valid JSON ({error.msg}). Is this {is_hint}?") from error
    except MemoryError as error:
        raise FacekitError(f"{path}: there is not the memory to read it. Split the file.") from error
    except _DoubledKeyError as error:
        key = json.dumps(error.key)
        places = [match.start() for match in re.finditer(re.escape(key.encode()) + rb"\s*:", data)]
        place = f":{1 + data.count(10, 0, places[1])}" if len(places) == 2 else ""  # else it may be any of them
        raise FacekitError(
            f"{path}{place}: the key {shorten(error.key)} has two values in a mapping; keep one."
        ) from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, nested without end
        raise FacekitError(f"{path}: not a JSON text file ({error}). Is this {is_hint}?") from error


class _DoubledKeyError(Exception):
    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """As json makes mappings, which keeps the last of two values in silence, also where they differ."""
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        for key, value in pairs:
            if value != mapping[key]:
                raise _DoubledKeyError(key)
    return mapping


def _refuse(path: Path, data: bytes, is_hint: str) -> None:
    try:
        refuse_foreign(path, data[:64])
    except FacekitError as error:
        raise FacekitError(f"{error} Expected {is_hint}.") from error
