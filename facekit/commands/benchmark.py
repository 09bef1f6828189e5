"""The benchmark command: one detector in, its size, its cold start, its speed and its memory out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from facekit.base.options import LAYOUT, Runtime, command_options, option, takes
from facekit.commands.compare import SIZE, parse_size
from facekit.errors import ArgumentError

if TYPE_CHECKING:
    from facekit.commands.compare import Compared


@command_options
class BenchmarkOptions:
    """Options of a benchmark."""

    weights: Path = option(
        ".pth, .onnx, .xml or .bin; bundled.", positional=True, kw_only=False, reads=True, names=("bundled",)
    )
    template: str | None = option(
        "Template name, template.yaml or work dir [the one that the weights name].", default=None, template=True
    )
    layout: str | None = option(LAYOUT, default=None, metavar="NAME")
    backend: Runtime | None = option("Runtime [the file's own].", default=None)
    size: str = option("Of the picture that is timed.", default=SIZE, metavar="WxH")
    threads: tuple[int, ...] = option("Numbers of threads to time with.", default=(1,), least=1, most=1024)
    picture: Path | None = option("To time, stretched to `size` [the portrait].", default=None, reads=True)
    rounds: int = option("Turns, three pictures each.", default=30, least=1, most=10_000)
    scale: str = option("As `eval --scale`, for detectors of any size.", default="template")
    json: Path | None = option("File for programs to write.", default=None, writes=True)

    def __post_init__(self) -> None:
        if not self.threads:
            raise ArgumentError("`threads`: expected a number, such as 1 or 1,2.")


@takes(BenchmarkOptions)
def benchmark(options: BenchmarkOptions) -> Compared:
    """Measures one detector in a process of its own. Raises FacekitError for weights that can't be run."""
    size_wh = parse_size(options.size)

    from facekit.base.files import check_outputs, check_writable_folder, write_text
    from facekit.commands.compare import Compared
    from facekit.engine.comparison.compare import Plan, compare_detectors
    from facekit.engine.comparison.contender import Named, parse_named
    from facekit.results.existing import check_replaceable_report
    from facekit.targets.writing.check_pictures import portrait

    if options.json is not None:
        check_writable_folder(options.json.parent)
        check_replaceable_report("comparison", options.json)
    (own,) = parse_named(str(options.weights))
    check_outputs([own.weights], [options.json])
    named = Named(own.name, own.weights, options.template, options.layout, options.backend or own.backend)
    plan = Plan(options.threads, options.rounds, options.picture or portrait(), size_wh, options.scale, None)
    comparison, losses = compare_detectors([named], plan)
    if options.json is not None:
        write_text(options.json, comparison.to_json())
    return Compared(comparison, losses)
