"""Hours and cost of many pictures on so many workers, and what ends the growth: from figures measured on one machine.

python tools/plan_cluster.py [--pictures 10000000] [--ms 75] [--kb 120] [--shard-size 64] [--driver-ms 5]
    [--store-mb-s 1000] [--start-s 30] [--price 0.05] [--workers 1,10,100,1000]

ms: of a worker's core a picture, from its bytes to its row (facekit detect's rate on one core). driver-ms: of the
driver a shard (tools/verify_cluster.py FOLDER overhead). store-mb-s: what the store or the shared disk gives to all.
price: of a worker's hour.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Job:
    """Pictures, what each takes, and what all share."""

    pictures: int
    ms: float  # of a worker, a picture
    kb: float  # read, a picture
    shard_size: int
    driver_ms: float  # a shard
    store_mb_s: float  # of all workers together
    start_s: float  # until the first worker works
    price: float  # of a worker's hour


@dataclass(frozen=True)
class Estimate:
    workers: int
    per_hour: float  # pictures, once all work
    hours: float  # all of it, with the start and the last shards
    cost: float
    limit: str  # workers, driver, store, shards


def estimate(job: Job, workers: int) -> Estimate:
    """The least of what workers, the driver and the store manage; workers without a shard left wait for the others."""
    shards = -(-job.pictures // job.shard_size)
    busy = min(workers, shards)
    per_s = {
        "workers" if busy == workers else "shards": busy * 1000 / job.ms,
        "driver": job.shard_size * 1000 / job.driver_ms,
        "store": job.store_mb_s * 1000 / job.kb,
    }
    limit = min(per_s, key=lambda name: per_s[name])
    rate = per_s[limit]
    last_s = min(job.shard_size, job.pictures) * job.ms / 1000  # a worker may begin its last shard as the others end
    seconds = job.start_s + max(job.pictures / rate, last_s) + (last_s if shards > workers else 0.0)
    return Estimate(workers, 3600 * rate, seconds / 3600, workers * job.price * seconds / 3600, limit)


def table(job: Job, workers: list[int]) -> str:
    """As Markdown."""
    lines = ["| workers | pictures an hour | hours | cost | limit |", "| --- | --- | --- | --- | --- |"]
    for each in (estimate(job, count) for count in workers):
        lines.append(f"| {each.workers} | {each.per_hour:,.0f} | {each.hours:,.2f} | {each.cost:,.2f} | {each.limit} |")
    return "\n".join(lines)


def above_zero(text: str) -> float:
    number = float(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")
    return number


def counts(text: str) -> list[int]:
    """Of 1,10,100."""
    numbers = [int(number) for number in text.split(",")]
    if min(numbers) < 1:
        raise argparse.ArgumentTypeError(f"expected whole numbers above 0, got {text}")
    return numbers


def count(text: str) -> int:
    [number] = counts(text)
    return number


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pictures", type=count, default=10_000_000)
    parser.add_argument("--ms", type=above_zero, default=75.0)
    parser.add_argument("--kb", type=above_zero, default=120.0)
    parser.add_argument("--shard-size", type=count, default=64)
    parser.add_argument("--driver-ms", type=above_zero, default=5.0)
    parser.add_argument("--store-mb-s", type=above_zero, default=1000.0)
    parser.add_argument("--start-s", type=float, default=30.0)
    parser.add_argument("--price", type=float, default=0.05)
    parser.add_argument("--workers", type=counts, default="1,10,100,1000")
    flags = parser.parse_args(arguments)
    job = Job(
        flags.pictures, flags.ms, flags.kb, flags.shard_size, flags.driver_ms, flags.store_mb_s, flags.start_s,
        flags.price,
    )  # fmt: skip
    print(table(job, flags.workers))


if __name__ == "__main__":
    main()
