"""The detect command: pictures and videos in, their faces out, as data, drawings and crops."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from facekit.base.options import (
    ADDRESS,
    BACKEND,
    CPUS_PER_WORKER,
    ENGINE,
    FOUND_SCORE,
    GPUS_PER_WORKER,
    LAYOUT,
    NUM_WORKERS,
    SHARD_SIZE,
    THREADS,
    Engine,
    Runtime,
    command_options,
    option,
    takes,
)
from facekit.commands.inputs import choose_model
from facekit.errors import ArgumentError
from facekit.pictures.headers import MAX_PIXELS

if TYPE_CHECKING:
    from facekit.commands.detect_shards import DetectingShards
    from facekit.commands.detecting import Detecting

MODEL = "Weights (.pth, .onnx, .xml, .bin), a work dir, or a template's name [the bundled detector]."
PRINTS = "- prints."
STORES = ("s3://", "gs://")  # that workers write to


@command_options
class DetectOptions:
    """Options of finding faces."""

    inputs: tuple[str, ...] = option(
        "Files, folders, globs, http(s) addresses, videos, cameras (0), streams; - for a picture on standard input.",
        default=(), positional=True, kw_only=False, metavar="[INPUTS]...",
    )  # fmt: skip
    from_file: Path | None = option(
        "List of pictures, a path or address a line, of any length; - for standard input.",
        default=None, reads=True, names=("-",),
    )  # fmt: skip
    model: str | None = option(MODEL, default=None)
    threshold: float = option("Only faces whose score is over it.", default=FOUND_SCORE, least=0, most=1)
    min_size: float = option("Only faces at least this wide and high, in pixels.", default=0, least=0)
    scale: float = option("Look at pictures at this multiple of their size.", default=1.0, least=0.1, most=8)
    longest_side: int | None = option(
        "Look at larger pictures scaled down to this longest side, in pixels.", default=None, least=32, most=1 << 15
    )
    every: int = option(
        "Of videos: look at each so manieth frame, and carry boxes between.", default=1, least=1, most=1000
    )
    start: tuple[str, ...] = option(
        "Of videos: from this time on, as 90 or 1:30; repeat it, and its end, for several spans.",
        default=(), flag="--from", metavar="TIME",
    )  # fmt: skip
    end: tuple[str, ...] = option("Of videos: up to this time.", default=(), flag="--to", metavar="TIME")
    track: bool = option("Of videos: number faces, the same face by the same number.", default=False)
    json: Path | None = option(f"Write one JSON object. {PRINTS}", default=None, writes=True, names=("-",))
    jsonl: Path | None = option(
        f"Write a JSON object a line and picture. {PRINTS}", default=None, writes=True, names=("-", *STORES)
    )
    csv: Path | None = option(f"Write a line a face. {PRINTS}", default=None, writes=True, names=("-",))
    coco: Path | None = option(f"Write COCO json. {PRINTS}", default=None, writes=True, names=("-",))
    parquet: Path | None = option("Write Parquet; needs pyarrow.", default=None, writes=True, text=False, names=STORES)
    yolo: Path | None = option("Write YOLO's label files into this folder.", default=None)
    wider: Path | None = option("Write WIDER FACE's result files into this folder.", default=None)
    draw: Path | None = option("Draw the faces: a folder, or a file for a single picture or video.", default=None)
    crops: Path | None = option("Cut the faces out, into this folder.", default=None)
    align: bool = option("Turn and scale crops to 112x112 by the five landmarks, as ArcFace wants them.", default=False)
    resume: bool = option("Go on where a run that was broken off had come to.", default=False)
    batch_size: int = option("Pictures that go through the network together.", default=1, least=1, most=256)
    threads: int | None = option(THREADS, default=None, least=1, most=1024)
    backend: Runtime | None = option(BACKEND, default=None)
    layout: str | None = option(LAYOUT, default=None, metavar="NAME")
    max_pixels: int = option(
        "Refuse larger pictures, by their header, and videos of larger frames (of over 67,108,864 pixels always).",
        default=MAX_PIXELS, least=1, most=1 << 30, metavar="N",
    )  # fmt: skip
    engine: Engine = option(ENGINE, default="local")
    address: str | None = option(ADDRESS, default=None)
    num_workers: int | None = option(NUM_WORKERS, default=None, least=1, most=100_000)
    cpus_per_worker: int = option(CPUS_PER_WORKER, default=1, least=1, most=1024)
    gpus_per_worker: float = option(GPUS_PER_WORKER, default=0.0, least=0, most=64)
    shard_size: int = option(SHARD_SIZE, default=64, least=1, most=100_000)

    def __post_init__(self) -> None:
        if not self.inputs and self.from_file is None:
            raise ArgumentError("Give `inputs`, or a list of them as `from_file`.")
        if self.align and self.crops is None:
            raise ArgumentError("`align` is about crops: give `crops`.")
        if isinstance(self.inputs, tuple) and self.inputs.count("-") + (str(self.from_file) == "-") > 1:
            raise ArgumentError("Standard input can be one thing alone.")
        printed = [str(path) for path in (self.json, self.jsonl, self.csv, self.coco) if str(path) == "-"]
        if len(printed) > 1 or str(self.parquet) == "-":
            raise ArgumentError("One text format can be printed: give the others files.")


@takes(DetectOptions)
def detect(options: DetectOptions) -> Detecting | DetectingShards:
    """Finds faces. What is returned is an iterator of rows, one a picture in the order given, each with source,
    size_wh, faces and error. It works as it is iterated, and files are written once it came to its end: run() goes
    through all. Once: whoever goes through it again gets no row, so take list(...) of what is needed twice.

    Raises FacekitError, before anything is read, where there is nothing to look at or an output can't be written.
    """
    chosen = choose_model(options.model, options.threads, options.backend, options.layout)
    from facekit.commands.detect_shards import DetectingShards, is_sharded

    if is_sharded(options):
        return DetectingShards(options, chosen)
    from facekit.cluster.pool import workers_of
    from facekit.commands.detecting import plan_detect

    workers_of(options)
    return plan_detect(options, chosen)
