from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

import facekit
from facekit.cluster import stores
from facekit.cluster.archives import pictures_in
from facekit.cluster.sources import Sources
from facekit.cluster.stores import Entry, address_of, checked_name, found_in, names_in, read_bytes, writing
from facekit.commands.detect_shards import DetectingShards
from facekit.errors import FacekitError
from tests.cluster.support import jpeg, tar_of
from tools.faulty_s3 import FaultyS3


@pytest.fixture(scope="module")
def s3() -> Iterator[FaultyS3]:
    before = dict(os.environ)
    with FaultyS3() as server:
        os.environ.update(server.environment())
        boto3.client("s3").create_bucket(Bucket="faces")
        yield server
    for name in server.environment():
        os.environ.pop(name, None)
    os.environ.update(before)


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "FIRST_PAUSE_S", 0.001)


def put(name: str, data: bytes) -> str:
    boto3.client("s3").put_object(Bucket="faces", Key=name, Body=data)
    return f"s3://faces/{name}"


class TestNames:
    def test_what_pathlib_makes_of_an_address(self) -> None:
        for name in ("s3://faces/a/b", "gs://faces/a", "file:///a/b", "a/b", "/a//b"):
            assert address_of(Path(name)) == name.replace("/a//b", "/a/b")

    def test_a_file_s_address_is_a_path(self) -> None:
        assert checked_name("file:///a/b c.jpg") == "/a/b c.jpg"
        assert checked_name("file:///a/b%20c.jpg") == "/a/b c.jpg"

    @pytest.mark.parametrize("name", ["http://a/b", "ftp://a/b", "memory://a", "file://host/a", "s3://", "s3:///"])
    def test_others(self, name: str) -> None:
        with pytest.raises(FacekitError, match="expected"):
            checked_name(name)

    def test_credentials_in_an_address_are_neither_taken_nor_shown(self) -> None:
        with pytest.raises(FacekitError, match="from the environment alone") as caught:
            checked_name("s3://AKIA123:verysecret@faces/a")
        assert "verysecret" not in str(caught.value)

    def test_gcsfs_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(FacekitError, match="pip install gcsfs"):
            list(found_in("gs://faces/a"))


class TestOfStores:
    def test_written_listed_and_read(self, s3: FaultyS3) -> None:
        for name in ("w/a.txt", "w/b/c.txt"):
            with writing(f"s3://faces/{name}") as path:
                path.write_text(name)
        assert list(found_in("s3://faces/w")) == [
            Entry("s3://faces/w/a.txt", 7), Entry("s3://faces/w/b/c.txt", 9)
        ]  # fmt: skip
        assert names_in("s3://faces/w") == {"a.txt": 7}
        assert read_bytes(Entry("s3://faces/w/b/c.txt", None), 99) == b"w/b/c.txt"
        assert read_bytes(Entry("s3://faces/w/b/c.txt", 9), 99, 2, 3) == b"b/c"

    def test_nothing_is_written_by_a_block_that_fails(self, s3: FaultyS3) -> None:
        with pytest.raises(RuntimeError), writing("s3://faces/half.txt") as path:
            path.write_text("half")
            raise RuntimeError
        assert not stores.exists("s3://faces/half.txt")

    def test_globs(self, s3: FaultyS3) -> None:
        for name in ("g/1.jpg", "g/2.png", "g/d/3.jpg", "g/d/e/4.jpg"):
            put(name, b"-")

        def names(glob: str) -> list[str]:
            return [entry.name.removeprefix("s3://faces/g/") for entry in found_in(f"s3://faces/g/{glob}")]

        assert names("*.jpg") == ["1.jpg"]
        assert names("**/*.jpg") == ["1.jpg", "d/3.jpg", "d/e/4.jpg"]
        assert names("d/?.jpg") == ["d/3.jpg"]
        with pytest.raises(FacekitError, match="no files there"):
            names("*.gif")

    def test_a_name_with_the_signs_of_globs(self, s3: FaultyS3) -> None:
        name = put("br/[1].jpg", b"-")
        put("br/1.jpg", b"-")
        assert list(found_in(name)) == [Entry(name, 1)]

    def test_missing_too_large_and_empty(self, s3: FaultyS3) -> None:
        with pytest.raises(FacekitError, match="no such file"):
            read_bytes(Entry("s3://faces/no.jpg", None), 9)
        with pytest.raises(FacekitError, match="over 1 MiB"):
            read_bytes(Entry(put("l.jpg", b"-" * (2 << 20)), None), 1 << 20)
        assert read_bytes(Entry(put("e.jpg", b""), None), 9) == b""

    def test_a_smaller_object_than_listed(self, s3: FaultyS3) -> None:
        """Of the six attempts none gives what the listing says."""
        with pytest.raises(FacekitError, match="3 bytes of 9 came; 6 attempts"):
            read_bytes(Entry(put("s.jpg", b"abc"), 9), 99)


class TestOfSources:
    def test_pictures_archives_and_what_is_passed_over_each_once(self, s3: FaultyS3) -> None:
        put("src/2.jpg", jpeg(2)), put("src/1.jpg", jpeg(1)), put("src/notes.txt", b"-")
        put("src/z-00.tar", tar_of([("in.jpg", jpeg(3))])), put("src/z-01.tar", tar_of([]))
        sources = Sources(["s3://faces/src", "s3://faces/nowhere", "s3://faces/src/z-{00..01}.tar"])
        shards = list(sources.shards(10))
        assert [[entry.name.rpartition("/")[2] for entry in shard.entries] for shard in shards] == [
            ["1.jpg", "2.jpg"], ["z-00.tar"], ["z-01.tar"]
        ]  # fmt: skip
        assert sources.passed_over == 1
        assert [loss.what for loss in sources.losses] == ["s3://faces/nowhere"]

    def test_a_missing_picture_has_a_row(self, s3: FaultyS3) -> None:
        there = put("mi/1.jpg", jpeg(1))
        sources = Sources([there, "s3://faces/mi/no.jpg", "s3://faces/mi/*.gif"])
        assert [entry.name for entry in sources.entries()] == [there, "s3://faces/mi/no.jpg"]
        assert [loss.what for loss in sources.losses] == ["s3://faces/mi/*.gif"]

    def test_through_faults(self, s3: FaultyS3) -> None:
        """One request in ten fails, and one answer in ten breaks off: all comes, and is whole."""
        pictures = [(f"{number}.jpg", jpeg(number, 128)) for number in range(12)]
        entry = Entry(put("f.tar", tar_of(pictures)), None)
        single = [Entry(put(f"f/{name}", data), len(data)) for name, data in pictures]
        s3.fail = s3.truncate = 0.1
        before = s3.refused, s3.truncated
        try:
            for _ in range(4):
                assert [data for _, data in pictures_in(entry)] == [data for _, data in pictures]
                assert [read_bytes(each, 1 << 20) for each in single] == [data for _, data in pictures]
        finally:
            s3.fail = s3.truncate = 0.0
        assert s3.refused > before[0] and s3.truncated > before[1]

    def test_a_store_that_stays_broken_is_a_named_error(self, s3: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(stores, "ATTEMPTS", 1)  # each is five of s3fs's
        entry = Entry(put("b.jpg", jpeg()), None)
        s3.truncate = 1.0
        try:
            with pytest.raises(FacekitError, match=r"^s3://faces/b.jpg: the store doesn't answer as it should"):
                read_bytes(entry, 1 << 20)
        finally:
            s3.truncate = 0.0


def test_going_on_where_a_store_holds_others_now(s3: FaultyS3, tmp_path: Path) -> None:
    for number in range(2):
        put(f"go/{number}.jpg", jpeg(number))
    arguments = {"model": "bundled", "threads": 1, "jsonl": tmp_path / "out"}
    facekit.detect("s3://faces/go", **arguments).run()
    assert not facekit.detect("s3://faces/go", **arguments, resume=True).run().losses
    put("go/0.jpg", jpeg(0, 64))
    put("go/2.jpg", jpeg(2))
    again = facekit.detect("s3://faces/go", **arguments, resume=True).run()
    assert isinstance(again, DetectingShards)
    came, changed = again.losses[:9]
    assert came.why.startswith(
        "1 files are there now and not in this run's plan, so have no row (first: s3://faces/go/2"
    )
    assert changed.why.startswith("1 files have another size than in this run's plan (first: s3://faces/go/0.jpg)")
