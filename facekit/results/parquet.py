"""Rows as Parquet, by pyarrow: a row a picture, its faces as a list in it. read_parquet() of pandas reads it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from facekit.base.extras import optional_packages
from facekit.base.reading import shown
from facekit.errors import FacekitError
from facekit.results.row import Row, Run, as_unicode, from_unicode
from facekit.structures import LANDMARK_NAMES, SCHEMA_VERSION

ROWS_AT_ONCE = 4096


def parquet_schema(run: Run | None = None) -> Any:
    """pyarrow.Schema of the rows; its metadata say the version, and what the rows were made with."""
    with optional_packages():
        import pyarrow as pa
    point = pa.list_(pa.float32(), 2)
    face = pa.struct([
        ("box_xyxy", pa.list_(pa.float32(), 4)),
        ("score", pa.float32()),
        ("landmarks_xy", pa.struct([(name, point) for name in LANDMARK_NAMES])),
        ("track", pa.int64()),
        ("interpolated", pa.bool_()),
    ])  # fmt: skip
    metadata = {"facekit_schema": str(SCHEMA_VERSION)} | ({"facekit_run": json.dumps(run.to_dict())} if run else {})
    return pa.schema(
        [
            ("schema", pa.int32()), ("source", pa.string()), ("frame", pa.int64()), ("time_s", pa.float64()),
            ("width", pa.int32()), ("height", pa.int32()), ("faces", pa.list_(face)), ("error", pa.string()),
        ],
        metadata=metadata,
    )  # fmt: skip


def write_parquet(path: Path, rows: Iterable[Row], run: Run) -> int:
    """How many rows. `source` stands as as_unicode() has it."""
    schema = parquet_schema(run)
    import pyarrow as pa
    import pyarrow.parquet as pq

    written = 0
    waiting = iter(rows)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        while group := [_values(row) for row in itertools.islice(waiting, ROWS_AT_ONCE)]:
            writer.write_table(pa.Table.from_pylist(group, schema=schema))
            written += len(group)
    return written


def _values(row: Row) -> dict[str, Any]:
    values = row.to_dict()
    values["source"] = as_unicode(row.source)
    if row.error is not None:
        values["error"] = row.error.encode("utf-8", "backslashreplace").decode()
    return values


def read_parquet(path: Path) -> Iterator[Row]:
    """Rows as they were written. Raises FacekitError for another file."""
    with optional_packages():
        import pyarrow as pa
        import pyarrow.parquet as pq
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(ROWS_AT_ONCE):
                for number, values in enumerate(batch.to_pylist()):
                    for face in values["faces"] or ():
                        for key in ("landmarks_xy", "track", "interpolated"):
                            if face[key] is None:
                                del face[key]
                    values["source"] = from_unicode(values["source"])
                    yield Row.from_dict(values, f"{path}: row {number}")
    except (OSError, pa.ArrowException, KeyError, TypeError) as error:
        raise FacekitError(f"{path}: no Parquet of facekit's rows ({shown(error)}). Write it again.") from error
