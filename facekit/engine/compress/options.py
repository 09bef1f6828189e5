"""What a compression is asked to do beside its template."""

from __future__ import annotations

from pathlib import Path

from facekit.base.options import ANN_FILES, DATA_ROOTS, TEMPLATE_OR_NAMED, command_options, option
from facekit.errors import ArgumentError


@command_options
class CompressOptions:
    """Options of a compression; None where the template decides."""

    template: str | None = option(TEMPLATE_OR_NAMED, default=None, kw_only=False, template=True)
    load_weights: Path | None = option(
        "Float weights [a work dir's best or newest].", default=None, reads=True, names=("bundled",)
    )
    train_ann_files: tuple[Path, ...] = option(ANN_FILES, reads=True)
    train_data_roots: tuple[Path, ...] = option(DATA_ROOTS, default=(), reads=True)
    val_ann_files: tuple[Path, ...] = option(ANN_FILES, default=(), reads=True)
    val_data_roots: tuple[Path, ...] = option(DATA_ROOTS, default=(), reads=True)
    save_checkpoints_to: Path = option("Folder for compressed.pth, model.xml, model.bin.")
    quantization: bool = option("INT8: calibrate, then fine-tune.", default=False, flag="--nncf-quantization")
    sparsity: bool = option("Prune to the template's ratio, then fine-tune.", default=False, flag="--nncf-sparsity")
    batch_size: int | None = option("Pictures a step [template's].", default=None, least=1)
    passes: int | None = option("Fine-tuning passes over the training set [template's].", default=None, least=0)
    workers: int = option("Processes that read data.", default=2, least=0)
    seed: int = option("Of order and augmentation.", default=0)
    max_iterations: int | None = option("Cut each pass short (for trying things out).", default=None, least=1)

    def __post_init__(self) -> None:
        if not (self.quantization or self.sparsity):
            raise ArgumentError("Nothing to do: give `quantization`, `sparsity`, or both.")
