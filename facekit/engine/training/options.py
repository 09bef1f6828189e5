"""What a training is asked to do beside its template."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from facekit.base.options import ANN_FILES, DATA_ROOTS, TEMPLATE, command_options, option
from facekit.errors import ArgumentError

AUTO = Path("auto")  # to resume from: what stands in the folder to save to, if anything does


@command_options
class TrainOptions:
    """Options of a training; None where the template decides."""

    template: str = option(TEMPLATE, kw_only=False, template=True)
    recipe: str | None = option(
        "One of the template's recipes in its place: NAME of the recipe-NAME.yaml that lies beside it.", default=None
    )
    train_ann_files: tuple[Path, ...] = option(ANN_FILES, default=(), reads=True)
    train_data_roots: tuple[Path, ...] = option(DATA_ROOTS, default=(), reads=True)
    val_ann_files: tuple[Path, ...] = option(ANN_FILES, default=(), reads=True)
    val_data_roots: tuple[Path, ...] = option(DATA_ROOTS, default=(), reads=True)
    teacher: Path | None = option(
        "Weights of a detector to learn from: scores, boxes and landmarks, beside the labels.", default=None, reads=True
    )
    teacher_template: Path | None = option(
        "The teacher's: name, template.yaml or work dir.", default=None, template=True
    )
    distill_pictures: Path | None = option(
        "Pictures for the teacher to mark, too: a folder, or labels, which are passed over.", default=None, reads=True
    )
    teacher_weight: float = option(
        "Of the losses on what the teacher says; 0: labels alone.", default=1.0, least=0, most=1e6
    )
    teacher_landmark_weight: float | None = option(
        "Of the loss on a teacher's landmarks, beside that on its scores [10]; where it has the student's priors.",
        default=None, least=0, most=1e6,
    )  # fmt: skip
    balance_folders: float = option(
        "How alike the data set's folders come, however many pictures each has: 0 as many as they have, 1 alike.",
        default=0.0,
        least=0,
        most=1,
    )
    resume_from: Path | None = option(
        "Go on from this checkpoint, or the newest whole one of a folder; auto: of `save_checkpoints_to`, or start "
        "anew where it has none.",
        default=None,
        reads=True,
        names=("auto",),
        kept=False,
    )
    load_weights: Path | None = option(
        "Start at epoch 0 from these weights; bundled: facekit's own yunet-n.",
        default=None, reads=True, names=("bundled",),
    )  # fmt: skip
    preset: Literal["fine-tune", "scratch"] | None = option(
        "Choose what no flag gives by the data set's size, and say why.", default=None
    )
    from_scratch: bool = option("Start from random weights, not the template's ImageNet backbone.", default=False)
    save_checkpoints_to: Path = option("Folder for latest.pth, best.pth, epoch_N.pth.")
    epochs: int | None = option("The absolute last epoch [template's].", default=None, least=1, most=100_000)
    add_epochs: int | None = option(
        "Epochs to train from where the run starts or goes on, in place of `epochs`.",
        default=None, least=1, most=100_000,
    )  # fmt: skip
    batch_size: int | None = option("Pictures a process [template's].", default=None, least=1, most=4096)
    gpu_num: int | None = option("GPUs to use, 0 for the CPU [template's, if there].", default=None, least=0, most=1024)
    base_learning_rate: float | None = option(
        "[template's]. Beyond the template's last epoch: the rate itself.", default=None, over=0, most=100
    )
    tensorboard_dir: Path | None = option("Folder for TensorBoard scalars and pictures.", default=None)
    val_interval: int | None = option("Epochs between tests [1, or the preset's].", default=None, least=1, most=100_000)
    checkpoint_interval: int | None = option(
        "Iterations between checkpoints [an epoch].", default=None, least=1, most=10**9
    )
    workers: int = option("Processes that read data.", default=2, least=0, most=256)
    seed: int = option("Of weights, order and augmentation.", default=0, least=0, most=2**63 - 1)
    max_iterations: int | None = option(
        "Cut each epoch short (for trying things out).", default=None, least=1, most=10**9
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = option(
        "Of the network; auto: 16 bits where the hardware is faster with them.", default="auto"
    )
    compile: bool = option("Compile the network first, for GPUs; try what it gives.", default=False)
    cache: Literal["ram", "disk"] | None = option("Keep decoded pictures for the next epochs.", default=None)
    cache_limit: float = option(
        "GiB of `cache` a process; pictures beyond are decoded each time.", default=4.0, over=0, most=1e6
    )

    def __post_init__(self) -> None:
        """Raises ArgumentError for options that don't go together."""
        source = self.resume_from or self.load_weights
        is_auto = self.resume_from is not None and str(self.resume_from) == str(AUTO)
        if self.resume_from and self.load_weights and not is_auto:
            raise ArgumentError("Give `resume_from` (go on) or `load_weights` (start at epoch 0 from there), not both.")
        if self.from_scratch and source and not is_auto:
            raise ArgumentError(
                f"`from_scratch` starts from random weights: give it without {source}, or leave it out."
            )
        if self.add_epochs is not None and self.epochs is not None:
            raise ArgumentError("Give `epochs` (the absolute last one) or `add_epochs` (so many more), not both.")
        if self.add_epochs is not None and (is_auto or (self.preset and self.resume_from)):
            what = "`resume_from=auto`" if is_auto else "`preset` in a run that goes on"
            raise ArgumentError(f"`add_epochs` would add some at every start with {what}: give `epochs`.")
        if (self.teacher is None) != (self.teacher_template is None):
            raise ArgumentError("Give `teacher` (its weights) and `teacher_template` (its template) together.")
        if self.distill_pictures is not None and self.teacher is None:
            raise ArgumentError("`distill_pictures` needs a `teacher` (with `teacher_template`) to mark their faces.")
        if self.preset == "fine-tune" and source is None:
            raise ArgumentError(
                "`preset=fine-tune` needs weights: give `load_weights`, such as a work dir's snapshot.pth."
            )
        if self.preset == "scratch" and self.load_weights:
            raise ArgumentError("`preset=scratch` starts without weights: leave `load_weights` out, or give fine-tune.")
