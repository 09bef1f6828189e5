"""The compare command: detectors beside each other, each in a process of its own; a table, CSV, JSON, a page out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from facekit.base.options import command_options, option, takes
from facekit.errors import ArgumentError, FacekitError, Loss

if TYPE_CHECKING:
    from facekit.engine.comparison.compare import DataSet
    from facekit.engine.comparison.contender import Named
    from facekit.records.speed import Comparison

SIZE = "640x480"  # width and height of the picture that is timed


@command_options
class CompareOptions:
    """Options of a comparison."""

    models: tuple[str, ...] = option(
        "What to compare, each as [TEMPLATE=]FILE[@RUNTIME]; TEMPLATE may be a layout's name, FILE `bundled`.",
        positional=True, kw_only=False,
    )  # fmt: skip
    data: Path | None = option(
        "A folder with WIDER_val/images, or labels of any format; without it only size and speed are measured.",
        default=None, reads=True,
    )  # fmt: skip
    data_root: Path | None = option("Folder above the labels' pictures.", default=None, reads=True)
    wider_gt: Path | None = option("Folder with WIDER's four .mat files, if elsewhere.", default=None, reads=True)
    scale: str = option("As `eval --scale`, for detectors of any size.", default="template")
    threads: tuple[int, ...] = option("Numbers of threads to time with.", default=(1,), least=1, most=1024)
    runtimes: tuple[str, ...] = option(
        "Run each file that names none in each of these that reads it [the file's own].", default=(), metavar="NAMES"
    )
    size: str = option("Of the picture that is timed.", default=SIZE, metavar="WxH")
    picture: Path | None = option("To time, stretched to `size` [the portrait].", default=None, reads=True)
    rounds: int = option("Turns of each detector, three pictures a turn.", default=20, least=1, most=10_000)
    csv: Path | None = option("Table to write.", default=None, writes=True)
    json: Path | None = option("File for programs to write.", default=None, writes=True)
    report: Path | None = option("Page to write: report.html, with AP over latency.", default=None, writes=True)

    def __post_init__(self) -> None:
        if not self.models:
            raise ArgumentError("Nothing to compare: give files.")
        if not self.threads:
            raise ArgumentError("`threads`: expected a number, such as 1 or 1,2.")


@dataclass(frozen=True)
class Compared:
    """What came out."""

    comparison: Comparison
    losses: list[Loss]  # detectors that can't be measured, pictures that can't be read

    def text(self) -> str:
        return self.comparison.text()


@takes(CompareOptions)
def compare(options: CompareOptions) -> Compared:
    """Measures detectors in turns, each in a process of its own, and writes what is asked for.

    Raises FacekitError where there is nothing to compare, or nothing to measure it on.
    """
    size_wh = parse_size(options.size)
    runtimes = tuple(name.strip() for text in options.runtimes for name in text.split(",") if name.strip())

    from facekit.base.files import check_outputs, check_writable_folder, write_text
    from facekit.engine.comparison.compare import Plan, compare_detectors
    from facekit.engine.comparison.contender import distinct, parse_named
    from facekit.results.existing import check_replaceable_report
    from facekit.targets.writing.check_pictures import portrait

    outputs = [path for path in (options.csv, options.json, options.report) if path is not None]
    for path in outputs:
        check_writable_folder(path.parent)
    check_replaceable_report("page", options.report)
    check_replaceable_report("comparison", options.json)
    check_replaceable_report("table", options.csv)
    found: list[Named] = []
    losses: list[Loss] = []
    for word in options.models:
        try:
            found += parse_named(word, runtimes)
        except FacekitError as error:
            losses.append(Loss.of(word, error))
    if not found:
        raise FacekitError(f"{losses[0]} Nothing is left to compare.")
    named = distinct(found)
    check_outputs([each.weights for each in named], outputs)
    plan = Plan(
        options.threads, options.rounds, options.picture or portrait(), size_wh, options.scale, _read_data(options)
    )
    comparison, unmeasured = compare_detectors(named, plan)
    if options.csv is not None:
        write_text(options.csv, comparison.to_csv())
    if options.json is not None:
        write_text(options.json, comparison.to_json())
    if options.report is not None:
        from facekit.pages.speed import speed_page

        write_text(options.report, speed_page(comparison))
    return Compared(comparison, [*losses, *unmeasured])


def parse_size(text: str) -> tuple[int, int]:
    """Width and height. Raises ArgumentError for what is none."""
    match = re.fullmatch(r"([0-9]{1,5})[xX]([0-9]{1,5})", text)
    width, height = (int(match[1]), int(match[2])) if match else (0, 0)
    if not (16 <= width <= 8192 and 16 <= height <= 8192):
        raise ArgumentError(f"`size`: expected WIDTHxHEIGHT of 16 to 8192 pixels each, got {text[:80]!r}.")
    return width, height


def _read_data(options: CompareOptions) -> DataSet | None:
    """The labelled pictures, before anything runs. Raises FacekitError for what can't be read."""
    if options.data is None:
        return None
    from facekit.engine.comparison.compare import DataSet
    from facekit.engine.evaluation.evaluate import wider_pictures
    from facekit.metrics.wider import find_wider_ground_truth, read_wider_ground_truth

    if (options.data / "WIDER_val" / "images").is_dir():
        truth = read_wider_ground_truth(find_wider_ground_truth(options.wider_gt or options.data))
        pictures = wider_pictures(options.data, truth)
        return DataSet(pictures, truth)
    from facekit.commands.inputs import read_label_files

    roots = (options.data_root,) if options.data_root is not None else ()
    pictures = read_label_files((options.data,), roots, "data")
    return DataSet(pictures, None, (options.data,))
