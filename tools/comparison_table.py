"""Writes what `facekit compare --json` found into docs/comparison.md: python tools/comparison_table.py compared.json

The page says where: between `<!-- comparison -->` and `<!-- end of comparison -->`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import click

from facekit.base.files import write_text
from facekit.cli import run_command
from facekit.errors import FacekitError

PAGE = Path(__file__).resolve().parent.parent / "docs" / "comparison.md"
BLOCK = re.compile(r"(<!-- comparison -->\n).*?(<!-- end of comparison -->\n)", re.DOTALL)
SUBSETS = ("widerface_e", "widerface_m", "widerface_h")


def figure(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def table(found: dict[str, Any]) -> str:
    """Rows of figures, then what they were measured by."""
    lines = [
        "| detector | runtime | easy / medium / hard | thousand parameters | million MACs | KB | cold start s | p50 ms "
        "| p95 ms | MiB |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in found["rows"]:
        values = {metric["key"]: metric["value"] for metric in row["metrics"]}
        ap = " / ".join(figure(values.get(key), 2) for key in SUBSETS)
        timed = row["timings"][0]
        cells = [
            row["name"].split(" @")[0], row["runtime"], ap,
            figure(None if row["parameters"] is None else row["parameters"] / 1e3, 1),
            figure(None if row["macs"] is None else row["macs"] / 1e6, 0),
            figure(sum(row["files"].values()) / 1e3, 0), figure(timed["cold_start_s"], 2),
            figure(timed["latency_p50_ms"], 1), figure(timed["latency_p95_ms"], 1), figure(timed["peak_memory_mib"], 0),
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    protocols = [f"- {row['name']}: {row['protocol']}" for row in found["rows"]]
    threads = found["rows"][0]["timings"][0]["threads"]
    told = (
        f"AP in per cent, {found['data']}, by these protocols:\n\n" + "\n".join(protocols) + "\n\n"
        f"Latency: {found['picture']}, pixels to faces, {threads} thread(s), {found['rounds']} times each, in turns; "
        f"{found['machine']}; {found['measured_at']}.\n"
    )
    return "\n" + "\n".join(lines) + "\n\n" + told + "\n"


@click.command()
@click.argument("compared", type=click.Path(path_type=Path, exists=True))
def main(compared: Path) -> None:
    """Fill the page with COMPARED."""
    text = PAGE.read_text(encoding="utf-8")
    if not BLOCK.search(text):
        raise FacekitError(f"{PAGE}: has no place for it: <!-- comparison --> ... <!-- end of comparison -->.")
    content = table(json.loads(compared.read_text(encoding="utf-8")))
    write_text(PAGE, BLOCK.sub(lambda found: found[1] + content + found[2], text))


if __name__ == "__main__":
    run_command(main)
