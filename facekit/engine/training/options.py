"""What a training is asked to do beside its template."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

AUTO = Path("auto")  # to resume from: what stands in the folder to save to, if anything does


@dataclass(frozen=True)
class TrainOptions:
    """Flags of train.py; None where the template decides."""

    save_checkpoints_to: Path
    resume_from: Path | None = None  # a checkpoint, or a folder: the newest whole one in it; AUTO
    load_weights: Path | None = None
    from_scratch: bool = False  # random weights even where the template names ImageNet weights for its backbone
    epochs: int | None = None  # the absolute last epoch
    batch_size: int | None = None
    base_learning_rate: float | None = None
    tensorboard_dir: Path | None = None
    val_interval: int | None = None  # epochs; None: 1
    checkpoint_interval: int | None = None  # iterations; None: at the end of epochs alone
    workers: int = 2
    seed: int = 0
    max_iterations: int | None = None  # an epoch's; for demonstrations and tests
    precision: str = "auto"  # auto, fp32, bf16 or fp16: see engine.precision
    compile: bool = False  # the network, for speed
    cache: Literal["ram", "disk"] | None = None  # of decoded pictures
    cache_limit: float = 4.0  # GiB, a process
    preset: str | None = None  # that the template's training was adapted by; kept in run.json
    teacher: Path | None = None  # weights of a detector that is learnt from, with its template.yaml
    teacher_template: Path | None = None
    teacher_weight: float = 1.0  # of the loss on its scores
    distill_pictures: Path | None = None  # pictures of the training set that the teacher marks: kept in run.json alone
    # Where the pictures came from, comma-separated: kept in run.json, read from nowhere else.
    train_ann_files: str | None = None
    train_data_roots: str | None = None
    val_ann_files: str | None = None
    val_data_roots: str | None = None
