from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facekit.cluster.shards import KINDS, Shard, gathered, read_plan, write_plan
from facekit.cluster.stores import Entry
from facekit.errors import FacekitError

ENTRIES = st.builds(Entry, st.text(st.characters(codec=None)), st.none() | st.integers(0, 1 << 60))
SHARDS = st.builds(
    Shard,
    st.sampled_from(KINDS),
    st.lists(ENTRIES, min_size=1, max_size=4).map(tuple),
    st.none() | st.tuples(st.integers(0, 99), st.integers(0, 99)),
    st.none() | st.tuples(st.floats(0, 1e6), st.none() | st.floats(0, 1e6)),
    st.none() | st.integers(0, 999),
)


@given(SHARDS)
def test_a_line_holds_a_shard(shard: Shard) -> None:
    """Names of any bytes too, which are surrogates in texts."""
    assert "\n" not in shard.line()
    assert Shard.of_line(shard.line().encode("ascii"), "plan:1") == shard


def test_pictures_are_gathered() -> None:
    entries = [Entry(str(number), None) for number in range(7)]
    shards = list(gathered(entries, 3))
    assert [shard.pictures for shard in shards] == [3, 3, 1]
    assert [entry for shard in shards for entry in shard.entries] == entries


def test_a_plan_knows_where_lines_begin() -> None:
    shards = [Shard("pictures", (Entry("ä" * number, 5),), pictures=1) for number in range(1, 5)]
    shards.append(Shard("tar", (Entry("a.tar", None),)))
    stream = io.BytesIO()
    plan = write_plan(shards, stream, "plan")
    text = stream.getvalue()
    assert [Shard.of_line(text[a:b], "") for a, b in zip(plan.starts, plan.starts[1:], strict=False)] == shards
    assert (len(plan), plan.pictures, plan.unknown) == (5, 4, 1)
    assert read_plan(io.BytesIO(text), "plan") == plan


@pytest.mark.parametrize(
    "line",
    [b"", b"{", b"[]", b"{}", b'{"kind":"pictures"}', b'{"kind":"x","entries":[]}', b'{"kind":"tar","entries":[[]]}',
     b'{"kind":"tar","entries":[["a",{}]]}', b'{"kind":"tar","entries":7}', b"[" * 9999],
)  # fmt: skip
def test_no_line_of_a_plan(line: bytes) -> None:
    with pytest.raises(FacekitError, match=r"^plan:3: no line of a plan"):
        Shard.of_line(line, "plan:3")


def test_a_plan_of_others(tmp_path: Path) -> None:
    with pytest.raises(FacekitError, match=r"^plan:2: "):
        read_plan(io.BytesIO(Shard("tar", (Entry("a", None),)).line().encode() + b"\njunk\n"), "plan")
