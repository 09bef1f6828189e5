"""The export command: weights in, files for other runtimes out, each compared with PyTorch before it is kept."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from facekit.base.files import check_outputs
from facekit.base.options import TEMPLATE_OR_NAMED, check_folder_name, command_options, option, takes
from facekit.base.progress import working
from facekit.commands.inputs import find_detector
from facekit.errors import ArgumentError

if TYPE_CHECKING:
    from facekit.targets.writing.export import Exported
    from facekit.template import Template


@command_options
class ExportOptions:
    """Options of an export."""

    template: str | None = option(TEMPLATE_OR_NAMED, default=None, kw_only=False, template=True)
    load_weights: Path | None = option(
        "Weights to export [a work dir's best or newest].", default=None, kw_only=False, reads=True, names=("bundled",)
    )
    save_model_to: Path = option("Folder for the files.")
    formats: tuple[str, ...] = option(
        "Formats with commas between them, or all; --list shows them [onnx,openvino].", default=(), metavar="NAMES"
    )
    input_size: str | None = option(
        "Make all files for pictures of this size alone, such as 640x480 [any, where format and detector take any].",
        default=None, metavar="WxH",
    )  # fmt: skip
    check_pictures: tuple[Path, ...] = option(
        "Own pictures to compare on, beside the portrait, the drawn faces and the noise.", default=(), reads=True
    )
    dynamic: bool = option("Insist on ONNX and OpenVINO files that take any height, width and batch.", default=False)
    nms: bool = option("ONNX: suppress in the graph; it gives boxes, scores, landmarks of the faces.", default=False)
    half: bool = option("ONNX: compute in float16; OpenVINO: float16 weights.", default=False)
    opset: int | None = option("ONNX: the opset [18].", default=None, least=18, most=23)
    uint8_input: bool = option("OpenVINO: take (batch, height, width, 3) uint8 as cv2.imread gives.", default=False)
    onnx: bool = option("Of the formats by default: model.onnx.", default=True)
    openvino: bool = option("Of the formats by default: model.xml with model.bin.", default=True)

    def __post_init__(self) -> None:
        if not (self.onnx or self.openvino):
            raise ArgumentError("Nothing to export: leave `onnx` or `openvino` on.")
        if self.formats and not (self.onnx and self.openvino):
            raise ArgumentError("`formats` says all that is written: leave the flags of single formats out.")
        self.size_hw()
        self._check_graph_options()

    def _check_graph_options(self) -> None:
        """Raises ArgumentError for what no format asked for has, and for what doesn't go together."""
        names = self.names()
        for flag, formats in (
            ("nms", ("onnx",)), ("opset", ("onnx",)), ("uint8_input", ("openvino",)), ("half", ("onnx", "openvino")),
            ("dynamic", ("onnx", "openvino")),
        ):  # fmt: skip
            if getattr(self, flag) and not {"all", *formats} & set(names):
                raise ArgumentError(f"`{flag}` is about {' and '.join(formats)}, which `formats` doesn't name.")
        if self.dynamic and self.input_size is not None:
            raise ArgumentError("`dynamic` is any size, `input_size` is one: leave one of them out.")
        if self.dynamic and self.nms:
            raise ArgumentError(
                "`nms` takes one picture at a time; height and width are free where the detector's are: leave "
                "`dynamic` out."
            )

    def names(self) -> tuple[str, ...]:
        """Of the formats."""
        if not self.formats:
            return ("onnx",) * self.onnx + ("openvino",) * self.openvino
        texts = (self.formats,) if isinstance(self.formats, str) else self.formats
        return tuple(dict.fromkeys(name.strip() for text in texts for name in text.split(",")))

    def size_hw(self) -> tuple[int, int] | None:
        """Of `input_size`. Raises ArgumentError for what is none."""
        if self.input_size is None:
            return None
        match = re.fullmatch(r"([0-9]{1,5})[xX]([0-9]{1,5})", str(self.input_size))
        width, height = (int(match[1]), int(match[2])) if match else (0, 0)
        if not (16 <= width <= 8192 and 16 <= height <= 8192):
            raise ArgumentError(
                f"`input_size`: expected WIDTHxHEIGHT of 16 to 8192 pixels each, got {str(self.input_size)[:80]!r}."
            )
        return height, width


@takes(ExportOptions)
def export(options: ExportOptions) -> Exported:
    """Exports to ONNX, OpenVINO and other formats; returns what was written, with the largest differences from PyTorch,
    and what of `all` had to be left out.

    Raises FacekitError for weights that don't fit, a folder that can't be written, a format that is none, or a file
    that differs.
    """
    template, weights = find_detector(options.load_weights, options.template)

    from facekit.targets.table import TARGETS, find_format

    names = options.names()
    targets = TARGETS.values() if "all" in names else map(find_format, names)
    folder = options.save_model_to
    check_folder_name("save_model_to", folder)
    check_outputs([weights], [path for target in targets for path in target.paths(folder, template.name)])

    _check_dynamic(options, template)
    with working("loading PyTorch"):
        from facekit.targets.writing.draft import GraphOptions
        from facekit.targets.writing.export import ExportSettings, export_weights

    asked = GraphOptions(options.nms, options.half, options.opset, options.uint8_input)
    settings = ExportSettings(names, options.size_hw(), options.check_pictures, asked)
    return export_weights(weights, template, options.save_model_to, settings)


def _check_dynamic(options: ExportOptions, template: Template) -> None:
    head = template.model.head
    if options.dynamic and (head is None or head.export_layout != "per_level"):
        height, width = template.input.size_hw
        raise ArgumentError(
            f"`dynamic`: {template.name} takes {width}x{height} pictures alone, for which its priors are made; its "
            f"batch is free. Choose a detector of any size, such as yunet-n."
        )


@dataclass(frozen=True)
class Format:
    """One that a detector can be exported to."""

    name: str
    files: tuple[str, ...]
    any_size: bool  # whether one file takes pictures of any size, where the template does
    runs: bool  # whether it can be run, and so compared, on this machine
    missing: tuple[str, ...]  # packages that are not installed
    install: str  # the command that brings them; empty where nothing is missing


def export_formats() -> list[Format]:
    """All formats that export knows, and what is missing here for each."""
    from facekit.base.extras import install_line
    from facekit.targets.table import FORMATS, TARGETS, missing_packages

    rows = []
    for target in map(TARGETS.__getitem__, FORMATS):
        missing = missing_packages(target)
        files = tuple(file.format(name="NAME") for file in target.files)
        rows.append(
            Format(target.name, files, target.any_size, target.runs_here, tuple(missing), install_line(missing))
        )
    return rows
