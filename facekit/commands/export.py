"""The export command: weights in, files for other runtimes out, each compared with PyTorch before it is kept."""

from __future__ import annotations

from pathlib import Path

from facekit.commands.inputs import find_detector
from facekit.errors import ArgumentError
from facekit.files import check_outputs
from facekit.options import TEMPLATE_OR_NAMED, command_options, option, takes


@command_options
class ExportOptions:
    """Options of an export."""

    template: str | None = option(TEMPLATE_OR_NAMED, default=None, kw_only=False, template=True)
    load_weights: Path | None = option(
        "Weights to export [a work dir's best or newest].", default=None, kw_only=False, reads=True, names=("bundled",)
    )
    save_model_to: Path = option("Folder for model.onnx, model.xml, model.bin.")
    onnx: bool = option("model.onnx.", default=True)
    openvino: bool = option("model.xml with model.bin.", default=True)

    def __post_init__(self) -> None:
        if not (self.onnx or self.openvino):
            raise ArgumentError("Nothing to export: leave `onnx` or `openvino` on.")


@takes(ExportOptions)
def export(options: ExportOptions) -> list[Path]:
    """Exports to ONNX and OpenVINO; returns the files written.

    Raises FacekitError for weights that don't fit, a folder that can't be written, or a graph that differs.
    """
    template, weights = find_detector(options.load_weights, options.template)

    from facekit.targets.export import export_weights

    check_outputs([weights], [options.save_model_to / name for name in ("model.onnx", "model.xml", "model.bin")])
    return export_weights(weights, template, options.save_model_to, options.onnx, options.openvino)
