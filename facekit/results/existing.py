"""Which files of rows, and which pages, may be replaced: those that facekit wrote."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from facekit.base.extras import optional_packages
from facekit.base.reading import open_file
from facekit.errors import FacekitError

HEAD_BYTES = 100
PAGE_HEAD_BYTES = 4096
PAGE_MARK = b'<meta name="generator" content="facekit">'  # see facekit.pages.shell
# What each format's files begin with.
HEADS = {
    "json": rb'\{"schema":\d+,"run":\{"facekit"',
    "jsonl": rb'\{"schema":\d+,"source":',
    "csv": rb"source,frame,",
    "coco": rb'\{"info":\{"description": "faces found by ',
}


def check_replaceable_rows(kind: str, path: Path) -> None:
    """Raises FacekitError for a file of another's that is there: labels that `coco=annotations.json` named, say. Empty
    ones are nobody's, and what is no file, such as /dev/null, loses nothing."""
    if path.is_file() and path.stat().st_size and not _is_own(kind, path):
        raise FacekitError(
            f"{path}: is there already, and is no {kind} of faces that facekit wrote: it would be lost. Choose another "
            f"name, or delete it first."
        )


def check_replaceable_page(path: Path | None) -> None:
    """The same for a page that is to be written; None: there is none."""
    if path is None or not path.is_file() or not path.stat().st_size:
        return
    with open_file(path, sys.maxsize, "Choose another name.") as file:
        if PAGE_MARK not in (file.read(PAGE_HEAD_BYTES) or b""):
            raise FacekitError(
                f"{path}: is there already, and is no page that facekit wrote: it would be lost. Choose another name, "
                f"or delete it first."
            )


def _is_own(kind: str, path: Path) -> bool:
    if kind == "parquet":
        with optional_packages():
            import pyarrow as pa
            from pyarrow import parquet
        try:
            return b"facekit_schema" in (parquet.read_schema(path).metadata or {})
        except (pa.ArrowException, OSError):
            return False
    with open_file(path, sys.maxsize, "Choose another name.") as file:
        return re.match(HEADS[kind], file.read(HEAD_BYTES) or b"") is not None
