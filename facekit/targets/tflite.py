"""TensorFlow Lite, today LiteRT: .tflite of one size, for Android and small boards; run by ai-edge-litert."""

from __future__ import annotations

import dataclasses
import json
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from facekit import __version__
from facekit.base.files import replacing
from facekit.base.reading import HEAD_BYTES, open_file, stand_in
from facekit.errors import FacekitError
from facekit.machine.cores import usable_cores
from facekit.machine.native_output import native_output_hidden
from facekit.structures import Activated, Decoded
from facekit.targets import Backend
from facekit.targets.reading.about import parse_about, template_for
from facekit.targets.reading.outputs import GraphInput, GraphOutputs, check_size
from facekit.targets.writing.converters import run_converter
from facekit.template import Template

if TYPE_CHECKING:
    from facekit.targets.writing.draft import Draft

MAX_BYTES = 1 << 30
MAX_ABOUT_BYTES = 100_000
MAGIC = b"TFL3"  # at byte 4 of the flatbuffer
ABOUT = "facekit.json"  # in the zip archive that TFLite files may have behind their end
# litert-torch itself asks for older packages than facekit's; with these it works beside them.
OVERLAY = "litert-torch-0.10.0"
PACKAGES = (
    "litert-torch==0.10.0", "litert-converter==0.5.0", "ai-edge-litert==2.3.0", "ai-edge-quantizer==0.10.0",
    "jax==0.10.2", "jaxlib==0.10.2", "opt_einsum==3.4.0", "torchao==0.18.0", "immutabledict==4.2.1",
    "backports_strenum==1.2.8",
)  # fmt: skip


class TfliteBackend(Backend):
    """A .tflite on the CPU, (1, 3, height, width) or (1, height, width, 3)."""

    fixed_batch: int | None = 1

    def __init__(self, weights: Path, template: Template | None, threads: int | None) -> None:
        said = _look(weights)
        with native_output_hidden():  # it tells of its delegates
            from ai_edge_litert.interpreter import Interpreter

            try:
                self.network: Any = Interpreter(model_path=str(weights), num_threads=threads or usable_cores())
                self.network.allocate_tensors()
            except Exception as error:  # ValueError, RuntimeError, and what else the binding has
                reason = " ".join(str(error).split())[:200]
                raise FacekitError(
                    f"{weights}: not a network that LiteRT can run, cut off or damaged: {reason}. Bring it again."
                ) from error
        about = None if template is not None else parse_about(said, weights)
        self.template = template_for(template, about, weights)
        inputs = self.network.get_input_details()
        shapes = [[int(side) for side in value["shape"]] for value in inputs]
        self.is_nhwc = len(shapes) == 1 and len(shapes[0]) == 4 and shapes[0][1] != 3 == shapes[0][3]
        as_nchw = [[shape[0], shape[3], shape[1], shape[2]] for shape in shapes] if self.is_nhwc else shapes
        takes = GraphInput(as_nchw, [np.dtype(value["dtype"]).name for value in inputs], str(weights))
        self.fixed_size_hw = takes.fixed_size_hw
        self.input = inputs[0]["index"]
        self.places = _places(self.network)
        self.outputs = GraphOutputs(self.template, str(weights))
        check_size(self.fixed_size_hw, self.template, str(weights))
        size_hw = self.outputs.example_size(self.fixed_size_hw)
        self.outputs.recognise(self._run(np.zeros((1, 3, *size_hw), dtype=np.float32)), size_hw)

    def fed(self, images_bgr: NDArray[np.uint8]) -> NDArray[np.float32]:
        """What the network takes."""
        return self._laid_out(self.outputs.feed(images_bgr))

    def _laid_out(self, blob: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.ascontiguousarray(blob.transpose(0, 2, 3, 1)) if self.is_nhwc else blob

    def _run(self, blob: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        try:
            self.network.set_tensor(self.input, self._laid_out(blob))
            self.network.invoke()
        except (ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise FacekitError(f"{self.outputs.source}: can't run a picture: {reason}") from error
        return {name: self.network.get_tensor(place) for name, place in self.places.items()}  # copies

    def __call__(self, images_bgr: NDArray[np.uint8]) -> Activated | Decoded:
        return self.outputs(self._run(self.outputs.feed(images_bgr)), images_bgr.shape[1:3])


def _places(network: Any) -> dict[str, int]:
    """Output's name -> its tensor: the names of the signature, or else those of the tensors."""
    signatures = network._get_full_signature_list()
    if len(signatures) == 1:
        return dict(next(iter(signatures.values()))["outputs"])
    return {str(value["name"]): int(value["index"]) for value in network.get_output_details()}


def _look(weights: Path) -> str | None:
    """What the file says of itself. Raises FacekitError for one that is no .tflite."""
    with open_file(weights, MAX_BYTES, "Check the path.") as file:
        head = file.read(HEAD_BYTES)
        if (what := stand_in(head)) is not None:
            raise FacekitError(f"{weights}: is {what}.")
        if head[4:8] != MAGIC:
            raise FacekitError(f"{weights}: not a .tflite, cut off or damaged. Bring it again.")
        if not zipfile.is_zipfile(file):
            return None
        try:
            with zipfile.ZipFile(file) as archive:
                if ABOUT not in archive.namelist():
                    return None
                if archive.getinfo(ABOUT).file_size > MAX_ABOUT_BYTES:
                    raise FacekitError(f"{weights}: says more of itself than {MAX_ABOUT_BYTES} bytes. Export it again.")
                return archive.read(ABOUT).decode("utf-8", "replace")
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError) as error:
            raise FacekitError(f"{weights}: what it says of itself is damaged. Bring it again.") from error


def open_weights(weights: Path, template: Template | None, device: str | None, threads: int | None) -> TfliteBackend:
    """Raises FacekitError for a file that is no network, or none of the template's."""
    return TfliteBackend(weights, template, threads)


def write(draft: Draft, path: Path) -> None:
    """Writes path, whose input is (1, 3, height, width), and beside it the same network for (1, height, width, 3), as
    Android's cameras have it: model.tflite, model.nhwc.tflite.

    The converter runs in an environment of its own, made on demand. Raises FacekitError where that fails.
    """
    import torch

    from facekit.targets.writing.graph import quiet_tracing

    graph = draft.graph
    with tempfile.TemporaryDirectory(prefix="facekit-") as scratch:
        folder = Path(scratch)
        with quiet_tracing(), torch.no_grad():
            torch.export.save(torch.export.export(graph, (graph.example(),)), folder / "program.pt2")
        written = {layout: folder / f"{layout}.tflite" for layout in ("nchw", "nhwc")}
        job = {
            "program": "program.pt2", "size_hw": graph.example_size_hw, "names": graph.output_names,
            "written": {layout: made.name for layout, made in written.items()},
        }  # fmt: skip
        _run_in_overlay("tflite_convert.py", job, folder, "litert-torch")
        for layout, made in written.items():
            target = path if layout == "nchw" else path.with_name(f"{path.stem}.nhwc{path.suffix}")
            about = dataclasses.replace(draft.about, layout="nhwc") if layout == "nhwc" else draft.about
            with replacing(target) as beside:
                beside.write_bytes(made.read_bytes())
                _append(beside, ABOUT, about.to_json())


def _run_in_overlay(script: str, job: dict[str, Any], folder: Path, what: str) -> None:
    """A script of writing/ with what it is to do, by the Python that has the converters."""
    from facekit.targets.writing.overlay import overlay_python

    python = overlay_python(OVERLAY, PACKAGES, "TFLite's converter (about 190 MB to download, 800 MB installed)")
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    command = [str(python), str(Path(__file__).parent / "writing" / script), "job.json"]
    run_converter(command, folder, what, {"PYTHONPATH": ""})


def _append(path: Path, name: str, text: str) -> None:
    """Behind the flatbuffer, where TFLite's readers expect files that belong to it."""
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, text)


def rounded(weights: Path, fed: Sequence[NDArray[np.uint8]], in_float: Sequence[str]) -> bytes:
    """A file with convolutions in INT8, but for those that make the tensors of these names, by the ranges of what they
    see in `fed`: pictures as the network takes them. Raises FacekitError where that fails."""
    with tempfile.TemporaryDirectory(prefix="facekit-") as scratch:
        folder = Path(scratch)
        pictures = np.lib.format.open_memmap(folder / "fed.npy", "w+", np.uint8, (len(fed), *fed[0].shape))
        for place, picture in enumerate(fed):
            pictures[place] = picture
        pictures.flush()
        job = {"float": str(weights.absolute()), "fed": "fed.npy", "in_float": list(in_float), "written": "int8.tflite"}
        _run_in_overlay("tflite_round.py", job, folder, "ai-edge-quantizer")
        return (folder / "int8.tflite").read_bytes()


def save_rounded(content: bytes, weights: Path, path: Path) -> None:
    """Writes what rounded() made of weights, which say of themselves what these do."""
    said = _look(weights)
    with replacing(path) as beside:
        beside.write_bytes(content)
        _append(beside, "facekit_version", __version__)
        if said is not None:
            _append(beside, ABOUT, said)


def plain_network(content: Path | bytes) -> Any:
    """An Interpreter whose operations are the file's own: none is left to a delegate."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    given = {"model_content": content} if isinstance(content, bytes) else {"model_path": str(content)}
    with native_output_hidden():
        network = Interpreter(**given, experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
        network.allocate_tensors()
    return network
