"""The report command: reports that evaluations wrote in, one page beside each other out."""

from __future__ import annotations

from pathlib import Path

from facekit.base.options import command_options, option, takes


@command_options
class ReportOptions:
    """Options of a comparison."""

    reports: tuple[Path, ...] = option(
        "Pages that `facekit eval --report` wrote.", positional=True, kw_only=False, reads=True
    )
    output: Path = option("The page to write.", writes=True)


@takes(ReportOptions)
def report(options: ReportOptions) -> Path:
    """Lays the reports beside each other on one page, which is returned. Raises FacekitError for other pages."""
    from facekit.base.files import write_text
    from facekit.pages.comparison import comparison_page, run_names
    from facekit.pages.evaluation import read_record
    from facekit.results.existing import check_replaceable_report

    check_replaceable_report("page", options.output)
    records = [read_record(path) for path in options.reports]
    names = run_names(records, [path.stem for path in options.reports])
    write_text(options.output, comparison_page(records, names))
    return options.output
