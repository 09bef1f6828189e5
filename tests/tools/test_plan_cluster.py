from __future__ import annotations

import dataclasses

import pytest

from tools.plan_cluster import Job, estimate, main, table

JOB = Job(1_000_000, ms=100, kb=100, shard_size=50, driver_ms=5, store_mb_s=200, start_s=36, price=0.1)


def test_ten_workers_by_hand() -> None:
    """10 x 10 a second: 10,000 s, 36 to start, 5 for the last shard."""
    found = estimate(JOB, 10)
    assert (found.per_hour, found.limit) == (360_000, "workers")
    assert found.hours == pytest.approx(10_041 / 3600) and found.cost == pytest.approx(10_041 / 3600)


def test_what_ends_the_growth() -> None:
    """The store gives 2,000 pictures a second, the driver 10,000."""
    assert estimate(JOB, 199).limit == "workers"
    assert (estimate(JOB, 300).limit, estimate(JOB, 300).per_hour) == ("store", 7_200_000)
    fast = dataclasses.replace(JOB, store_mb_s=1e6)
    assert (estimate(fast, 2000).limit, estimate(fast, 2000).per_hour) == ("driver", 36_000_000)


def test_fewer_shards_than_workers() -> None:
    few = dataclasses.replace(JOB, pictures=100)
    assert estimate(few, 10).limit == "shards"
    assert estimate(few, 10).hours == pytest.approx((36 + 5) / 3600)


def test_table() -> None:
    assert table(JOB, [10]).splitlines()[-1] == "| 10 | 360,000 | 2.79 | 2.79 | workers |"


@pytest.mark.parametrize(
    "given", ["--ms 0", "--kb 0", "--kb nan", "--driver-ms -1", "--shard-size 0", "--workers 1,0", "--pictures 0"]
)
def test_nothing_takes_nothing(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(given.split())
    assert caught.value.code == 2
    assert f"argument {given.split()[0]}: expected" in capsys.readouterr().err
