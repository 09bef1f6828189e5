"""Parquet tables with a column of pictures' bytes, or of their paths."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from facekit.base.extras import optional_packages
from facekit.base.reading import shown
from facekit.cluster.shards import Shard
from facekit.cluster.stores import Entry, bare, checked_name, file_system, is_store, read_bytes, scheme_of, trying
from facekit.errors import FacekitError
from facekit.pictures.read import MAX_PICTURE_BYTES

BYTES_COLUMNS = ("image", "bytes", "picture", "jpg", "jpeg", "png", "content", "data")
PATH_COLUMNS = ("path", "file", "file_name", "filename", "url", "uri", "image", "picture", "location")
ROWS_AT_ONCE = 16
MAX_GROUP_BYTES = 8 << 30  # unpacked, of a group of rows

Named = tuple[str, bytes | FacekitError]


def shards_of(entry: Entry, shard_size: int) -> Iterator[Shard]:
    """The table's shards: groups of rows, as many together as have shard_size rows. Raises FacekitError for a file that
    is no such table."""
    with _opened(entry) as table:
        _column(table, entry.name)
        first = rows = 0
        for group in range(table.num_row_groups):
            rows += table.metadata.row_group(group).num_rows
            if rows >= shard_size or group == table.num_row_groups - 1:
                yield Shard("parquet", (entry,), (first, group + 1), pictures=rows)
                first, rows = group + 1, 0


def pictures_in(entry: Entry, row_groups: tuple[int, int]) -> Iterator[Named]:
    """The name TABLE#ROW, or the path in a column of paths, and the bytes of each picture of these groups of rows."""
    try:
        with _opened(entry) as table:
            column, is_bytes = _column(table, entry.name)
            row = sum(table.metadata.row_group(group).num_rows for group in range(row_groups[0]))
            for group in range(*row_groups):
                size = table.metadata.row_group(group).total_byte_size
                if size > MAX_GROUP_BYTES:
                    raise FacekitError(f"{entry.name}: row group {group} has {size} bytes, over {MAX_GROUP_BYTES}.")
            for batch in table.iter_batches(ROWS_AT_ONCE, list(range(*row_groups)), [column]):
                for value in batch.column(0):
                    yield _picture(f"{entry.name}#{row}", value.as_py(), is_bytes, entry.name)
                    row += 1
    except FacekitError as error:
        yield entry.name, error
    except Exception as error:  # of pyarrow, of a store
        yield entry.name, _damaged(entry.name, error)


def _picture(where: str, value: Any, is_bytes: bool, table: str) -> Named:
    if isinstance(value, dict):  # {bytes, path}, as Hugging Face's data sets have them: one of the two is there
        is_bytes = value.get("bytes") is not None
        value = value.get("bytes") if is_bytes else value.get("path")
    if value is None:
        return where, FacekitError(f"{where}: expected a picture, got none (null).")
    if is_bytes:
        if len(value) > MAX_PICTURE_BYTES:
            return where, FacekitError(f"{where}: over {MAX_PICTURE_BYTES >> 20} MiB are not read.")
        return where, bytes(value)
    try:
        name = checked_name(_beside(str(value), table))
        return name, read_bytes(Entry(name, None), MAX_PICTURE_BYTES)
    except FacekitError as error:
        return str(value), error


def _beside(name: str, table: str) -> str:
    """A relative path is of the table's folder."""
    if scheme_of(name) is not None or Path(name).is_absolute():
        return name
    if is_store(table):
        if ".." in Path(name).parts:
            raise FacekitError(f"{name}: expected a path below the table's folder.")
        return f"{table.rpartition('/')[0]}/{name}"
    return str(Path(table).parent / name)


def _column(table: Any, name: str) -> tuple[str, bool]:
    """The column to read, and whether it holds bytes; else paths."""
    import pyarrow as pa

    schema = table.schema_arrow
    holding = {}
    for field in schema:
        kind = field.type
        if pa.types.is_struct(kind) and "bytes" in [kind.field(i).name for i in range(kind.num_fields)]:
            kind = kind.field("bytes").type
        is_binary = pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
        is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
        if is_binary or is_text:
            holding[field.name] = is_binary
    binary = [column for column in holding if holding[column]]
    texts = [column for column in holding if not holding[column]]
    for columns, names, is_bytes in ((binary, BYTES_COLUMNS, True), (texts, PATH_COLUMNS, False)):
        known = [column for column in names if column in columns]
        if known or len(columns) == 1:
            return (known or columns)[0], is_bytes
    raise FacekitError(
        f"{name}: expected a column of pictures' bytes ({', '.join(BYTES_COLUMNS[:3])}) or of paths "
        f"({', '.join(PATH_COLUMNS[:3])}), got {shown(', '.join(schema.names) or 'none', 200)}. Name one of them so."
    )


@contextlib.contextmanager
def _opened(entry: Entry) -> Iterator[Any]:
    with optional_packages():
        import pyarrow.parquet as pq
    stack = contextlib.ExitStack()
    try:
        if is_store(entry.name):
            files = file_system(entry.name)
            source = stack.enter_context(trying(entry.name, lambda: files.open(bare(entry.name), "rb")))
        else:
            source = entry.name
        table = stack.enter_context(pq.ParquetFile(source, memory_map=False, pre_buffer=False))
    except FacekitError:
        stack.close()
        raise
    except Exception as error:
        stack.close()
        raise _damaged(entry.name, error) from error
    with stack:
        yield table


def _damaged(name: str, error: Exception) -> FacekitError:
    return FacekitError(f"{name}: can't be read as Parquet ({shown(error, 200)}). Write the table anew.")
