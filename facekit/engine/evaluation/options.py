"""What an evaluation is asked to measure, and to write."""

from __future__ import annotations

from pathlib import Path

from facekit.base.options import (
    ADDRESS,
    ANN_FILES,
    BACKEND,
    CPUS_PER_WORKER,
    DATA_ROOTS,
    ENGINE,
    GPUS_PER_WORKER,
    LAYOUT,
    MULTI_SCALE,
    NUM_WORKERS,
    SHARD_SIZE,
    TEMPLATE_OR_NAMED,
    THREADS,
    WEIGHTS,
    Engine,
    Runtime,
    command_options,
    given_of,
    option,
)
from facekit.errors import ArgumentError


@command_options
class EvaluateOptions:
    """Options of an evaluation; None where the template decides."""

    template: str | None = option(TEMPLATE_OR_NAMED, default=None, kw_only=False, template=True)
    load_weights: Path | None = option(WEIGHTS, default=None, kw_only=False, reads=True, names=("bundled",))
    test_ann_files: tuple[Path, ...] = option(ANN_FILES, default=(), reads=True)
    test_data_roots: tuple[Path, ...] = option(DATA_ROOTS, default=(), reads=True)
    scale: str = option(
        "template; origin (pictures' own size); 640 or max:N (longest side); vga (fit into 640x640, padded to it); "
        "WxH (stretched).",
        default="template",
    )
    flip: bool = option("Look at each picture mirrored too, and merge by weighted box fusion.", default=False)
    multi_scale: tuple[float, ...] = option(
        MULTI_SCALE,
        default=(1.0,), metavar="[FACTORS]", bare_value="0.5,1,2",
    )  # fmt: skip
    score_threshold: float | None = option("Least score of a detection [template's].", default=None, least=0, most=1)
    nms_threshold: float | None = option("IoU over which NMS drops a box [template's].", default=None, least=0, most=1)
    max_detections: int | None = option("Boxes kept a picture [template's].", default=None, least=1)
    batch_size: int = option(
        "Pictures that go through the network together, where they have one size.", default=1, least=1, most=256
    )
    save_metrics_to: Path | None = option("metrics.yaml to write.", default=None, writes=True)
    report: Path | None = option(
        "Page to write: report.html, with curves and the worst mistakes.", default=None, writes=True
    )
    save_output_to: Path | None = option(
        "Folder for pictures with boxes and, of `wider_dir`, result files.", default=None
    )
    save_predictions: Path | None = option("Folder for WIDER result files: EVENT/NAME.txt, to hand in.", default=None)
    wider_dir: Path | None = option("Folder with WIDER_val/images and ground_truth/.", default=None, reads=True)
    wider_gt: Path | None = option("Folder with the four .mat files, if elsewhere.", default=None, reads=True)
    threads: int | None = option(THREADS, default=None, least=1, most=1024)
    backend: Runtime | None = option(BACKEND, default=None)
    layout: str | None = option(LAYOUT, default=None, metavar="NAME")
    engine: Engine = option(ENGINE, default="local")
    address: str | None = option(ADDRESS, default=None)
    num_workers: int | None = option(NUM_WORKERS, default=None, least=1, most=100_000)
    cpus_per_worker: int = option(CPUS_PER_WORKER, default=1, least=1, most=1024)
    gpus_per_worker: float = option(GPUS_PER_WORKER, default=0.0, least=0, most=64)
    shard_size: int = option(SHARD_SIZE, default=64, least=1, most=100_000)
    threshold: float = option(
        "Score of the boxes that `save_output_to` and `report` draw; figures use the template's.",
        default=0.5, least=0, most=1,
    )  # fmt: skip

    def __post_init__(self) -> None:
        """Raises ArgumentError for options that don't go together."""
        if given_of(self, ["threshold"]) and self.save_output_to is None and self.report is None:
            raise ArgumentError(
                "`threshold` is of what is drawn: add `save_output_to` or `report`. Figures take `score_threshold`."
            )
