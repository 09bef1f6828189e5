"""The plot command: the journals of trainings in, a picture of their course out."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from facekit.base.options import command_options, option, takes


@command_options
class PlotOptions:
    """Options of a plot."""

    runs: tuple[Path, ...] = option(
        "Folders of checkpoints, or their log.jsonl.", positional=True, kw_only=False, reads=True
    )
    output: Path = option("The .svg, .png or .pdf to write.", writes=True, text=False)
    over: Literal["iterations", "epochs"] = option(
        "What is drawn across; epochs: since the start of each run.", default="iterations"
    )


@takes(PlotOptions)
def plot(options: PlotOptions) -> Path:
    """Draws the course of trainings into one file, which is returned. Raises FacekitError where one holds nothing."""
    from facekit.pages.curves import plot_runs
    from facekit.results.existing import check_replaceable_report

    check_replaceable_report("plot", options.output)
    plot_runs(options.runs, options.output, options.over)
    return options.output
