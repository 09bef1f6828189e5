"""What a benchmark or a comparison found: size, speed and accuracy of detectors, each in its own process."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from facekit.records.evaluation import Metric, without_nan

VERSION = 1  # of the json
AP_SHORT = {"widerface_e": "easy", "widerface_m": "medium", "widerface_h": "hard", "ap": "AP", "ap_50": "AP50"}


@dataclass(frozen=True)
class Timing:
    """Of one picture, from its pixels to its faces, with so many threads."""

    threads: int
    cold_start_s: float  # from the start of the process to the faces of the first picture
    latency_p50_ms: float
    latency_p95_ms: float
    pictures_per_s: float  # one after the other, in the rounds that the latency is of
    peak_memory_mib: float | None  # of the process, the interpreter too; None where the system doesn't say


@dataclass(frozen=True)
class Measured:
    """One detector in one runtime."""

    name: str
    detector: str  # the template's or the layout's name
    runtime: str
    protocol: str  # stands beside its AP
    files: dict[str, int]  # all that it consists of, and their bytes
    parameters: int | None  # None where they can't be counted
    macs: int | None  # of one picture as it is fed
    fed_wh: tuple[int, int]  # pixels of that
    timings: tuple[Timing, ...]
    metrics: tuple[Metric, ...] = ()  # none without data

    @property
    def kilobytes(self) -> float:
        """Of all its files."""
        return sum(self.files.values()) / 1000

    def metric(self, key: str) -> float:
        """In per cent; NaN where it was not measured."""
        return next((metric.value for metric in self.metrics if metric.key == key), math.nan)


@dataclass(frozen=True)
class Comparison:
    """Detectors beside each other."""

    rows: tuple[Measured, ...]
    picture: str  # that was timed, such as "the portrait, 640x480"
    rounds: int
    data: str  # what AP was measured on; "" for nothing
    measured_at: str
    machine: str
    versions: dict[str, str]

    def text(self) -> str:
        """A table for people, with the protocols below it."""
        keys = self.metric_keys()
        heads = ["detector", *(AP_SHORT.get(key, key) for key in keys), *_SIZES, *_TIMES]
        lines = [heads, *(line for row in self.rows for line in _lines(row, keys))]
        widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
        table = "\n".join(
            "  ".join(
                cell.ljust(width) if column == 0 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        )
        said = [f"{row.name}: {row.protocol}" for row in self.rows] if keys else []
        timed = (
            f"Latency: {self.picture}, pixels to faces, {self.rounds} rounds in turn; cold: the process's start to the "
            f"first faces; {self.machine}."
        )
        return "\n".join([table, "", *([f"AP, per cent: {self.data}"] if keys else []), *said, timed])

    def metric_keys(self) -> list[str]:
        """Of the figures of accuracy, in their order."""
        return list(dict.fromkeys(metric.key for row in self.rows for metric in row.metrics))

    def to_json(self) -> str:
        """Everything; what is not defined is null."""
        content = {"facekit_comparison": VERSION, **dataclasses.asdict(self)}
        return json.dumps(without_nan(content), allow_nan=False, indent=1) + "\n"

    def to_csv(self) -> str:
        """A row a detector and number of threads, with the protocol in its last column."""
        keys = self.metric_keys()
        written = io.StringIO()
        writer = csv.writer(written, lineterminator="\n")
        timing = [field.name for field in dataclasses.fields(Timing)]
        writer.writerow(
            ["name", "detector", "runtime", *keys, "parameters", "macs", "fed_width", "fed_height", "bytes", *timing,
             "protocol"]
        )  # fmt: skip
        for row in self.rows:
            figures = ["" if math.isnan(value := row.metric(key)) else round(value, 3) for key in keys]
            for timed in row.timings:
                writer.writerow(
                    [row.name, row.detector, row.runtime, *figures, row.parameters, row.macs, *row.fed_wh,
                     sum(row.files.values()), *(_rounded(value) for value in dataclasses.astuple(timed)), row.protocol]
                )  # fmt: skip
        return written.getvalue()


_SIZES = ("k params", "M MACs", "fed", "KB")
_TIMES = ("threads", "cold s", "p50 ms", "p95 ms", "pictures/s", "MiB")


def _lines(row: Measured, keys: Sequence[str]) -> list[list[str]]:
    sizes = [
        "-" if row.parameters is None else f"{row.parameters / 1e3:.1f}",
        "-" if row.macs is None else f"{row.macs / 1e6:.1f}",
        f"{row.fed_wh[0]}x{row.fed_wh[1]}",
        f"{row.kilobytes:.0f}",
    ]
    figures = ["n/a" if math.isnan(value := row.metric(key)) else f"{value:.2f}" for key in keys]
    lines = []
    for place, timed in enumerate(row.timings):
        memory = "-" if timed.peak_memory_mib is None else f"{timed.peak_memory_mib:.0f}"
        head = [row.name, *figures, *sizes] if place == 0 else [""] * (1 + len(keys) + len(sizes))
        lines.append(
            [*head, str(timed.threads), f"{timed.cold_start_s:.2f}", f"{timed.latency_p50_ms:.2f}",
             f"{timed.latency_p95_ms:.2f}", f"{timed.pictures_per_s:.1f}", memory]
        )  # fmt: skip
    return lines


def _rounded(value: float | None) -> float | str | None:
    return "" if value is None else value if isinstance(value, int) else round(value, 3)
