from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from facekit.cluster.stores import Entry
from facekit.cluster.tables import pictures_in, shards_of
from facekit.errors import FacekitError
from tests.cluster.support import jpeg


def table(path: Path, columns: dict[str, Any], rows_a_group: int = 4) -> Entry:
    pq.write_table(pa.table(columns), path, row_group_size=rows_a_group)
    return Entry(str(path), path.stat().st_size)


def read(entry: Entry, shard_size: int = 100) -> list[tuple[str, bytes | FacekitError]]:
    groups = [shard.row_groups for shard in shards_of(entry, shard_size)]
    return [found for group in groups if group is not None for found in pictures_in(entry, group)]


class TestColumns:
    def test_bytes(self, tmp_path: Path) -> None:
        entry = table(tmp_path / "a.parquet", {"id": [1, 2], "image": [jpeg(1), None]})
        (name, first), (_, second) = read(entry)
        assert (name, first) == (f"{entry.name}#0", jpeg(1))
        assert isinstance(second, FacekitError) and "null" in str(second)

    def test_bytes_as_hugging_face_has_them(self, tmp_path: Path) -> None:
        entry = table(tmp_path / "a.parquet", {"image": [{"bytes": jpeg(1), "path": "x.jpg"}], "label": ["a"]})
        assert read(entry) == [(f"{entry.name}#0", jpeg(1))]
        (tmp_path / "in.jpg").write_bytes(jpeg(2))
        rows = [{"bytes": jpeg(1), "path": None}, {"bytes": None, "path": "in.jpg"}, {"bytes": None, "path": None}]
        first, second, (_, third) = read(table(tmp_path / "b.parquet", {"image": rows}))
        assert first[1] == jpeg(1) and second == (str(tmp_path / "in.jpg"), jpeg(2))
        assert isinstance(third, FacekitError) and "null" in str(third)

    def test_paths(self, tmp_path: Path) -> None:
        (tmp_path / "in.jpg").write_bytes(jpeg(1))
        entry = table(tmp_path / "a.parquet", {"path": ["in.jpg", str(tmp_path / "in.jpg"), "no.jpg"]})
        (name, first), (_, second), (missing, third) = read(entry)
        assert (name, first, second) == (str(tmp_path / "in.jpg"), jpeg(1), jpeg(1))
        assert missing == "no.jpg" and isinstance(third, FacekitError)

    def test_neither(self, tmp_path: Path) -> None:
        entry = table(tmp_path / "a.parquet", {"x": [1], "y": [2.0]})
        with pytest.raises(FacekitError, match=r"expected a column of pictures' bytes .* got x, y\."):
            list(shards_of(entry, 4))


class TestShards:
    def test_whole_groups_until_there_are_enough(self, tmp_path: Path) -> None:
        entry = table(tmp_path / "a.parquet", {"image": [jpeg()] * 10}, rows_a_group=3)
        found = list(shards_of(entry, 5))
        assert [(shard.row_groups, shard.pictures) for shard in found] == [((0, 2), 6), ((2, 4), 4)]

    def test_rows_are_counted_through_the_file(self, tmp_path: Path) -> None:
        entry = table(tmp_path / "a.parquet", {"image": [jpeg(i) for i in range(7)]}, rows_a_group=2)
        assert read(entry, 3) == [(f"{entry.name}#{i}", jpeg(i)) for i in range(7)]


class TestHostile:
    @pytest.mark.parametrize("data", [b"", b"PAR1", b"PAR1" + b"\xff" * 64 + b"PAR1", b"junk" * 99])
    def test_no_table(self, data: bytes, tmp_path: Path) -> None:
        path = tmp_path / "a.parquet"
        path.write_bytes(data)
        with pytest.raises(FacekitError, match="can't be read as Parquet"):
            list(shards_of(Entry(str(path), None), 4))
        ((name, error),) = pictures_in(Entry(str(path), None), (0, 1))
        assert name == str(path) and isinstance(error, FacekitError)

    def test_damaged_within(self, tmp_path: Path) -> None:
        entry = table(tmp_path / "a.parquet", {"image": [jpeg(i) for i in range(40)]}, rows_a_group=10)
        data = bytearray(Path(entry.name).read_bytes())
        data[200:2200] = b"\xff" * 2000
        Path(entry.name).write_bytes(bytes(data))
        found = list(pictures_in(entry, (0, 1)))
        assert isinstance(found[-1][1], FacekitError) or found[0][1] != jpeg(0)

    def test_a_path_that_is_an_address_of_another_kind(self, tmp_path: Path) -> None:
        ((_, error),) = read(table(tmp_path / "a.parquet", {"path": ["http://host/a.jpg"]}))
        assert "expected a path or one of" in str(error)
