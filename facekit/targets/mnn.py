"""MNN (Alibaba): one .mnn, converted from the ONNX graph; for phones and small boards."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from facekit.base.files import replacing
from facekit.base.reading import HEAD_BYTES, open_file, stand_in
from facekit.errors import FacekitError
from facekit.machine.cores import usable_cores
from facekit.machine.native_output import native_output_hidden
from facekit.structures import Activated, Decoded
from facekit.targets import Backend
from facekit.targets.reading.about import KEY, parse_about, template_for
from facekit.targets.reading.outputs import GraphOutputs, check_size
from facekit.targets.reading.seal import check_seal, sealed
from facekit.targets.writing.converters import run_converter
from facekit.template import Template

if TYPE_CHECKING:
    from facekit.targets.writing.draft import Draft

MAX_BYTES = 1 << 30
INPUT = "image"


class MnnBackend(Backend):
    """A .mnn on the CPU in full precision."""

    fixed_batch: int | None = 1

    def __init__(self, weights: Path, template: Template | None, threads: int | None) -> None:
        with open_file(weights, MAX_BYTES, "Check the path.") as file:
            if (what := stand_in(file.read(HEAD_BYTES))) is not None:
                raise FacekitError(f"{weights}: is {what}.")
        check_seal(weights, MAX_BYTES)
        with native_output_hidden():  # it tells of the processor whenever it is imported
            import MNN
        self.mnn, self.source = MNN, str(weights)
        found = self._load([], [], threads).get_info()  # what it holds, whatever its names are
        said = parse_about(_said(found), weights, template)
        self.template = template_for(template, said, weights)
        self.fixed_size_hw = None if said is None else said.size_hw
        names = [str(name) for name in found.get("outputNames", [])]
        if found.get("inputNames") != [INPUT] or not names:
            raise FacekitError(f"{weights}: expected one input {INPUT!r}, got {str(found.get('inputNames'))[:80]}.")
        self.network = self._load([INPUT], names, threads)
        self.outputs = GraphOutputs(self.template, str(weights))
        self.names = names
        if self.fixed_size_hw is None and not self.outputs.head.any_size:
            self.fixed_size_hw = self.template.input.size_hw
        check_size(self.fixed_size_hw, self.template, str(weights))
        size_hw = self.outputs.example_size(self.fixed_size_hw)
        self.outputs.recognise(self._run(np.zeros((1, 3, *size_hw), dtype=np.float32)), size_hw)

    def _load(self, inputs: list[str], outputs: list[str], threads: int | None) -> Any:
        """The file as a module. A .mnn is a flatbuffer, whose frame the runtime verifies before it uses it."""
        settings = {"backend": "CPU", "precision": "high", "numThread": threads or usable_cores()}
        with native_output_hidden():
            try:
                manager = self.mnn.nn.create_runtime_manager((settings,))
                loaded = self.mnn.nn.load_module_from_file(
                    self.source, inputs, outputs, runtime_manager=manager, shape_mutable=True
                )
            except Exception as error:  # the binding raises whatever comes
                raise self._refusal(error) from error
        if loaded is None:
            raise self._refusal("nothing was loaded")
        return loaded

    def _refusal(self, reason: object) -> FacekitError:
        text = " ".join(str(reason).split())[:200]
        return FacekitError(
            f"{self.source}: not a network that MNN can run, cut off or damaged: {text}. Bring it again."
        )

    def _run(self, blob: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        expr = self.mnn.expr
        image = expr.const(np.ascontiguousarray(blob), list(blob.shape), expr.NCHW)
        found = self.network.onForward([image])
        if len(found) != len(self.names):
            raise FacekitError(f"{self.source}: can't run a picture of {blob.shape[3]}x{blob.shape[2]}.")
        arrays = [np.array(value.read(), dtype=np.float32).reshape(value.shape) for value in found]
        return dict(zip(self.names, arrays, strict=True))

    def __call__(self, images_bgr: NDArray[np.uint8]) -> Activated | Decoded:
        return self.outputs(self._run(self.outputs.feed(images_bgr)), images_bgr.shape[1:3])


def _said(found: Any) -> str | None:
    """What facekit wrote into the converter's field for a business's own code."""
    text = found.get("bizCode") if isinstance(found, dict) else None
    return text.removeprefix(f"{KEY} ") if isinstance(text, str) and text.startswith(f"{KEY} ") else None


def open_weights(weights: Path, template: Template | None, device: str | None, threads: int | None) -> MnnBackend:
    """Raises FacekitError for a file that is no network, or none of the template's."""
    return MnnBackend(weights, template, threads)


# Not MNN's own mnnconvert.py, which sends statistics to its makers, and installs a package for that.
CONVERT = "import sys, MNN, _tools; _tools.mnnconvert(sys.argv)"


def write(draft: Draft, path: Path) -> None:
    """Converts the exported ONNX graph, which keeps its names and its free sides. Raises FacekitError where that
    fails."""
    assert draft.onnx is not None
    with replacing(path) as beside:  # the converter runs in its own folder
        command = [sys.executable, "-c", CONVERT, "-f", "ONNX", "--modelFile", str(draft.onnx.absolute())]
        command += [
            "--MNNModel",
            str(beside.absolute()),
            "--bizCode",
            f"{KEY} {draft.about.to_json()}",
            "--keepInputFormat",
        ]
        said = run_converter(command, path.parent, "MNN's converter")
        if not beside.is_file() or not beside.stat().st_size:
            raise FacekitError(f"MNN's converter: wrote nothing: {' '.join(said.split())[-200:]}")
        beside.write_bytes(sealed(beside.read_bytes()))
